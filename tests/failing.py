"""What the tests of limits and of chaos share."""

from __future__ import annotations

import time
from collections import Counter


def square(x):
    return x * x


def nap(seconds, value=None):
    time.sleep(seconds)
    return value


def note_and_nap(ledger, number, seconds):
    """Note in a file, which outlives the process, that the call was begun."""
    with open(ledger, "a") as file:
        file.write(f"{number}\n")
    time.sleep(seconds)
    return number, number * number


def wait_for(condition, timeout=60):
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def times(ledger):
    return Counter(int(line) for line in ledger.read_text().split())
