"""The version that the package and its command line tell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import thread_chunks


def test_the_command_line_tells_the_version():
    command = [sys.executable, "-m", "thread_chunks", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"thread_chunks {thread_chunks.__version__}\n"


def test_the_version_is_written_once():
    text = (Path(thread_chunks.__file__).parent.parent / "setup.cfg").read_text()
    assert "version = attr: thread_chunks._version.__version__" in text
