"""The consumer's side of a series with a checkpoint: what is there is taken, and only the rest is run."""

from __future__ import annotations

import logging
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from .._calls.calls import Arguments, row_of
from .._calls.mailbox import Mailbox
from .._calls.series import Checkpointed, Outbox
from .._checkpoints.identity import Identity, identify
from .._checkpoints.opening import open_store
from .._checkpoints.rows import CallRow, to_bytes
from .._checkpoints.writer import Writer
from .._system.callers import users_level
from ..errors import CheckpointFailedWarning
from ..progress import progress
from .feeds import Feed
from .lookup import Lookup
from .options import SeriesOptions
from .recorder import NoRecorder, Recorder
from .results import values_of

_log = logging.getLogger("thread_chunks")

# So many calls are handed to the writer together.
_ROWS = 1000

# So many differences are named in a warning.
_LISTED = 5


class Resumption:
    """A series that takes what it can from a checkpoint file.

    Parameters
    ----------
    identity : Identity
        That of the function, which is part of what a value is found by.
    calls : iterable of tuple
        The arguments of the calls.
    options : SeriesOptions
        Those of `map`. Without `buffersize`, all calls are looked up here, and nothing runs if one can't be.

    Raises
    ------
    CheckpointRefused
        If the file is not a checkpoint.
    TypeError
        If a call cannot be identified.
    """

    def __init__(self, identity: Identity, calls: Iterable[Arguments], options: SeriesOptions) -> None:
        assert options.path is not None
        self._options = options
        self._is_lazy = options.buffersize is not None
        self._lookup = Lookup(options.path, identity, options.key, endless=self._is_lazy)
        self._store = self._lookup.store
        self._calls: Iterator[tuple[Arguments, bytes, int | None]] = map(self._look_up, calls)
        self._total = None
        self.complete = False  # whether it is known that all values are there
        if not self._is_lazy:
            try:
                looked_up = list(self._calls)
            except BaseException:
                self._store.close()
                raise
            self._calls, self._total = iter(looked_up), len(looked_up)
            self.complete = all(outcome is not None for _, _, outcome in looked_up)
        # Of the calls that were let in and whose values were not asked for: the outcome if it is there, and None if
        # the feed has the call.
        self._plan: deque[_Found | None] = deque()
        self._position = 0  # of the next call
        self._found = 0  # outcomes that were there
        self._exhausted = False  # whether all calls were let in
        self._warned = False
        self._recorder: Recorder | NoRecorder

    def begin(self, writers: set[Writer]) -> Recorder | NoRecorder:
        """Note the run in the file, and return where the outcomes are to go; `writers` gets the thread that writes."""
        self._recorder = self._lookup.begin(self._total, writers)
        return self._recorder

    def _look_up(self, args: Arguments) -> tuple[Arguments, bytes, int | None]:
        return args, *self._lookup.look_up(args)

    def values(self, feed: Feed, *, name: str, started: float, running: Callable[[], int]) -> Iterator[Any]:
        """Let in the calls that are not there, and return an iterator over all values; as `values_of`.

        `running` is as for `progress`.
        """
        try:
            self._admit(feed, self._options.buffersize)
        except BaseException:
            feed.abandon()
            raise
        if not self._is_lazy:
            self._log_found()
        return self._values(feed, name, started, running)

    def _values(self, feed: Feed, name: str, started: float, running: Callable[[], int]) -> Iterator[Any]:
        is_lazy = self._is_lazy
        show_progress = self._options.progress_bar
        total, there = (None, 0) if is_lazy else (self._position, self._found)
        bar = progress(show_progress, total, there, running)
        # The bar is entered here, since it counts what both sources give.
        computed = values_of(feed, self._options, name=name, started=started, bar=lambda: nullcontext(bar))
        try:
            with bar:
                while True:
                    if is_lazy:
                        self._admit(feed, 1)
                    self._warn_of_failure()
                    if not self._plan:
                        break
                    found = self._plan.popleft()
                    if found is None:
                        yield self._kept(next(computed))
                    else:
                        bar.update(1 if is_lazy else 0)
                        yield self._kept(found.as_item())
            if is_lazy and isinstance(self._recorder, Recorder):
                with suppress(OSError):
                    self._store.set_total(self._recorder.run, self._position)
        finally:
            if is_lazy:
                self._log_found()
            computed.close()
            feed.abandon()
            # First, because of two connections that are closed at the same time none clears up the log.
            self._store.close()
            # An error that the user keeps refers to this, which must not keep the writer waiting.
            del self._recorder

    def _log_found(self) -> None:
        name = self._lookup.name
        _log.info("%d of %d values of %s are in %s", self._found, self._position, name, self._store.path)

    def _warn_of_failure(self) -> None:
        # Where no value is in hand, which would be lost if warnings are errors.
        if (failure := self._recorder.failure) is not None and not self._warned:
            self._warned = True
            warnings.warn(failure, CheckpointFailedWarning, stacklevel=users_level())

    def _kept(self, item: Any) -> Any:
        """Return what came, with its value if that is there; the last one when all are on disk."""
        if self._exhausted and not self._plan:
            self._recorder.flush()
        if self._options.with_arguments:
            row, value = item
            return row, self._loaded(value)
        return self._loaded(item)

    def _loaded(self, value: Any) -> Any:
        return self._lookup.load(value.outcome) if type(value) is Checkpointed else value

    def _admit(self, feed: Feed, count: int | None) -> None:
        """Let in the next `count` calls, or all."""
        rows: list[CallRow] = []
        before = self._position
        for args, key, outcome in islice(self._calls, count):
            rows.append((self._position, key, to_bytes(args)))
            if outcome is None:
                self._recorder.expect(feed.admitted, key)
                self._plan.append(None)
                feed.add(args)
            else:
                self._found += 1
                feed.leave_out()
                found = _Found(outcome, args if self._options.with_arguments else None)
                self._plan.appendleft(found) if self._options.unordered else self._plan.append(found)
            self._position += 1
            if len(rows) == _ROWS:
                self._recorder.note(rows)
                rows = []
        self._recorder.note(rows)
        self._exhausted = count is None or self._position < before + count


@dataclass(slots=True, frozen=True)
class _Found:
    """A value that is there: the number of its outcome, and its arguments if they are wanted."""

    outcome: int
    args: Arguments | None

    def as_item(self) -> Any:
        """Return what stands for it, as if it came from a feed."""
        value = Checkpointed(self.outcome)
        return value if self.args is None else (row_of(self.args), value)


def finished_values(fn: Callable[..., Any], calls: Sequence[Arguments], options: SeriesOptions) -> list[Any] | None:
    """Return the values of calls that are all finished, for which no executor is needed; None if some are not."""
    assert options.path is not None
    with closing(open_store(options.path)) as store:
        if store.last_outcome() < len(calls):
            return None
        identity = identify(fn)  # which takes time if it uses large arrays
        function = store.function(identity)
        if function is None or store.count(function) < len(calls):
            return None
    resumption = Resumption(identity, calls, options)
    if not resumption.complete:
        return None
    writers: set[Writer] = set()
    resumption.begin(writers)
    values = list(resumption.values(_NoFeed(), name=identity.name, started=0.0, running=int))
    for writer in list(writers):
        writer.join()
    return values


class _NoFeed:
    """The feed of a series that has nothing to run."""

    def __init__(self) -> None:
        self.outbox: Outbox = Mailbox()
        self.admitted = 0
        self.lazy = False
        self.arguments: dict[int, Arguments] | None = None

    def refill(self) -> None: ...

    def add(self, args: Arguments) -> None:
        raise AssertionError("there is something to run")

    def leave_out(self) -> None: ...

    def abandon(self) -> None: ...
