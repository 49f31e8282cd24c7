"""Signals in a worker, and in what its calls fork, act as in a process of `ProcessPoolExecutor`, and not as Ray's do.

Ray's handler of SIGTERM raises `SystemExit`. In a call that would be the call's error, and the worker would live on. In
a forked child it gets lost where Python ignores what is raised (a finalizer, a hook of `fork`), and whoever terminates
the child waits for ever: `multiprocessing.Pool` does.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import threading
from contextlib import suppress
from typing import Any

from .._system.signals import unblock

# Ray handles these in C, where `signal.getsignal` does not see it.
_FAULTS = [
    getattr(signal, name)
    for name in ("SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGSEGV")
    if hasattr(signal, name)  # Windows lacks two
]

# What Python itself handles, as it starts.
_PYTHONS = (signal.default_int_handler, signal.SIG_DFL, signal.SIG_IGN, None)


class _Handlers:
    """Ray's signal handlers in this worker, and what a fork does about them."""

    def __init__(self) -> None:
        numbers = {number: signal.getsignal(number) for number in signal.valid_signals()}
        self._rays: dict[int, Any] = {number: handler for number, handler in numbers.items() if handler not in _PYTHONS}
        self._mask = threading.local()  # `value`: that of a thread before it forks
        os.register_at_fork(
            before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._after_fork_in_child
        )

    def _before_fork(self) -> None:
        # So that a signal which reaches the child before its handlers are set waits until they are.
        self._mask.value = signal.pthread_sigmask(signal.SIG_BLOCK, self._rays)

    def _after_fork(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask.value)

    def _after_fork_in_child(self) -> None:
        try:
            gc.freeze()  # the collector must not end what is Ray's: that waits for locks of threads that are not here
            for number, handler in self._rays.items():
                if signal.getsignal(number) is handler:  # else the call has set one of its own
                    signal.signal(number, signal.default_int_handler if handler is _ignore else signal.SIG_DFL)
            if faulthandler.is_enabled():
                faulthandler.disable()
            for number in _FAULTS:
                if signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, signal.SIG_DFL)
        finally:
            self._after_fork()


_handlers: _Handlers | None = None


def handle_signals() -> None:
    """Set this process's signal handlers; call it before any code of the user's."""
    global _handlers
    if _handlers is None:
        # Ray blocks it, and what the calls start would inherit that, and could not be interrupted.
        unblock([signal.SIGINT])
        with suppress(ValueError):  # this is not the main thread: in a test, or where Ray runs an event loop
            # Ctrl-C is the driver's: it kills what runs if that is to end.
            if signal.getsignal(signal.SIGINT) in _PYTHONS:
                signal.signal(signal.SIGINT, _ignore)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Without these, as on Windows, no process forks.
    if _handlers is None and hasattr(os, "register_at_fork") and hasattr(signal, "pthread_sigmask"):
        _handlers = _Handlers()


def _ignore(number: int, frame: object) -> None:
    """Do nothing. Unlike with `SIG_IGN`, programs that the calls start do not ignore the signal, too."""
