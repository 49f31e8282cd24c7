"""The consumer's side of a series with a checkpoint: what is there is taken, and only the rest is run."""

from __future__ import annotations

import logging
import sqlite3
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from .._calls.calls import Arguments, parts_of, row_of, written
from .._calls.mailbox import Mailbox
from .._calls.series import Checkpointed, Outbox
from .._checkpoints.identity import Identity, identify
from .._checkpoints.rows import CallRow, digest_of, digest_of_key, make_key, to_bytes, with_seed
from .._checkpoints.store import Run, open_store
from .._checkpoints.writer import Writer, not_written
from .._wire.pickling import references, unpack
from ..errors import CheckpointFailedWarning, CheckpointStaleWarning, UnpicklingFailed
from ..progress import progress
from .feeds import Feed
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
        If the file is no checkpoint.
    TypeError
        If a call cannot be identified.
    """

    def __init__(self, identity: Identity, calls: Iterable[Arguments], options: SeriesOptions) -> None:
        assert options.path is not None
        self._identity = identity
        self._options = options
        self._key = options.key
        self._is_lazy = options.buffersize is not None
        self._draws = _Draws(endless=self._is_lazy)
        self._store = open_store(options.path)
        weakref.finalize(self, self._store.close).atexit = False
        self._last = self._store.last_outcome()
        self._function = self._store.function(self._identity)  # None: nothing of it is there
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
        self._run: Run | None = None  # None if nothing can be written

    def begin(self, writers: set[Writer]) -> Recorder | NoRecorder:
        """Note the run in the file, and return where the outcomes are to go; `writers` gets the thread that writes."""
        if (text := self._doubts()) is not None:
            warnings.warn(text, CheckpointStaleWarning, stacklevel=5)  # whoever called `map`
        path = self._store.path
        try:
            if self._store.read_only:
                raise PermissionError("its disk is full, or read-only")
            self._run = self._store.add_run(self._identity, self._total)
            self._recorder = Recorder(path, self._run, self._last, self._key is None, writers)
        except OSError as error:
            self._recorder = NoRecorder(not_written(path, error))
        return self._recorder

    def _doubts(self) -> str | None:
        """Return what to tell the user of values whose code is another one, or may be."""
        store, identity = self._store, self._identity
        there = 0 if self._function is None else store.count(self._function)
        if there:
            if not identity.uses or self._function != store.unclaimed(identity):
                return None
            return (
                f"{store.path} has {there} values of {identity.name} of an older version of thread_chunks, which did "
                f"not note what the function uses: {_listed(identity.uses)}. They are taken for values of what is "
                "there now. If it has changed since they were computed, use another file"
            )
        if not (stale := store.stale(identity)):
            return None
        differences = [_differences(store.parts(function), dict(identity.parts)) for function, _ in stale]
        return (
            f"{store.path} has {sum(count for _, count in stale)} values of {identity.name} with another code or other "
            f"globals: {_listed(min(differences, key=len))}. They are kept, and not used"
        )

    def values(self, feed: Feed, *, name: str, started: float) -> Iterator[Any]:
        """Let in the calls that are not there, and return an iterator over all values; as `values_of`."""
        try:
            self._admit(feed, self._options.buffersize)
        except BaseException:
            feed.abandon()
            raise
        if not self._is_lazy:
            self._log_found()
        return self._values(feed, name, started)

    def _values(self, feed: Feed, name: str, started: float) -> Iterator[Any]:
        is_lazy = self._is_lazy
        show_progress = self._options.progress_bar
        bar = progress(show_progress, None if is_lazy else self._position, 0 if is_lazy else self._found)
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
            if is_lazy and self._run is not None:
                with suppress(OSError):
                    self._store.set_total(self._run, self._position)
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
        _log.info("%d of %d values are in %s", self._found, self._position, self._store.path)

    def _warn_of_failure(self) -> None:
        # Where no value is in hand, which would be lost if warnings are errors.
        if (failure := self._recorder.failure) is not None and not self._warned:
            self._warned = True
            warnings.warn(failure, CheckpointFailedWarning, stacklevel=3)

    def _kept(self, item: Any) -> Any:
        """Return what came, with its value if that is there; the last one when all are on disk."""
        if self._exhausted and not self._plan:
            self._recorder.flush()
        if self._options.with_arguments:
            row, value = item
            return row, self._loaded(value)
        return self._loaded(item)

    def _loaded(self, value: Any) -> Any:
        if type(value) is not Checkpointed:
            return value
        try:
            # Its buffers are of this moment, and so may be written to.
            return unpack(self._store.load(value.outcome), writable=False)
        except UnpicklingFailed as error:
            raise UnpicklingFailed(f"a value of {self._identity.name} in {self._store.path}: {error}") from error

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

    def _look_up(self, args: Arguments) -> tuple[Arguments, bytes, int | None]:
        """Return a call with its key, and the number of its outcome if it is there."""
        try:
            digest = self._digest(args)
        except TypeError as error:
            text = f"the call {self._identity.name}({_shortened(args)}) cannot be found again in a checkpoint: {error}"
            if self._key is None:
                text += ". Pass key=, a function that makes a string of the arguments"
            raise TypeError(text) from error
        key = make_key(digest, self._draws.next(digest))
        return args, key, None if self._function is None else self._store.find(self._function, key)

    def _digest(self, args: Arguments) -> bytes:
        positional, extras = parts_of(args)
        if self._key is None:
            of_values = references().of_values
            if any(issubclass(type(value), of_values) for value in (*positional, *extras.keywords.values())):
                raise TypeError("a reference to an object of the cluster means nothing to the next run")
            return digest_of(args)
        key = self._key(*positional, **extras.keywords)
        if not isinstance(key, str):
            raise TypeError(f"key returned {type(key).__qualname__!r}, not a string")
        return with_seed(digest_of_key(key), extras.seed)


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
    values = list(resumption.values(_NoFeed(), name=identity.name, started=0.0))
    for writer in list(writers):
        writer.join()
    return values


def _differences(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Return what differs between what the codes of two functions are made of, in words."""
    if not old:
        return ["its code differs"]
    changed = [what for what, digest in new.items() if old.get(what, digest) != digest]
    return [f"{what} differs" for what in changed or sorted(old.keys() ^ new.keys())]


def _listed(texts: Sequence[str]) -> str:
    more = [] if len(texts) <= _LISTED else [f"and {len(texts) - _LISTED} more"]
    return ", ".join([*texts[:_LISTED], *more])


def _shortened(args: Arguments) -> str:
    try:
        text = written(args)
    except Exception:
        return "..."
    return text if len(text) < 200 else f"{text[:200]}..."


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


class _Draws:
    """Counts how often each digest came before, which tells draws of a random function apart.

    Parameters
    ----------
    endless : bool
        Count on disk, in more time and a fixed amount of memory.
    """

    def __init__(self, *, endless: bool) -> None:
        self._counts: dict[bytes, int] = {}
        self._connection = None
        if endless:
            self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._connection.execute("CREATE TABLE draws (digest BLOB PRIMARY KEY, count INTEGER) WITHOUT ROWID")
            self._connection.execute("BEGIN")
            weakref.finalize(self, self._connection.close).atexit = False

    def next(self, digest: bytes) -> int:
        """Return how often a digest came before."""
        if self._connection is None:
            count = self._counts.get(digest, 0)
            self._counts[digest] = count + 1
            return count
        row = self._connection.execute(
            "INSERT INTO draws VALUES (?, 0) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count", (digest,)
        ).fetchone()
        return int(row[0])
