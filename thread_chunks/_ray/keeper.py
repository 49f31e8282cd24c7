"""The thread that starts Ray, and lives as long as Ray does."""

from __future__ import annotations

import inspect
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType
from typing import Any, ClassVar

import psutil
import ray

from .._system.flags import flags_in_environment
from .._system.signals import sigterm_kept
from .remains import find_logs, why_ended
from .surroundings import default_directory
from .unstable import nothing_printed

# How long to wait for a ``ray.init`` in another thread (s). It takes some seconds, and Ray gives up after 30 s.
_PATIENCE = 60.0

# How often to look whether it is over (s).
_INTERVAL = 0.01

# How often to look whether Ray's processes live while Ray starts (s). Ray itself waits for half a minute for one that
# has ended.
_LOOKS = 0.25

_VITAL = ("gcs_server", "raylet")

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
    # Its own frame would be in a circle, and keep what the callers refer to, the executor among it.
    del frames[own]
    return any(outer.f_code is _CODE_OF_INIT for frame in frames.values() for outer in _stack(frame))


def _processes_of_ray(before: set[psutil.Process]) -> Iterator[psutil.Process]:
    """Yield the processes of Ray's that this process has started since."""
    home = os.path.dirname(ray.__file__)
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            # One that has ended has no command line any more, but its name.
            if process not in before and (process.name() in _VITAL or any(home in part for part in process.cmdline())):
                yield process


def _dead_process(before: set[psutil.Process]) -> tuple[str, float] | None:
    """Return the name of a process without which Ray does not come up, and which has ended, and when it began."""
    for process in _processes_of_ray(before):
        with suppress(psutil.Error):
            if process.name() in _VITAL and process.status() == psutil.STATUS_ZOMBIE:
                return str(process.name()), process.create_time()
    return None


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


class StartFailed(OSError):
    """Ray does not come up, though ``ray.init`` still waits for it."""


class Keeper:
    """Start Ray in a thread of its own, and keep that thread until Ray is down.

    Ray asks the kernel to kill its processes when the *thread* that started them ends. The thread that makes the
    first executor may be a web server's or a pool's, and ends while others still use Ray.

    The thread is a daemon: at the interpreter's exit, Ray's own hook stops Ray while the thread still waits.

    Parameters
    ----------
    options : dict
        Keyword arguments for ``ray.init``.
    """

    _failed: ClassVar[tuple[threading.Thread, str] | None] = None  # the last start that failed while it went on

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._error: BaseException | None = None
        self._started, self._over = threading.Event(), threading.Event()
        # Not named as the package's other threads, which do not outlast the last executor: a persistent one leaves it.
        self._thread = threading.Thread(target=self._run, name="ray-of-thread_chunks", daemon=True)

    @classmethod
    def check(cls) -> None:
        """Raise `StartFailed` if the last start has failed, and is not over."""
        if cls._failed is not None and cls._failed[0].is_alive():
            raise StartFailed(cls._failed[1])

    def start(self) -> None:
        """Start Ray or connect to it.

        Raises
        ------
        StartFailed
            If Ray does not come up, though ``ray.init`` still waits for it.
        BaseException
            What ``ray.init`` raises.
        """
        before, began = set(psutil.Process().children()), time.time()
        self._thread.start()
        while not self._started.wait(_LOOKS):
            if (dead := _dead_process(before)) is not None:
                for process in _processes_of_ray(before):
                    with suppress(psutil.Error):
                        process.kill()
                self._over.set()
                # ``ray.init`` goes on for half a minute, and another one must not begin meanwhile.
                name, born = dead
                logs = find_logs(self._options.get("_temp_dir") or default_directory(), os.getpid(), began)
                text = why_ended(name, time.time() - born, logs)
                Keeper._failed = self._thread, text
                raise StartFailed(text)
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
            with sigterm_kept(), flags_in_environment(), nothing_printed():
                ray.init(**self._options)
        except BaseException as error:
            self._error = error
        self._started.set()
        self._over.wait()
