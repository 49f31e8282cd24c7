"""Handlers of signals, as the system has them."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# More bytes than a `struct sigaction` of any system has: 152 on Linux.
_LARGEST = 1024


def unblock(numbers: Iterable[int]) -> None:
    """Let signals reach this thread. A system without masks, as Windows, blocks none."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


@contextmanager
def sigterm_kept() -> Iterator[None]:
    """Give SIGTERM the handler again that it has now, at the end of the block, in any thread.

    Ray sets one of its own below Python's, which ends the program and calls no handler of Python's. Python's
    `signal.signal` works in the main thread only. Without `sigaction`, which Windows lacks, Ray's handler stays.
    """
    try:
        sigaction = ctypes.CDLL(None).sigaction
    except (TypeError, OSError, AttributeError):
        yield
        return
    handler = ctypes.create_string_buffer(_LARGEST)
    sigaction(int(signal.SIGTERM), None, handler)
    try:
        yield
    finally:
        sigaction(int(signal.SIGTERM), handler, None)
