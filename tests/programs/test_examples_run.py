"""The programs of the README and the guide, as readers start them."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripts import descendants

from thread_chunks import Checkpoint

ROOT = Path(__file__).parent.parent.parent


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


def test_crash_and_resumption_as_the_readme_shows_them(joined, tmp_path):
    readme = (ROOT / "README.md").read_text()
    script = tmp_path / "sweep.py"
    source = readme.partition("# sweep.py\n")[2].partition("```")[0]
    assert "time.sleep(0.1)" in source
    script.write_text(source.replace("time.sleep(0.1)", "time.sleep(0.03)"))
    path = tmp_path / "sweep.checkpoint"
    run = [sys.executable, str(script)]
    marked = {**os.environ, "THREAD_CHUNKS_TEST": str(tmp_path)}
    with subprocess.Popen(run, cwd=tmp_path, env=marked, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        until(lambda: path.exists() and len(Checkpoint.load(path)) >= 20)
        first.kill()
    until(lambda: not descendants(str(tmp_path)))  # Ray finds out by itself that its driver is gone
    kept = len(Checkpoint.load(path))
    assert 20 <= kept < 300
    said = f"__main__.simulate: {kept} of 300, {100 * kept // 300} %; not running (last value at "
    assert said in status_of(path)
    assert "): run the program again to go on\n" in status_of(path)
    environment = {**os.environ, **joined}
    second = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=300)
    assert second.stdout == "8955050\n"
    assert "__main__.simulate: 300 of 300, finished at " in status_of(path)


def status_of(path):
    look = [sys.executable, "-m", "thread_chunks", "status", str(path)]
    return subprocess.run(look, capture_output=True, text=True, check=True).stdout


def programs_of_the_guide():
    """Yield the programs that pages show as a file: name of the page, name of the file, source."""
    for page in sorted((ROOT / "docs").glob("*.md")):
        for name, source in re.findall(
            r"^```python\n# (\w+\.py)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL
        ):
            yield pytest.param(name, source, id=f"{page.stem}-{name}")


@pytest.mark.parametrize(("name", "source"), list(programs_of_the_guide()))
def test_programs_of_the_guide(name, source, tmp_path):
    if "matplotlib" in source and importlib.util.find_spec("matplotlib") is None:
        pytest.skip("matplotlib is not installed")
    (tmp_path / name).write_text(source)
    done = subprocess.run([sys.executable, name], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


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
