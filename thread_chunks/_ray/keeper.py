"""The thread that starts Ray, and lives as long as Ray does."""

from __future__ import annotations

import inspect
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import ray

from .._system.signals import sigterm_kept

# How long to wait for a ``ray.init`` in another thread (s). It takes some seconds, and Ray gives up after 30 s.
_PATIENCE = 60.0

# How often to look whether it is over (s).
_INTERVAL = 0.01

_CODE_OF_INIT = inspect.unwrap(ray.init).__code__


def wait_for_others() -> None:
    """Wait until no other thread is inside ``ray.init``.

    Two calls of it at once both start processes, and Ray remembers those of the last one only. ``ray.shutdown`` then
    ends these, and the other call tries to connect to them for a minute, after which Ray ends the program.
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and _others_initialise():
        time.sleep(_INTERVAL)


def _others_initialise() -> bool:
    own = threading.get_ident()
    frames = sys._current_frames()  # noqa: SLF001 (documented)
    return any(
        outer.f_code is _CODE_OF_INIT for thread, frame in frames.items() if thread != own for outer in _stack(frame)
    )


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


class Keeper:
    """Starts Ray in a thread of its own, and keeps that thread until Ray is down.

    Ray asks the kernel to kill its processes when the *thread* that started them ends. The thread that makes the
    first executor may be a web server's or a pool's, and ends while others still use Ray.

    The thread is a daemon: at the interpreter's exit, Ray's own hook stops Ray while the thread still waits.

    Parameters
    ----------
    options : dict
        Keyword arguments for ``ray.init``.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._error: BaseException | None = None
        self._started, self._over = threading.Event(), threading.Event()
        # Not named as the package's other threads, which do not outlast the last executor: a persistent one leaves it.
        self._thread = threading.Thread(target=self._run, name="ray-of-thread_chunks", daemon=True)

    def start(self) -> None:
        """Start Ray or connect to it, and raise what ``ray.init`` raises."""
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # which refers to this frame

    def end(self) -> None:
        """Let the thread end, and with it what is left of Ray's processes."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with sigterm_kept():
                ray.init(**self._options)
        except BaseException as error:
            self._error = error
        self._started.set()
        self._over.wait()
