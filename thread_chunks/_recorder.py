"""Writes the values of a series to its checkpoint, in a thread of its own, as they arrive."""

from __future__ import annotations

import logging
import sqlite3
import threading
import weakref
from collections.abc import Sequence

from ._calls import Outcomes
from ._store import CallRow, Run, Store, ValueRow, to_row
from .errors import PicklingFailed

_log = logging.getLogger("thread_chunks")

# So many bytes may wait for the disk; then whoever brings more waits, and with it the workers. Less, and a
# hiccup of the disk holds up the computation; more, and a slow disk fills the memory.
_BACKLOG = 64 * 2**20

# What a row costs beside its pickle (bytes), roughly.
_ROW = 200


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
        self.failure: str | None = None
        self._store = store
        self._reader = reader
        self._run = run
        self._writers = writers
        # All that follows is under it. Re-entrant, as `end` is called by finalizers.
        self._changed = threading.Condition(threading.RLock())
        self._calls: list[CallRow] = []
        self._values: list[ValueRow] = []
        self._bytes = 0  # that wait, or are being written
        self._added = self._written = 0  # how often something was
        self._ending = self._ended = False
        self._thread = threading.Thread(target=self._work, name="thread_chunks-checkpoint", daemon=True)
        writers.add(self)
        self._thread.start()

    def add(self, calls: Sequence[CallRow] = (), values: Sequence[ValueRow] = (), size: int = 0) -> None:
        """Let rows, of `size` bytes, be written; wait while too much waits already."""
        with self._changed:
            self._changed.wait_for(lambda: self._bytes < _BACKLOG or self._ended)
            if (calls or values) and self.failure is None and not self._ended:
                self._calls.extend(calls)
                self._values.extend(values)
                self._bytes += size + _ROW * (len(calls) + len(values))
                self._added += 1
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait until what was added is on disk, or has failed to get there."""
        with self._changed:
            added = self._added
            self._changed.wait_for(lambda: self._written >= added or self._ended)

    def end(self) -> None:
        """Write what was added, and end. Does not wait."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def join(self) -> None:
        """End, and wait for it."""
        self.end()
        self._thread.join()

    def _work(self) -> None:
        try:
            while (rows := self._next()) is not None:
                calls, values, size, added = rows
                if self.failure is None:
                    self._write(calls, values)
                del rows, calls, values
                with self._changed:
                    self._bytes -= size
                    self._written = added
                    self._changed.notify_all()
        finally:
            self._store.close()
            self._reader.close()  # nobody looks any more: the series is over, or the dispatcher has ended
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            self._writers.discard(self)

    def _next(self) -> tuple[list[CallRow], list[ValueRow], int, int] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._calls or self._values or self._ending)
            if not self._calls and not self._values:
                return None
            calls, self._calls = self._calls, []
            values, self._values = self._values, []
            return calls, values, self._bytes, self._added

    def _write(self, calls: list[CallRow], values: list[ValueRow]) -> None:
        try:
            self._store.write(self._run, calls, values)
        except Exception as error:
            self.failure = (
                f"the checkpoint {self._store.path} cannot be written any more: {error}. The computation goes on; "
                "values that come from now on will be computed again by the next run"
            )
            _log.warning(self.failure)


class Recorder:
    """What a series knows of its checkpoint: the keys of its calls, and where their values go.

    When nothing refers to it any more, which is when the series is over, the writer ends.
    """

    def __init__(self, path: str, run: Run, last: int, writers: set[Writer]) -> None:
        self._reader = Store(path)  # dispatcher's thread
        self.writer = Writer(Store(path), self._reader, run, writers)
        self._run = run
        self._keys: dict[int, bytes] = {}  # by label, of the calls that have no outcome yet
        # What follows belongs to the dispatcher's thread.
        self._changes = -1
        self._last = last  # outcomes up to this number were looked at before
        self._elsewhere: dict[bytes, int] = {}  # what other processes finished since
        weakref.finalize(self, self.writer.end).atexit = False

    def expect(self, label: int, key: bytes) -> None:
        """Note a call's key, before the call is let in."""
        self._keys[label] = key

    def record(self, first: int, outcomes: Outcomes) -> None:
        """Let the values among these outcomes, from label `first` on, be written."""
        rows: list[ValueRow] = []
        size = 0
        for index, value in enumerate(outcomes.values):
            key = self._keys.pop(first + index)
            if index in outcomes.errors:
                continue
            try:
                row = to_row(value, outcomes.packed.get(index))
            except PicklingFailed as error:
                _log.warning("a value cannot be kept in the checkpoint: %s", error)
            else:
                rows.append((key, row))
                size += len(row) if isinstance(row, bytes) else row.size
        self.writer.add(values=rows, size=size)

    def look(self) -> None:
        """Find out what other processes have finished by now."""
        try:
            changes = self._reader.changes()
            if changes != self._changes:
                self._changes = changes
                last = self._reader.last_outcome()
                self._elsewhere.update((key, outcome) for outcome, key in self._reader.news(self._run, self._last))
                self._last = last
        except sqlite3.Error:
            _log.debug("cannot look into the checkpoint", exc_info=True)  # calls may be run twice, no more

    def found(self, label: int) -> int | None:
        """Return the number of the outcome of a call, if another process has finished it."""
        return self._elsewhere.get(self._keys[label]) if self._elsewhere else None
