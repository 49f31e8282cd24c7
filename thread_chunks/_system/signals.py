"""Handlers of signals, as the system has them."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import CodeType, FrameType

# More bytes than a `struct sigaction` of any system has: 152 on Linux.
_LARGEST = 1024


def unblock(numbers: Iterable[int]) -> None:
    """Let signals reach this thread. A system without masks, as Windows, blocks none."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


# How often to look whether the main thread is out of the code in question (s).
_LOOKS = 0.01


def interrupt_after(codes: Iterable[CodeType]) -> None:
    """Send SIGINT to the main thread as soon as it runs none of these any more.

    What a finalizer raises is lost, a `KeyboardInterrupt` too. This lets it be raised again when the finalizer is over.
    """
    with suppress(RuntimeError):  # there can be no more threads
        threading.Thread(target=_interrupt, args=(frozenset(codes),), name="interrupt-later", daemon=True).start()


def _interrupt(codes: frozenset[CodeType]) -> None:
    main = threading.main_thread().ident
    assert main is not None
    while any(frame.f_code in codes for frame in _stack(main)):
        time.sleep(_LOOKS)
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main, signal.SIGINT)
    else:  # on Windows
        signal.raise_signal(signal.SIGINT)


def _stack(thread: int) -> Iterator[FrameType]:
    frame = sys._current_frames().get(thread)  # noqa: SLF001 (documented)
    while frame is not None:
        yield frame
        frame = frame.f_back


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
