"""Find the calls of a function in a checkpoint file, and warn of what is doubtful."""

from __future__ import annotations

import os
import sqlite3
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from .._calls.calls import Arguments, parts_of, written
from .._checkpoints.identity import Identity
from .._checkpoints.opening import open_store
from .._checkpoints.rows import digest_of, digest_of_key, from_row, make_key, with_seed
from .._checkpoints.writer import Writer, not_written
from .._system.callers import users_level
from .._wire.pickling import Packed, references
from ..errors import CheckpointStaleWarning, UnpicklingFailed
from .recorder import NoRecorder, Recorder

# So many differences are named in a warning.
_LISTED = 5


class Lookup:
    """The calls of one function in a file. It is for one thread at a time.

    Parameters
    ----------
    path : path-like
        The file.
    identity : Identity
        That of the function, which is part of what a value is found by.
    key : callable or None
        Makes a string of a call's arguments, by which its value is found; None: `joblib.hash`.
    endless : bool
        Whether there may be more calls than fit into the memory.

    Raises
    ------
    CheckpointRefused
        If the file is not a checkpoint.
    """

    def __init__(
        self, path: str | os.PathLike[str], identity: Identity, key: Callable[..., str] | None, *, endless: bool
    ) -> None:
        self._identity = identity
        self._key = key
        self._draws = _Draws(endless=endless)
        self.store = open_store(path)
        weakref.finalize(self, self.store.close).atexit = False
        self._last = self.store.last_outcome()
        self._function = self.store.function(identity)  # None: nothing of it is there

    @property
    def name(self) -> str:
        """The function's name without its module, for messages."""
        return (self._identity.title or self._identity.name).rpartition(".")[2]

    def begin(self, total: int | None, writers: set[Writer]) -> Recorder | NoRecorder:
        """Note a run in the file, of so many calls if that is known, and return where the outcomes are to go.

        `writers` gets the thread that writes.
        """
        if (text := self._doubts()) is not None:
            warnings.warn(text, CheckpointStaleWarning, stacklevel=users_level())
        path = self.store.path
        try:
            if self.store.read_only:
                raise PermissionError("its disk is full, or read-only")
            run = self.store.add_run(self._identity, total)
            return Recorder(path, run, self._last, self._key is None, writers)
        except OSError as error:
            return NoRecorder(not_written(path, error))

    def _doubts(self) -> str | None:
        """Return what to tell the user of values whose code is another one, or may be."""
        store, identity = self.store, self._identity
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
            f"globals: {_listed(min(differences, key=len))}. They are kept, and not used, so its "
            "values are computed anew"
        )

    def look_up(self, args: Arguments) -> tuple[bytes, int | None]:
        """Return a call's key, and the number of its outcome if it is there; raise TypeError if it has no key."""
        key = self.key_of(args)
        return key, None if self._function is None else self.store.find(self._function, key)

    def value_of(self, key: bytes) -> tuple[Any] | None:
        """Return the value of the call with a key, if it is there."""
        packed = None if self._function is None else self.store.fetch(self._function, key)
        return None if packed is None else (self._unpacked(packed),)

    def key_of(self, args: Arguments) -> bytes:
        """Return the next call's key; raise TypeError if it has none."""
        try:
            digest = self._digest(args)
        except TypeError as error:
            text = f"the call {self._identity.name}({_shortened(args)}) cannot be found again in a checkpoint: {error}"
            if self._key is None:
                text += ". Pass key=, a function that makes a string of the arguments"
            raise TypeError(text) from error
        return make_key(digest, self._draws.next(digest))

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

    def load(self, outcome: int) -> Any:
        """Return a value, by the number of its outcome."""
        return self._unpacked(self.store.load(outcome))

    def _unpacked(self, packed: Packed) -> Any:
        try:
            return from_row(packed)
        except UnpicklingFailed as error:
            raise UnpicklingFailed(f"a value of {self._identity.name} in {self.store.path}: {error}") from error


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


class _Draws:
    """Count how often each digest came before, which distinguishes draws of a random function.

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
