"""Give the processes that a call forks the signal handlers of a fresh Python, and not those that Ray made for itself.

Ray's handler of SIGTERM raises `SystemExit`. In a forked child that gets lost where Python ignores what is raised (a
finalizer, a hook of `fork`), and whoever terminates the child waits for ever: `multiprocessing.Pool` does.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import threading
from typing import Any

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
                    signal.signal(number, signal.SIG_DFL)
            if faulthandler.is_enabled():
                faulthandler.disable()
            for number in _FAULTS:
                if signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, signal.SIG_DFL)
        finally:
            self._after_fork()


_handlers: _Handlers | None = None


def restore_signals_in_children() -> None:
    """Let what the calls fork have Python's own signal handlers, from now on; call it before any code of the user's."""
    global _handlers
    # Without these, as on Windows, no process forks.
    if _handlers is None and hasattr(os, "register_at_fork") and hasattr(signal, "pthread_sigmask"):
        _handlers = _Handlers()
