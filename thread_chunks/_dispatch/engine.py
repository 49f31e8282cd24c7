"""The dispatchers' threads, and what becomes of them at the end of the program."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError  # another one before Python 3.11
from contextlib import suppress
from functools import partial

from .._checkpoints.writer import Writer
from .dispatcher import Dispatcher
from .inbox import Inbox
from .messages import Close, Inspect

# For how long a finalizer waits at most (s). Ray takes about one to stop; some seconds on a busy machine. More, and a
# thread that holds what the end needs (the lock of a module that is imported, say) stands still for longer.
_PATIENCE = 10.0

# The threads that have not ended, and the way to their dispatchers.
_threads: dict[threading.Thread, Inbox] = {}


def start_thread(dispatcher: Dispatcher, inbox: Inbox, writers: set[Writer]) -> threading.Thread:
    """Run a dispatcher in a thread of its own, which ends when `writers` have written what came of it."""

    # A daemon, because the interpreter waits for other threads before it runs exit hooks, and
    # `_finish_all` is what tells the dispatchers to end.
    def run() -> None:
        try:
            dispatcher.run()
            for writer in list(writers):
                writer.join()
        finally:
            del _threads[threading.current_thread()]

    thread = threading.Thread(target=run, name="thread_chunks-dispatcher", daemon=True)
    _threads[thread] = inbox
    try:
        thread.start()
    except BaseException:
        del _threads[thread]
        raise
    return thread


def close_dropped(
    dispatcher: Dispatcher, inbox: Inbox, thread: threading.Thread, may_wait: Callable[[], bool], pid: int
) -> None:
    """End the dispatcher of an executor that was dropped, unless this is a forked child; wait if nothing is pending.

    A finalizer calls it, on any thread, wherever that is. So it waits for nothing that waits for this thread: it does
    not wait on the package's own threads, nor where `may_wait` says no; what else there may be, it does not wait for
    longer than `_PATIENCE`.
    """
    if os.getpid() != pid:
        return
    inbox.post(Close())
    if threading.current_thread().name.startswith("thread_chunks") or not may_wait():
        return
    deadline = time.monotonic() + _PATIENCE
    is_over: Future[bool] = Future()
    if inbox.ask(Inspect(partial(getattr, dispatcher, "finished"), is_over)):
        with suppress(TimeoutError, FutureTimeoutError):
            if is_over.result(_PATIENCE):
                thread.join(max(0.0, deadline - time.monotonic()))
    else:
        thread.join(_PATIENCE)


@atexit.register  # after Ray registered its hook, and so run before it
def _finish_all() -> None:
    threads = dict(_threads)
    # Of an error that ended the program, the interpreter leaves the type here. Of a program that goes
    # on at a prompt, it may be one of long ago.
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1")
    for inbox in threads.values():
        inbox.close()
        inbox.post(Close(kill=interrupted))
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        for inbox in threads.values():
            inbox.post(Close(kill=True))
        for thread in threads:
            thread.join()


os.register_at_fork(after_in_child=_threads.clear)
