"""The version that the package and its command line report, and the versions of Ray that it runs on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import ray

import thread_chunks

ROOT = Path(thread_chunks.__file__).parent.parent


@pytest.mark.process
def test_the_command_line_tells_the_version():
    command = [sys.executable, "-m", "thread_chunks", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"thread_chunks {thread_chunks.__version__}\n"


def test_the_version_is_written_once():
    text = (ROOT / "setup.cfg").read_text()
    assert "version = attr: thread_chunks._version.__version__" in text


def test_the_readme_names_the_oldest_and_the_newest_ray_that_the_tests_have_run_on():
    readme = " ".join((ROOT / "README.md").read_text().split())
    oldest, newest = re.search(r"The tests have run on Ray (\S+), .*? to Ray (\S+)\. ", readme).groups()
    requirements = (ROOT / "setup.cfg").read_text().split("\n")  # in an sdist, its lines begin with tabs
    assert f"ray >= {oldest}" in map(str.strip, requirements)
    assert _numbers(oldest) <= _numbers(ray.__version__)
    if _numbers(newest) < _numbers(ray.__version__):
        pytest.skip(f"Ray {ray.__version__} is newer than the README says: if all other tests pass, name it there")


def _numbers(version):
    return [int(number) for number in re.findall(r"\d+", version)[:3]]
