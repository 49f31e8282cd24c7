"""The dispatchers' threads, and what becomes of them at the end of the program."""

from __future__ import annotations

import atexit
import os
import sys
import threading

from .._checkpoints.writer import Writer
from .dispatcher import Dispatcher
from .inbox import Inbox
from .messages import Close

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


def close_dropped(inbox: Inbox, pid: int) -> None:
    """End the dispatcher of an executor that was dropped, unless this is a forked child."""
    if os.getpid() == pid:
        inbox.post(Close())


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
