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
import time
import tokenize
from pathlib import Path

import pytest
from scripts import descendants

import thread_chunks
from benchmarks import stdlib_sweep
from thread_chunks import Checkpoint

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


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_crash_and_resumption_as_the_readme_shows_them(tmp_path):
    readme = (ROOT / "README.md").read_text()
    script = tmp_path / "sweep.py"
    script.write_text(readme.partition("# sweep.py\n")[2].partition("```")[0])
    path = tmp_path / "sweep.checkpoint"
    run = [sys.executable, str(script)]
    marked = {**os.environ, "THREAD_CHUNKS_TEST": str(tmp_path)}
    with subprocess.Popen(run, cwd=tmp_path, env=marked, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        until(lambda: path.exists() and len(Checkpoint.load(path)) >= 20)
        first.kill()
    until(lambda: not descendants(str(tmp_path)))  # Ray finds out by itself that its driver is gone
    kept = len(Checkpoint.load(path))
    assert 20 <= kept < 100
    second = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert second.stdout == "328350\n"
    assert f"{kept}/100" in second.stderr, "the bar starts at what is there"
    status = subprocess.run(
        [sys.executable, "-m", "thread_chunks", "status", str(path)], capture_output=True, text=True, check=True
    )
    assert "__main__.simulate: 100 of 100, 100 %" in status.stdout


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
