"""The file that a checkpoint is: an SQLite database, and all that is asked of it.

::

   functions   id, name, code, bound            an `Identity`
   runs        id, function, started, total     one for each series
   calls       run, position, key               what a run consists of
   arguments   digest, pickle                   of calls; NULL if they are large
   outcomes    id, function, key, run, finished, pickle
   pieces      id, outcome, buffer, data        of outcomes that are large, whose `pickle` is NULL

The *key* of a call is the digest of its arguments (16 bytes) and how many calls of its run before it had
the same ones (4 bytes). Rows are only ever added. Many processes may read and write at the same time.
"""

from __future__ import annotations

import os
import pickle
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ._calls import Arguments
from ._identity import Identity
from ._wire import PLAIN, Packed, pack
from .errors import CheckpointRefused, PicklingFailed

# In the header of the file, which tells it from those of other programs.
_APPLICATION = int.from_bytes(b"thck", "big")
_VERSION = 1

# How long to wait for another process that writes (s). Its transactions take as long as the values in them.
_PATIENCE = 300.0

# Larger pickles (bytes), and the buffers beside them, are cut into pieces: SQLite copies what it is given, and
# has a limit of 10^9 bytes.
_PIECE = 4 * 2**20

# Size of the file's pages (bytes). Smaller ones, and large values take twice the time; larger ones, and each small
# transaction writes more.
_PAGE = 32 * 1024

# Arguments whose pickle is larger (bytes) are not kept: only who looks into the file would ever read them.
_LARGEST_ARGUMENTS = 2**20

# Files up to this size (bytes) are checked as a whole when they are opened, at some 500 MB/s.
_CHECKED = 256 * 2**20

_SCHEMA = """
CREATE TABLE functions (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, code TEXT NOT NULL, bound TEXT NOT NULL, UNIQUE (name, code, bound));
CREATE TABLE runs (id INTEGER PRIMARY KEY, function INTEGER NOT NULL, started REAL NOT NULL, total INTEGER);
CREATE TABLE calls (
    run INTEGER NOT NULL, position INTEGER NOT NULL, key BLOB NOT NULL, PRIMARY KEY (run, position)) WITHOUT ROWID;
CREATE TABLE arguments (digest BLOB PRIMARY KEY, pickle BLOB) WITHOUT ROWID;
CREATE TABLE outcomes (
    id INTEGER PRIMARY KEY, function INTEGER NOT NULL, key BLOB NOT NULL, run INTEGER NOT NULL, finished REAL NOT NULL,
    pickle BLOB, UNIQUE (function, key));
CREATE TABLE pieces (id INTEGER PRIMARY KEY, outcome INTEGER NOT NULL, buffer INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX pieces_of_outcomes ON pieces (outcome);
"""


def make_key(digest: bytes, draw: int) -> bytes:
    """Return the key of the call that is the `draw`-th (from 0 on) with arguments of this digest."""
    return digest + draw.to_bytes(4, "big")


# Position in the run, key, and the pickle of the arguments.
CallRow = tuple[int, bytes, bytes | None]

# The key of a call, and its value: the pickle if it is small.
ValueRow = tuple[bytes, bytes | Packed]


def to_row(value: Any, packed: Packed | None = None) -> bytes | Packed:
    """Return what to write for a value; `packed` is what it was made from, if it came from a worker.

    Raises
    ------
    PicklingFailed
        If it cannot be kept.
    """
    if packed is None:
        if type(value) in PLAIN:
            return pickle.dumps(value, 5)
        packed = pack(value, homewards=True)
    if packed.references:
        raise PicklingFailed(f"an object of type {packed.kind!r} refers to the cluster")
    if packed.buffers or memoryview(packed.data).nbytes > _PIECE:
        return packed
    return bytes(packed.data)


def to_bytes(args: Arguments) -> bytes | None:
    """Return the pickle of a call's arguments, for who looks into the file; None if they are large, or Ray's."""
    if PLAIN.issuperset(map(type, args)):
        return _if_small(pickle.dumps(args, 5))
    try:
        row = to_row(args)
    except PicklingFailed:
        return None
    return _if_small(row) if isinstance(row, bytes) else None


def _if_small(data: bytes) -> bytes | None:
    return data if len(data) <= _LARGEST_ARGUMENTS else None


@dataclass(slots=True, frozen=True)
class Run:
    """A series that used a file; `total` is None if its length was not known at its start."""

    id: int
    function: int
    name: str
    started: float
    total: int | None


def open_store(path: str | os.PathLike[str], *, must_exist: bool = False) -> Store:
    """Open a checkpoint file, and make it if it is not there, unless it `must_exist`.

    Raises
    ------
    CheckpointRefused
        If what is there is no checkpoint, or a damaged one. It is left as it is.
    OSError
        If it cannot be opened or made.
    """
    path = os.path.abspath(path)  # the working directory may change
    if must_exist and not os.path.exists(path):
        raise FileNotFoundError(f"there is no checkpoint {path}")
    is_new = _check_header(path)
    store = Store(path)
    try:
        store.create() if is_new else store.check()
    except BaseException as error:
        store.close()
        if isinstance(error, sqlite3.OperationalError):  # of the system's; what is wrong with the file was refused
            raise OSError(f"the checkpoint {path} cannot be used: {error}") from error
        raise
    return store


class Store:
    """A connection to a checkpoint file that `open_store` has seen, for one thread at a time."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        except sqlite3.OperationalError as error:
            raise OSError(f"the checkpoint {path} cannot be opened: {error}") from error
        self._inode = os.stat(path).st_ino

    def create(self) -> None:
        """Make the tables, in a file that is empty."""
        self._connection.execute(f"PRAGMA page_size = {_PAGE}")
        # In one transaction of the older kind of journal, so that the file is all there or empty.
        self._connection.execute("BEGIN EXCLUSIVE")
        if self._number("PRAGMA user_version") == 0:  # nobody else was quicker
            for statement in _SCHEMA.split(";"):
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._connection.execute(f"PRAGMA user_version = {_VERSION}")
        self._connection.execute("COMMIT")
        self._connection.execute("PRAGMA journal_mode = WAL")

    def check(self) -> None:
        """Raise CheckpointRefused if the file is damaged."""
        try:
            self._number("SELECT count(*) FROM functions")
            if os.path.getsize(self.path) <= _CHECKED:
                (verdict,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
                if verdict != "ok":
                    raise sqlite3.DatabaseError(verdict)
        except sqlite3.OperationalError as error:
            if not str(error).startswith("no such"):
                raise
            raise _damaged(self.path, error) from error
        except sqlite3.DatabaseError as error:
            raise _damaged(self.path, error) from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def function(self, identity: Identity) -> int | None:
        """Return the number of a function, if there is anything of it."""
        query = "SELECT id FROM functions WHERE name = ? AND code = ? AND bound = ?"
        row = self._connection.execute(query, (identity.name, identity.code, identity.bound)).fetchone()
        return None if row is None else int(row[0])

    def add_run(self, identity: Identity, total: int | None) -> Run:
        """Note that a function is run, `total` times if that is known."""
        names = (identity.name, identity.code, identity.bound)
        self._connection.execute("INSERT OR IGNORE INTO functions (name, code, bound) VALUES (?, ?, ?)", names)
        function = self.function(identity)
        assert function is not None
        row = (function, time.time(), total)
        run = self._connection.execute("INSERT INTO runs (function, started, total) VALUES (?, ?, ?)", row).lastrowid
        assert run is not None
        return Run(run, function, identity.name, *row[1:])

    def write(self, run: Run, calls: Sequence[CallRow], values: Sequence[ValueRow]) -> None:
        """Write calls and outcomes of a run, all or none of them.

        Raises
        ------
        OSError
            If the file was removed, or made read-only, which SQLite does not notice.
        sqlite3.Error
            If they cannot be written.
        """
        found = os.stat(self.path)
        if found.st_ino != self._inode:
            raise FileNotFoundError("another file has taken its place")
        if not found.st_mode & 0o222:
            raise PermissionError("it was made read-only")
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany(
                "INSERT INTO calls VALUES (?, ?, ?)", ((run.id, position, key) for position, key, _ in calls)
            )
            self._connection.executemany(
                "INSERT OR IGNORE INTO arguments VALUES (?, ?)", ((key[:16], pickle) for _, key, pickle in calls)
            )
            now = time.time()
            insert = "INSERT OR IGNORE INTO outcomes (function, key, run, finished, pickle) VALUES (?, ?, ?, ?, ?)"
            small = ((run.function, key, run.id, now, value) for key, value in values if type(value) is bytes)
            self._connection.executemany(insert, small)
            for key, value in values:
                if isinstance(value, Packed):
                    cursor = execute(insert, (run.function, key, run.id, now, None))
                    if cursor.rowcount:  # nobody else was quicker
                        self._connection.executemany(
                            "INSERT INTO pieces (outcome, buffer, data) VALUES (?, ?, ?)",
                            ((cursor.lastrowid, *piece) for piece in _pieces(value)),
                        )
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise

    def find(self, function: int, key: bytes) -> int | None:
        """Return the number of a call's outcome, if there is one."""
        query = "SELECT id FROM outcomes WHERE function = ? AND key = ?"
        row = self._connection.execute(query, (function, key)).fetchone()
        return None if row is None else int(row[0])

    def load(self, outcome: int) -> Packed:
        """Return an outcome, by its number."""
        (pickle,) = self._connection.execute("SELECT pickle FROM outcomes WHERE id = ?", (outcome,)).fetchone()
        if pickle is not None:
            return Packed(pickle)
        buffers: list[bytearray] = []
        query = "SELECT buffer, data FROM pieces WHERE outcome = ? ORDER BY id"
        for buffer, data in self._connection.execute(query, (outcome,)):
            if buffer == len(buffers):
                buffers.append(bytearray())
            buffers[buffer] += data
        return Packed(buffers[0], list(buffers[1:]))

    def last_outcome(self) -> int:
        """Return the number of the latest outcome; 0 if there is none."""
        return self._number("SELECT coalesce(max(id), 0) FROM outcomes")

    def changes(self) -> int:
        """Return a number that is another one after another connection has written."""
        return self._number("PRAGMA data_version")

    def news(self, run: Run, since: int) -> Iterator[tuple[int, bytes]]:
        """Yield number and key of the outcomes of the run's function that other runs wrote, after that of a number."""
        query = "SELECT id, key FROM outcomes WHERE id > ? AND function = ? AND run != ? ORDER BY id"
        yield from self._connection.execute(query, (since, run.function, run.id))

    def count(self, function: int) -> int:
        """Return how many outcomes of a function there are."""
        return self._number("SELECT count(*) FROM outcomes WHERE function = ?", function)

    def count_stale(self, identity: Identity) -> int:
        """Return how many outcomes there are of functions of the same name with another code."""
        query = (
            "SELECT count(*) FROM outcomes WHERE function IN (SELECT id FROM functions WHERE name = ? AND code != ?)"
        )
        return self._number(query, identity.name, identity.code)

    def last_runs(self) -> list[Run]:
        """Return the last run of each function, the latest at the end."""
        query = """
            SELECT max(runs.id), function, name, started, total FROM runs JOIN functions ON functions.id = function
            GROUP BY function ORDER BY 1"""
        return [Run(*row) for row in self._connection.execute(query)]

    def calls(self, run: Run) -> Iterator[tuple[bytes | None, int | None]]:
        """Yield, for each call of a run, the pickle of its arguments, and the number of its outcome; None without."""
        query = """
            SELECT arguments.pickle, outcomes.id FROM calls
            LEFT JOIN arguments ON arguments.digest = substr(calls.key, 1, 16)
            LEFT JOIN outcomes ON outcomes.function = ? AND outcomes.key = calls.key
            WHERE calls.run = ? ORDER BY position"""
        yield from self._connection.execute(query, (run.function, run.id))

    def progress(self, run: Run) -> tuple[int, int]:
        """Return how many calls of a run are finished, and how many are known."""
        query = """
            SELECT count(outcomes.id), count(*) FROM calls
            LEFT JOIN outcomes ON outcomes.function = ? AND outcomes.key = calls.key WHERE calls.run = ?"""
        finished, known = self._connection.execute(query, (run.function, run.id)).fetchone()
        return finished, known

    def latest(self, function: int, count: int) -> list[float]:
        """Return when the latest outcomes of a function came (s since the epoch), the latest first; at most `count`."""
        query = "SELECT finished FROM outcomes WHERE function = ? ORDER BY id DESC LIMIT ?"
        return [when for (when,) in self._connection.execute(query, (function, count))]

    def _number(self, query: str, *parameters: Any) -> int:
        return int(self._connection.execute(query, parameters).fetchone()[0])


def _check_header(path: str) -> bool:
    """Return whether the file is still to be made; raise CheckpointRefused if it is something else."""
    if not os.path.exists(path):
        return True
    if not os.path.isfile(path):
        raise CheckpointRefused(f"{path} is a {'directory' if os.path.isdir(path) else 'special file'}, no checkpoint")
    with open(path, "rb") as file:
        header = file.read(100)
    if not header:
        return True
    if not header.startswith(b"SQLite format 3\0"):
        raise CheckpointRefused(f"{path} is no checkpoint, but {_kind(path, header)}. It was left as it is")
    if int.from_bytes(header[68:72], "big") != _APPLICATION:
        raise CheckpointRefused(f"{path} is a database of another program, no checkpoint. It was left as it is")
    if (version := int.from_bytes(header[60:64], "big")) > _VERSION:
        raise CheckpointRefused(
            f"the checkpoint {path} has format {version}, and this version of the package knows formats up to "
            f"{_VERSION} only. It was left as it is"
        )
    return os.path.exists(f"{path}-journal")  # whoever made it did not finish


def _kind(path: str, header: bytes) -> str:
    if header[:1] == b"\x80" and header[1] <= pickle.HIGHEST_PROTOCOL:
        if b"thread_chunks" in header:
            return "a checkpoint of thread-chunks 1.0.5 (a pickle), which this version does not read"
        return "a pickle"
    return "text" if header.isascii() else "a file of another kind"


def _damaged(path: str, error: BaseException) -> CheckpointRefused:
    return CheckpointRefused(f"the checkpoint {path} is damaged: {error}. It was left as it is")


def _pieces(packed: Packed) -> Iterator[tuple[int, memoryview]]:
    """Cut what was packed into pieces; yield the number of the buffer (0: the pickle itself) with each."""
    for number, buffer in enumerate((packed.data, *packed.buffers)):
        view = memoryview(buffer).cast("B")
        for start in range(0, max(1, len(view)), _PIECE):
            yield number, view[start : start + _PIECE]
