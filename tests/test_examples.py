"""What the README and the docstrings show, and the main job."""

from __future__ import annotations

import doctest
import importlib
import io
import os
import pkgutil
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import thread_chunks
from benchmarks import stdlib_sweep

ROOT = Path(__file__).parent.parent
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES = [f"thread_chunks.{module.name}" for module in pkgutil.iter_modules(thread_chunks.__path__)]


def test_readme(ray_up):
    failed, tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=OPTIONS)
    assert failed == 0
    assert tried > 10


@pytest.mark.parametrize("module", MODULES)
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


def test_main_job_as_the_readme_starts_it():
    command = next(line for line in (ROOT / "README.md").read_text().splitlines() if "benchmarks.stdlib_sweep" in line)
    arguments = command.partition("&& python ")[2].split()
    done = subprocess.run(
        [sys.executable, *arguments, "--files", "40"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "total: 40 files" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("at once")


@pytest.mark.skipif("CI" not in os.environ, reason="a fresh environment takes a while")
def test_first_command_of_the_readme_in_a_fresh_environment(tmp_path):
    commands = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("pip install . ")]
    source = tmp_path / "checkout"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build"))
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    done = subprocess.run(
        commands[0] + " --files 20",
        shell=True,
        cwd=source,
        env={**os.environ, "PATH": f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "total: 20 files" in done.stdout
