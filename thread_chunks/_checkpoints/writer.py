"""The thread that writes to a checkpoint file."""

from __future__ import annotations

import logging
import os
import threading

from .rows import Rows
from .store import Run, Store

_log = logging.getLogger("thread_chunks")

# The most bytes that may wait for the disk. Then the dispatcher waits, and so do the workers. Less, and a hiccup of the
# disk holds up the computation; more, and a slow disk fills the memory.
_BACKLOG = 64 * 2**20

# What a row costs beside its pickle (bytes): some 300 in Python, and as much again until the memory is used anew.
_ROW = 1000

# How long what is not urgent waits for more of its kind (s). Less, and a transaction for each few calls takes time from
# the thread that brings them; more, and who looks into the file sees them late.
_DELAY = 0.5


def not_written(path: str, error: BaseException) -> str:
    """Return the warning for the user."""
    if isinstance(error, FileNotFoundError):
        return f"the checkpoint {path}: {error}: the run goes on, but the next one begins from nothing"
    return (
        f"the checkpoint {path} cannot be written: {error}. The computation goes on; values that come from now on "
        "will be computed again by the next run"
    )


class Writer:
    """The thread that writes, and what waits for it. What is there at once goes into one transaction.

    A failure ends the writing, and not the computation: what comes later is dropped.

    Parameters
    ----------
    store : Store
        A connection of its own.
    reader : Store
        Another one, of the dispatcher's thread. Both are closed at the end.
    run : Run
        Whose rows these are.
    writers : set of Writer
        Where it is found until it has ended.
    """

    def __init__(self, store: Store, reader: Store, run: Run, writers: set[Writer]) -> None:
        self._pid = os.getpid()
        self.failure: str | None = None
        self._store = store
        self._reader = reader
        self._run = run
        self._writers = writers
        # All that follows is under it. Re-entrant, as `end` is called by finalizers.
        self._changed = threading.Condition(threading.RLock())
        self._rows = Rows()  # that wait
        self._bytes = 0  # that wait, or are being written
        self._added = self._written = 0  # how often something was
        self._urgent = False  # whether what waits is to be written now
        self._ending = self._ended = False
        self._thread = threading.Thread(target=self._work, name="thread_chunks-checkpoint", daemon=True)
        self._thread.start()
        writers.add(self)

    def add(self, rows: Rows, *, urgent: bool = True) -> None:
        """Let rows be written; wait while too much waits already.

        What is not urgent is written a little later, with what has come until then.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._bytes < _BACKLOG or self._ended)
            if rows and self.failure is None and not self._ended:
                if not self._rows:
                    self._changed.notify_all()
                self._rows.extend(rows)
                self._bytes += rows.size + _ROW * len(rows)
                self._added += 1
                if urgent:
                    self._hurry()

    def _hurry(self) -> None:
        self._urgent = True
        self._changed.notify_all()

    def flush(self, timeout: float | None = None) -> None:
        """Wait, at most `timeout` seconds, until what was added is on disk, or has failed to get there."""
        with self._changed:
            added = self._added
            self._hurry()
            self._changed.wait_for(lambda: self._written >= added or self._ended, timeout)

    def end(self) -> None:
        """Write what was added, and end. Does not wait."""
        if os.getpid() != self._pid:  # in a forked child the thread is not there, and its lock may be held
            return
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def join(self) -> None:
        """End, and wait for it."""
        self.end()
        self._thread.join()

    def _work(self) -> None:
        try:
            while (found := self._next()) is not None:
                rows, size, added = found
                if self.failure is None:
                    self._write(rows)
                del found, rows
                with self._changed:
                    self._bytes -= size
                    self._written = added
                    self._changed.notify_all()
        finally:
            self._store.close()
            self._reader.close()  # it is not needed any more: the series is over, or the dispatcher has ended
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            self._writers.discard(self)

    def _next(self) -> tuple[Rows, int, int] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._rows or self._ending)
            self._changed.wait_for(lambda: self._urgent or self._ending, _DELAY)
            self._urgent = False
            if not self._rows:
                self._ended = True  # here, so that nothing is added any more
                return None
            rows, self._rows = self._rows, Rows()
            return rows, self._bytes, self._added

    def _write(self, rows: Rows) -> None:
        try:
            self._store.write(self._run, rows)
        except Exception as error:
            self.failure = not_written(self._store.path, error)
            _log.info(self.failure)  # the consumer is warned
