"""Write what came of the calls of a series to its checkpoint, in a thread of its own, as it arrives."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from heapq import heappush, heappushpop

from .._calls.calls import Arguments, Outcomes
from .._checkpoints.rows import CallRow, Rows, digest_of, encodable, failure_row, to_row
from .._checkpoints.store import SLOWEST_KEPT, Run, Store
from .._checkpoints.writer import Writer
from .._dispatch.naming import short_form
from .._wire.pickling import PLAIN
from ..errors import CheckpointRefused, PicklingFailed
from .results import ends_series

_log = logging.getLogger("thread_chunks")


class Recorder:
    """What a series knows of its checkpoint: the keys of its calls, and where their values go.

    When nothing refers to it any more, which is when the series is over, the writer ends.

    Parameters
    ----------
    path : str
        The file.
    run : Run
        The series, as the file knows it.
    last : int
        Outcomes up to this number were looked at before.
    hashed : bool
        Whether the keys are made of `joblib.hash` of the arguments.
    writers : set of Writer
        Gets the thread that writes.
    """

    def __init__(self, path: str, run: Run, last: int, hashed: bool, writers: set[Writer]) -> None:
        self.run = run
        self._hashed = hashed
        self._keys: dict[int, bytes] = {}  # by label, of the calls that have no outcome yet
        with ExitStack() as opened:
            self._reader = opened.enter_context(closing(Store(path)))  # dispatcher's thread
            store = opened.enter_context(closing(Store(path)))
            self.writer = Writer(store, self._reader, run, writers)
            opened.pop_all()  # the writer closes them
        # What follows belongs to the dispatcher's thread.
        self._sent: dict[int, Arguments] = {}  # by label, of the calls that workers have
        self._slowest: list[float] = []  # durations of the slowest calls, as a heap (s)
        self._changes = -1
        self._last = last
        self._changed_arguments = False  # whether any was logged
        self._others = False  # whether another process has finished calls of the function since then
        weakref.finalize(self, self.writer.end).atexit = False

    @property
    def failure(self) -> str | None:
        """Why values are not written any more, if they are not."""
        return self.writer.failure

    def expect(self, label: int, key: bytes) -> None:
        """Note a call's key, before the call is let in."""
        self._keys[label] = key

    def note(self, rows: Sequence[CallRow], *, urgent: bool = True) -> None:
        """Let calls be written."""
        size = sum(len(data) for _, _, data in rows if data is not None)
        self.writer.add(Rows(calls=list(rows), size=size), urgent=urgent)

    def flush(self) -> None:
        """Wait until what came is on disk, or has failed to get there."""
        self.writer.flush()

    def record(self, first: int, outcomes: Outcomes) -> None:
        """Let these outcomes, from label `first` on, be written: values, what failed, and what took longest."""
        rows = Rows()
        for index, (seconds, _) in outcomes.long.items():
            if (key := self._keys.get(first + index)) is not None and self._is_slow(seconds):
                rows.slow.append((key, encodable(short_form(self._sent[first + index])), seconds))
        for index, value in enumerate(outcomes.values):
            args = self._sent.pop(first + index, ())
            key = self._keys.pop(first + index, None)
            if key is None:
                continue
            if (failure := outcomes.errors.get(index)) is not None:
                if not (outcomes.abandoned or ends_series(failure)):
                    rows.failures.append(failure_row(key, short_form(args), failure))
                continue
            try:
                row = to_row(value, outcomes.packed.get(index))
            except (PicklingFailed, MemoryError) as error:  # the outcome is delivered all the same
                _log.warning("%s(%s): the checkpoint cannot keep its value: %s", self.run.name, short_form(args), error)
            else:
                rows.values.append((key, row))
                rows.size += len(row) if isinstance(row, bytes) else row.size
        self.writer.add(rows)

    def _is_slow(self, seconds: float) -> bool:
        """Return whether a call is one of the slowest so far."""
        if len(self._slowest) < SLOWEST_KEPT:
            heappush(self._slowest, seconds)
            return True
        return heappushpop(self._slowest, seconds) < seconds

    def sent(self, label: int, args: Arguments) -> None:
        """Look at a call's arguments once more, as it is sent."""
        self._sent[label] = args  # for the name of the call, if it fails or takes long
        if not self._hashed or PLAIN.issuperset(map(type, args)):
            return
        if (key := self._keys.get(label)) is None:
            return
        with suppress(Exception):  # if it can't be hashed any more, it was changed
            if digest_of(args) == key[:16]:
                return
        del self._keys[label]
        if not self._changed_arguments:
            self._changed_arguments = True
            text = (
                "%s(%s): the arguments were changed after the call was submitted. The checkpoint keeps no such values"
            )
            _log.warning(text, self.run.name, short_form(args))

    def refresh(self) -> None:
        """Find out whether others have finished calls of the function by now."""
        with suppress(OSError, CheckpointRefused):  # else calls that others have finished are run again, no more
            changes = self._reader.changes()
            if changes != self._changes and not self._others:
                self._changes = changes
                last = self._reader.last_outcome()
                self._others = self._reader.has_news(self.run, self._last)
                self._last = last

    def found(self, label: int) -> int | None:
        """Return the number of the outcome of a call that has not started, if another process has finished it."""
        if self._others and label in self._keys:
            with suppress(OSError, CheckpointRefused):
                return self._reader.find(self.run.function, self._keys[label])
        return None

    def forget(self, label: int) -> None:
        """Expect no outcome of a call any more."""
        del self._keys[label]


class NoRecorder:
    """What stands for a recorder where nothing can be written, for a reason that is in `failure`."""

    def __init__(self, failure: str) -> None:
        self.failure = failure

    def expect(self, label: int, key: bytes) -> None: ...

    def note(self, rows: Sequence[CallRow], *, urgent: bool = True) -> None: ...

    def flush(self) -> None: ...

    def sent(self, label: int, args: Arguments) -> None: ...

    def record(self, first: int, outcomes: Outcomes) -> None: ...

    def refresh(self) -> None: ...

    def found(self, label: int) -> int | None: ...

    def forget(self, label: int) -> None: ...
