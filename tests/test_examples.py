"""Run the examples of the README, the guide and the docstrings, and the main job."""

from __future__ import annotations

import doctest
import importlib
import io
import pkgutil
import re
import textwrap
import time
import tokenize
from pathlib import Path

import pytest

import thread_chunks
from benchmarks import stdlib_sweep
from thread_chunks import ChunkExecutor, _joblib

ROOT = Path(__file__).parent.parent
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES = [module.name for module in pkgutil.walk_packages(thread_chunks.__path__, "thread_chunks.")]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SESSIONS = [page for page in PAGES if ">>> " in page.read_text()]
FENCE = re.compile(r"^ *```.*$", re.MULTILINE)
PROGRAM = re.compile(r"^ *```python\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


class Checker(doctest.OutputChecker):
    """Leave out Ray's messages about workers that other tests have killed, which may come seconds later."""

    def check_output(self, want, got, optionflags):
        got = "".join(line for line in got.splitlines(keepends=True) if "(raylet)" not in line)
        return super().check_output(want, got, optionflags)


@pytest.fixture
def _no_executor_of_joblib(ray_up):
    """End the executor that all `Parallel` calls share, which otherwise lives as long as the program."""
    yield
    if (executor := _joblib._executor) is not None:
        executor.kill_workers()
        executor.shutdown()


@pytest.fixture
def failures(executor_on_ray, monkeypatch):
    """Returns how many examples of a session print something else than they show.

    Unless it shows a report, the session takes executors that others have used. They live on after a `with` block.
    """

    def wait_for_calls(executor, *_):
        while executor.running():
            time.sleep(0.01)

    def failures(session):
        with monkeypatch.context() as patch:
            if not any(".report()" in example.source for example in session.examples):
                patch.setattr(ChunkExecutor, "__exit__", wait_for_calls)
                patch.setattr(thread_chunks, "ChunkExecutor", executor_on_ray)
                if "ChunkExecutor" in session.globs:  # those of the module that defines it
                    patch.setitem(session.globs, "ChunkExecutor", executor_on_ray)
            return doctest.DocTestRunner(Checker(), optionflags=OPTIONS).run(session).failed

    return failures


@pytest.mark.usefixtures("_no_executor_of_joblib")
@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: page.stem)
def test_sessions_of_pages(page, failures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where checkpoints are written
    text = FENCE.sub("", page.read_text())  # a fence ends what is printed, as a blank line does
    session = doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, page.name, str(page), 0)
    assert failures(session) == 0


def test_most_pages_have_a_session():
    assert len(SESSIONS) > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_programs_of_pages_are_python(page):
    for program in PROGRAM.findall(page.read_text()):
        if not program.lstrip().startswith(">>> "):
            compile(textwrap.dedent(program), str(page), "exec")


@pytest.mark.parametrize("module", [module for module in MODULES if not module.endswith("__main__")])
def test_docstrings(module, failures):
    sessions = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module))
    assert sum(map(failures, sessions)) == 0


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
