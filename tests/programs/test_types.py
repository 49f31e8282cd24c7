"""The annotations, as type checkers see them in `typing_program`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "typing_program.py"


@pytest.mark.parametrize("command", [["mypy", "--strict"], ["pyright", "--pythonpath", sys.executable]])
def test_a_type_checker_finds_out_what_is_returned_and_what_is_wrong(command):
    done = subprocess.run(
        [sys.executable, "-m", *command, PROGRAM],
        cwd=PROGRAM.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
