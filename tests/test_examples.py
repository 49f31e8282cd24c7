"""What the README and the docstrings show, and the main job."""

from __future__ import annotations

import doctest
import importlib
import io
import pkgutil
import tokenize
from pathlib import Path

import pytest

import thread_chunks
from benchmarks import stdlib_sweep

ROOT = Path(__file__).parent.parent
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES = [module.name for module in pkgutil.walk_packages(thread_chunks.__path__, "thread_chunks.")]


def test_readme(ray_up):
    failed, tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=OPTIONS)
    assert failed == 0
    assert tried > 10


@pytest.mark.parametrize("module", [module for module in MODULES if not module.endswith("__main__")])
def test_docstrings(ray_up, module):
    assert doctest.testmod(importlib.import_module(module), optionflags=OPTIONS).failed == 0


def sample():
    """Return some files of the standard library, among them some that do not parse."""
    paths = stdlib_sweep.stdlib_files()
    bad = [path for path in paths if "bad_coding" in path or "badsyntax" in path]
    return paths[:60] + bad[:2]


def test_main_job_gives_the_same_totals_in_each_mode(ray_up):
    paths = sample()
    serial, executor, chunk = (stdlib_sweep.sweep(paths, how, 2) for how in ("serial", "executor", "chunk"))
    assert serial == executor == chunk
    assert stdlib_sweep.totals(serial) == stdlib_sweep.totals(executor)


def test_main_job_counts_right(tmp_path):
    file = tmp_path / "file.py"
    file.write_text("x = [1]\n")
    measures = stdlib_sweep.measure(str(file))
    expected = len(list(tokenize.tokenize(io.BytesIO(file.read_bytes()).readline)))
    # Module; Assign; Name and List; Store, Constant and Load
    assert (measures.tokens, measures.nodes, measures.depth, measures.problem) == (expected, 7, 4, "")
    file.write_text("x = = 1\n")
    assert "SyntaxError" in stdlib_sweep.measure(str(file)).problem
