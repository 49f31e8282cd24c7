"""Shared by the tests of checkpoints: functions that record their calls, and ways to look into files."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from thread_chunks import Checkpoint


class Noted:
    """Make functions with one identity that write a line to a ledger for each call."""

    def __init__(self, folder):
        self.ledger = folder / "ledger"
        self.ledger.touch()

    def function(self):
        ledger = str(self.ledger)

        def noted(x):
            with open(ledger, "a") as file:
                file.write(f"{x}\n")
            if x == "bad":
                raise ValueError(x)
            return [x, x]

        return noted

    def take(self):
        """Return the calls that ran since the last time."""
        lines = self.ledger.read_text().split()
        self.ledger.write_text("")
        return sorted(lines)


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def finished(path):
    return len(Checkpoint.load(path))


def change(path, statements):
    """Change a file as a stranger may: by SQL."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(statements)


def files_beside(path):
    return sorted(file.name for file in path.parent.iterdir() if file.name.startswith(path.name))


def identity(x):
    return x


class Unhashable:
    def __reduce__(self):
        raise TypeError("no")


def killed_run(python, path):
    """Leave a file as a killed driver does, with its last writes in the log beside it."""
    script = f"""
import os
from fake_cluster import FakeExecutor
executor = FakeExecutor(1)
values = executor.map(abs, range(2000), path={str(path)!r})
print(sum(1 for _ in range(2000) if next(values) is not None), flush=True)
os._exit(1)
"""
    assert python.start(script).communicate()[0] == "2000\n"
    assert Path(f"{path}-wal").exists()
