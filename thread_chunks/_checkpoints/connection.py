"""A connection to a checkpoint file: transactions, patience with other processes, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import CheckpointRefused
from .probe import PATIENCE, STEPS, guard, is_of_the_file, uri

_T = TypeVar("_T")

# How a file is opened: to be made and written to; to be read, with the log beside it; to be read without the log, and
# without a lock, where no program writes; not at all, but a database in memory in its place.
WRITING, READING, FROZEN, NOTHING = "mode=rwc", "mode=ro", "mode=ro&immutable=1", "mode=memory"

# How long SQLite waits by itself (s), when no signal is handled.
_NAP = 0.1

# A look at a file may take as long as reading it so many times, and so much memory (KiB). To find a million calls takes
# some 2 s, and twice that with the 2 MiB that SQLite takes by default.
_LOOK = 10
_CACHE = 100 * 1024


class Connection:
    """A connection to a file, for one thread at a time.

    Parameters
    ----------
    path : str
        The file, which is there unless the options make it.
    options : str
        How it is opened: one of `WRITING`, `READING`, `FROZEN`, `NOTHING`.

    Each method raises OSError if the system, or another process, is in the way, and CheckpointRefused if the
    file turns out to be damaged.
    """

    def __init__(self, path: str, options: str = WRITING) -> None:
        self.path = path
        self.read_only = options != WRITING
        self._pid = os.getpid()
        name = uri(path, options)
        try:
            self._connection = sqlite3.connect(
                name, timeout=_NAP, isolation_level=None, check_same_thread=False, uri=True
            )
        except sqlite3.OperationalError as error:
            raise OSError(f"the checkpoint {path} cannot be opened: {error}") from error
        self._inode = os.stat(path).st_ino

    def close(self) -> None:
        """Close the connection."""
        if os.getpid() == self._pid:  # in a forked child it is the parent's
            self._connection.close()

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Refuse a file, within, that takes far more CPU time than one of its size can."""
        self._row(f"PRAGMA cache_size = -{_CACHE}")
        self._connection.set_progress_handler(guard(self.path, _LOOK), STEPS)
        try:
            yield
        finally:
            self._connection.set_progress_handler(None, 0)

    def _has_table(self, name: str) -> bool:
        return self._row("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", name) is not None

    def _whole(self, number: Any) -> int:
        if type(number) is not int:
            raise self._damaged("a text is where a number should be")
        return number

    def _transaction(self, kind: str) -> _Transaction:
        return _Transaction(self._connection, kind)

    def _try(self, action: Callable[[], _T]) -> _T:
        """Return what `action` does, as soon as no other process is in its way."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return action()
            except sqlite3.OperationalError as error:
                text = str(error)
                if "locked" not in text or time.monotonic() > deadline:
                    if is_of_the_file(error):
                        raise self._damaged(error) from error
                    raise OSError(f"the checkpoint {self.path} cannot be used: {error}") from error
            except sqlite3.DatabaseError as error:
                if type(error) is not sqlite3.DatabaseError:  # but one of its kinds, as of a mistake of ours
                    raise
                raise self._damaged(error) from error

    def _rows(self, query: str, *parameters: Any) -> list[Any]:
        return self._try(lambda: self._connection.execute(query, parameters).fetchall())

    def _row(self, query: str, *parameters: Any) -> Any:
        return self._try(lambda: self._connection.execute(query, parameters).fetchone())

    def _number(self, query: str, *parameters: Any) -> int:
        return int(self._row(query, *parameters)[0])

    def _damaged(self, reason: object) -> CheckpointRefused:
        return CheckpointRefused(f"the checkpoint {self.path} is damaged: {reason}. It was left as it is")


@dataclass(slots=True)
class _Transaction:
    """All or nothing of what is executed within; entered only once it is this connection's turn to write."""

    connection: sqlite3.Connection
    kind: str

    def __enter__(self) -> None:
        self.connection.execute(f"BEGIN {self.kind}")

    def __exit__(self, exc_type: object, *_: object) -> None:
        try:
            if exc_type is None:
                self.connection.execute("COMMIT")
        finally:
            if self.connection.in_transaction:  # it failed; where the disk is full, SQLite has ended it by itself
                self.connection.execute("ROLLBACK")
