"""The file that a checkpoint is: an SQLite database, and all that is asked of it.

::

   functions   id, name, code, bound               an `Identity`
   parts       function, what, digest              what its `code` is made of; older versions did not write these
   runs        id, function, started, total        one for each series
   calls       run, position, key, pickle          what a run consists of, with the arguments if they are small
   outcomes    id, function, key, run, finished, crc, pickle
   pieces      id, outcome, buffer, crc, data      of outcomes that are large, whose `pickle` is NULL
   titles      function, title                     of lambdas: the function within; not in every file
   begun       run, calls                          of runs that were written as a whole; not in every file
   failures    function, key, run, call, error, failed, times
                                                   of calls that failed: last run, arguments and last error in short,
                                                   when that was, and how often; not in every file
   slowest     function, key, call, seconds        the calls of each function that took longest; not in every file

The *key* of a call is the digest of its arguments (16 bytes) and how many calls of its run before it had
the same ones (4 bytes). No value is ever changed or removed. A function that an older version wrote gets the
`code` of the first one that takes its values. A failure counts only while the call has no outcome; the next run removes
it. Many processes may read and write at the same time.

While SQLite has the file open, nothing in the process may open it otherwise: to close it again would end
SQLite's locks, and let another process take the file for unused.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

from .._wire.pickling import Packed
from ..errors import CheckpointRefused
from .connection import Connection
from .identity import Identity
from .probe import APPLICATION, VERSION
from .rows import Rows, cut
from .schema import BEGUN, FAILURES, PARTS, SCHEMA, SLOWEST, TITLES

# Size of the file's pages (bytes), the largest that SQLite has. With 32 KiB large values take twice the time; small
# transactions take no longer.
_PAGE = 64 * 1024

# So many of the slowest calls of each function are kept.
SLOWEST_KEPT = 3

_HAS_OUTCOME = """
    EXISTS (SELECT 1 FROM outcomes WHERE outcomes.function = failures.function AND outcomes.key = failures.key)"""


@dataclass(slots=True, frozen=True)
class Run:
    """A series that used a file, and what its function is called; `total` is None while its length is not known.

    `is_older` is whether a later run was of a function of that name with another code.
    """

    id: int
    function: int
    name: str
    started: float
    total: int | None
    is_older: bool = False


@dataclass(slots=True, frozen=True)
class Failure:
    """A call that failed: its arguments and its last error in short, when that was (s since the epoch), how often."""

    call: str
    error: str
    failed: float
    times: int


@dataclass(slots=True, frozen=True)
class Slow:
    """A call that took long: its arguments in short, and its duration (s)."""

    call: str
    seconds: float


class Store(Connection):
    """A connection to a checkpoint file that `open_store` has seen, for one thread at a time.

    One that is `read_only` can be had where SQLite cannot make the files that it needs beside this one, if no process
    writes at the same time.

    Each method raises OSError if the system, or another process, is in the way, and CheckpointRefused if the
    file turns out to be damaged.
    """

    def prepare(self, *, create: bool) -> None:
        """Make the tables if they are to be made, and see to it that readers and writers do not wait for each other."""
        self._try(lambda: self._prepare(create))

    def _prepare(self, create: bool) -> None:
        if create:
            self._connection.execute(f"PRAGMA page_size = {_PAGE}")
            # In one transaction of the older kind of journal, so that the file is all there or empty.
            with self._transaction("EXCLUSIVE"):
                if self._number("SELECT count(*) FROM sqlite_master") == 0:  # no other process was quicker
                    for statement in SCHEMA.split(";"):
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA application_id = {APPLICATION}")
                    self._connection.execute(f"PRAGMA user_version = {VERSION}")
            if self._number("PRAGMA application_id") != APPLICATION:
                raise CheckpointRefused(f"{self.path} is a database of another program, not a checkpoint")
        if not self.read_only and self._row("PRAGMA journal_mode") != ("wal",):
            self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
        self._number("SELECT count(*) FROM functions")  # which needs the files beside it

    def add_run(self, identity: Identity, total: int | None) -> Run:
        """Note that a function is run, `total` times if that is known."""

        def add() -> Run:
            with self._transaction("IMMEDIATE"):
                return self._add_run(identity, total)

        return self._try(add)

    def _add_run(self, identity: Identity, total: int | None) -> Run:
        self._connection.execute(PARTS)
        if self._has_table("failures"):
            self._connection.execute(f"DELETE FROM failures WHERE {_HAS_OUTCOME}")
        function = self._number_of(identity)
        if function is None and (function := self.unclaimed(identity)) is not None:
            self._connection.execute("UPDATE functions SET code = ? WHERE id = ?", (identity.code, function))
        if function is None:
            names = (identity.name, identity.code, identity.bound)
            insert = "INSERT INTO functions (name, code, bound) VALUES (?, ?, ?)"
            function = self._connection.execute(insert, names).lastrowid
            assert function is not None
        parts = [(function, *part) for part in identity.parts]
        self._connection.executemany("INSERT OR IGNORE INTO parts VALUES (?, ?, ?)", parts)
        if identity.title:
            self._connection.execute(TITLES)
            self._connection.execute("INSERT OR IGNORE INTO titles VALUES (?, ?)", (function, identity.title))
        row = (function, time.time(), total)
        run = self._connection.execute("INSERT INTO runs (function, started, total) VALUES (?, ?, ?)", row).lastrowid
        assert run is not None
        return Run(run, function, identity.title or identity.name, *row[1:])

    def set_total(self, run: Run, total: int) -> None:
        """Note how long a run was, which was not known when it began."""
        query = "UPDATE runs SET total = ? WHERE id = ? AND total IS NULL"
        self._try(lambda: self._connection.execute(query, (total, run.id)))

    def add_finished(self, identity: Identity, rows: Rows, begun: int) -> None:
        """Write a whole run, of which so many calls were begun, all or nothing."""

        def add() -> None:
            with self._transaction("IMMEDIATE"):
                run = self._add_run(identity, len(rows.calls))
                self._write(run, rows)
                self._connection.execute(BEGUN)
                self._connection.execute("INSERT INTO begun VALUES (?, ?)", (run.id, begun))

        self._try(add)

    def write(self, run: Run, rows: Rows) -> None:
        """Write rows of a run, all or none of them.

        FileNotFoundError is raised if the file is not at its place any more, with all that was written to it.
        """

        def write() -> None:
            with self._transaction("IMMEDIATE"):
                self._write(run, rows)

        # SQLite does not notice these: what it has open, it can write to.
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            raise FileNotFoundError("the file was deleted") from None
        if found.st_ino != self._inode:
            raise FileNotFoundError("the file was deleted, and another one has taken its place")
        if not found.st_mode & 0o222:
            raise PermissionError("it was made read-only")
        self._try(write)

    def _write(self, run: Run, rows: Rows) -> None:
        self._connection.executemany("INSERT INTO calls VALUES (?, ?, ?, ?)", ((run.id, *call) for call in rows.calls))
        now = time.time()
        insert = "INSERT OR IGNORE INTO outcomes (function, key, run, finished, crc, pickle) VALUES (?, ?, ?, ?, ?, ?)"
        self._connection.executemany(
            insert,
            ((run.function, key, run.id, now, crc32(row), row) for key, row in rows.values if isinstance(row, bytes)),
        )
        for key, row in rows.values:
            if isinstance(row, Packed):
                cursor = self._connection.execute(insert, (run.function, key, run.id, now, None, None))
                if cursor.rowcount:  # no other process was quicker
                    self._connection.executemany(
                        "INSERT INTO pieces (outcome, buffer, crc, data) VALUES (?, ?, ?, ?)",
                        ((cursor.lastrowid, number, crc32(piece), piece) for number, piece in cut(row)),
                    )
        if rows.failures:
            self._connection.execute(FAILURES)
            insert = """
                INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?, 1) ON CONFLICT DO UPDATE
                SET run = excluded.run, call = excluded.call, error = excluded.error, failed = excluded.failed,
                times = times + 1"""
            failures = ((run.function, key, run.id, call, error, now) for key, call, error in rows.failures)
            self._connection.executemany(insert, failures)
        if rows.slow:
            self._connection.execute(SLOWEST)
            insert = "INSERT OR REPLACE INTO slowest VALUES (?, ?, ?, ?)"
            self._connection.executemany(insert, ((run.function, *slow) for slow in rows.slow))
            surplus = """
                DELETE FROM slowest WHERE function = ? AND key NOT IN
                (SELECT key FROM slowest WHERE function = ? ORDER BY seconds DESC LIMIT ?)"""
            self._connection.execute(surplus, (run.function, run.function, SLOWEST_KEPT))

    def function(self, identity: Identity) -> int | None:
        """Return the number of a function, if there is anything of it."""
        found = self._number_of(identity)
        return self.unclaimed(identity) if found is None else found

    def unclaimed(self, identity: Identity) -> int | None:
        """Return the number of a function that an older version wrote, who did not note what it uses by name.

        The first function that asks gets its values, once the next run is added.
        """
        found = self._number_of(replace(identity, code=identity.own_code))
        return None if found is None or found == self._number_of(identity) or self.parts(found) else found

    def _number_of(self, identity: Identity) -> int | None:
        query = "SELECT id FROM functions WHERE name = ? AND code = ? AND bound = ?"
        row = self._row(query, identity.name, identity.code, identity.bound)
        return None if row is None else int(row[0])

    def parts(self, function: int) -> dict[str, str]:
        """Return what a function's code is made of; nothing if an older version wrote it."""
        if not self._has_table("parts"):
            return {}
        return dict(self._rows("SELECT what, digest FROM parts WHERE function = ?", function))

    def find(self, function: int, key: bytes) -> int | None:
        """Return the number of a call's outcome, if there is one."""
        row = self._row("SELECT id FROM outcomes WHERE function = ? AND key = ?", function, key)
        return None if row is None else int(row[0])

    def fetch(self, function: int, key: bytes) -> Packed | None:
        """Return the outcome of a call, if there is one."""
        row = self._row("SELECT id, crc, pickle FROM outcomes WHERE function = ? AND key = ?", function, key)
        if row is None:
            return None
        outcome, crc, data = row
        return self.load(self._whole(outcome)) if data is None else Packed(self._intact(crc, data))

    def load(self, outcome: int) -> Packed:
        """Return an outcome, by its number."""
        row = self._row("SELECT crc, pickle FROM outcomes WHERE id = ?", outcome)
        if row is not None and row[1] is not None:
            return Packed(self._intact(*row))
        buffers: list[bytearray] = []
        query = "SELECT buffer, crc, data FROM pieces WHERE outcome = ? ORDER BY id"
        for buffer, crc, data in self._rows(query, outcome):
            if not self._whole(buffer) <= len(buffers):
                raise self._damaged("a value is not what was written")
            if buffer == len(buffers):
                buffers.append(bytearray())
            buffers[buffer] += self._intact(crc, data)
        if not buffers:
            raise self._damaged(f"outcome {outcome} is not there")
        return Packed(buffers[0], list(buffers[1:]))

    def last_outcome(self) -> int:
        """Return the number of the latest outcome; 0 without any."""
        return self._number("SELECT coalesce(max(id), 0) FROM outcomes")

    def changes(self) -> int:
        """Return a number that is another one after another connection has written."""
        return self._number("PRAGMA data_version")

    def has_news(self, run: Run, since: int) -> bool:
        """Return whether other runs of the run's function have written outcomes after that of a number."""
        query = "SELECT EXISTS (SELECT 1 FROM outcomes WHERE id > ? AND function = ? AND run != ?)"
        return bool(self._number(query, since, run.function, run.id))

    def count(self, function: int) -> int:
        """Return how many outcomes of a function there are."""
        return self._number("SELECT count(*) FROM outcomes WHERE function = ?", function)

    def stale(self, identity: Identity) -> list[tuple[int, int]]:
        """Return functions of the same name with another code that have outcomes, and how many; the latest first."""
        query = """
            SELECT function, count(*) FROM outcomes
            WHERE function IN (SELECT id FROM functions WHERE name = ? AND code != ?)
            GROUP BY function ORDER BY max(id) DESC"""
        return self._rows(query, identity.name, identity.code)

    def last_runs(self) -> list[Run]:
        """Return the last run of each function, the latest at the end."""
        query = """
            SELECT max(runs.id), function, name, started, total, code FROM runs
            JOIN functions ON functions.id = function GROUP BY function ORDER BY 1"""
        rows = self._rows(query)
        codes = {name: code for _, _, name, _, _, code in rows}  # those of the latest runs
        runs = [replace(self._run(*row), is_older=code != codes[row[2]]) for *row, code in rows]
        titles = dict(self._rows("SELECT function, title FROM titles")) if self._has_table("titles") else {}
        if not set(map(type, titles.values())) <= {str}:
            raise self._damaged("a name is not what was written")
        return [replace(run, name=titles.get(run.function, run.name)) for run in runs]

    def calls(self, run: Run) -> Iterator[tuple[bytes | None, int | None]]:
        """Yield, for each call of a run, the pickle of its arguments, and the number of its outcome; None without."""
        query = """
            SELECT calls.pickle, outcomes.id FROM calls
            LEFT JOIN outcomes ON outcomes.function = ? AND outcomes.key = calls.key
            WHERE calls.run = ? ORDER BY position"""
        for data, outcome in self._rows(query, run.function, run.id):
            if not (data is None or type(data) is bytes):
                raise self._damaged("arguments are not what was written")
            yield data, outcome

    def begun(self, run: Run) -> int | None:
        """Return how many calls of a run were begun, if it was written as a whole and says so."""
        if not self._has_table("begun"):
            return None
        row = self._row("SELECT calls FROM begun WHERE run = ?", run.id)
        return None if row is None else self._whole(row[0])

    def finished(self, run: Run) -> tuple[int, float | None]:
        """Return how many calls of a run are finished, and when the last value of them came (s since the epoch)."""
        query = """
            SELECT count(*), max(finished) FROM calls
            JOIN outcomes ON outcomes.function = ? AND outcomes.key = calls.key WHERE calls.run = ?"""
        count, last = self._row(query, run.function, run.id)
        if type(last) is not float and count:
            raise self._damaged("a time is not what was written")
        return count, last

    def failures(self, run: Run, count: int) -> tuple[int, list[Failure]]:
        """Return how many calls failed in a run and have no value, and the last ones of them; at most `count`."""
        if not self._has_table("failures"):
            return 0, []
        query = f"""
            SELECT count(*) OVER (), call, error, failed, times FROM failures
            WHERE function = ? AND run = ? AND NOT {_HAS_OUTCOME} ORDER BY failed DESC LIMIT ?"""
        rows = self._rows(query, run.function, run.id, count)
        for _, call, error, when, times in rows:
            is_sound = type(call) is type(error) is str and type(when) is float and math.isfinite(when)
            if not is_sound or self._whole(times) < 1:
                raise self._damaged("a failure is not what was written")
        return rows[0][0] if rows else 0, [Failure(*row) for _, *row in rows]

    def slowest(self, function: int) -> list[Slow]:
        """Return those calls of a function that took longest, the slowest first."""
        if not self._has_table("slowest"):
            return []
        query = "SELECT call, seconds FROM slowest WHERE function = ? ORDER BY seconds DESC LIMIT ?"
        rows = self._rows(query, function, SLOWEST_KEPT)
        for call, seconds in rows:
            if not (type(call) is str and type(seconds) is float and 0 <= seconds < math.inf):
                raise self._damaged("a duration is not what was written")
        return [Slow(*row) for row in rows]

    def latest(self, function: int, count: int) -> list[float]:
        """Return when the latest outcomes of a function came (s since the epoch), the latest first; at most `count`."""
        query = "SELECT finished FROM outcomes WHERE function = ? ORDER BY id DESC LIMIT ?"
        times = [when for (when,) in self._rows(query, function, count)]
        if not set(map(type, times)) <= {float}:
            raise self._damaged("a time is not what was written")
        return times

    def _run(self, number: Any, function: Any, name: Any, started: Any, total: Any) -> Run:
        is_sound = type(name) is str and type(started) is float and math.isfinite(started)
        if not is_sound or not (total is None or (type(total) is int and total >= 0)):
            raise self._damaged("a run is not what was written")
        return Run(self._whole(number), self._whole(function), name, started, total)

    def _intact(self, crc: int | None, data: bytes) -> bytes:
        if type(data) is not bytes or crc32(data) != crc:
            raise self._damaged("a value is not what was written")
        return data
