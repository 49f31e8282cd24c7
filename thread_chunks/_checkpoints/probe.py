"""What is at a path, found out without getting in the way of those who use it, and without changing it."""

from __future__ import annotations

import errno
import os
import pickle
import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from urllib.parse import quote

from ..errors import CheckpointRefused

# In the header of the file, which tells it from those of other programs.
APPLICATION = int.from_bytes(b"thck", "big")
VERSION = 1

# How long to wait for another process that writes (s). Its transactions take as long as the values in them; one
# that was suspended in the middle must not hold up the computation.
PATIENCE = 30.0

# So often it is tried to look at a file without getting in the way of those who use it.
_ATTEMPTS = 10

# Files up to this size (bytes) are checked as a whole when they are opened, at some 500 MB/s. Of larger ones,
# only what is read is.
_CHECKED = 64 * 2**20

# A file that was made to take long is given up after so many seconds of CPU time, and so many more for each byte that
# the file has on disk. A sound one needs a tenth of that.
_CHECK_SECONDS = 0.3
_CHECK_SECONDS_PER_BYTE = 1 / 200e6

# So often SQLite asks whether to go on (steps of its machine, of some 20 ns).
STEPS = 10_000

# What may be in the schema: tables and indices of plain columns, which nothing is computed for.
_PLAIN = re.compile(
    r"create\s+table\s+\w+\s*\((?:\s|\w|,|(?:unique|primary\s+key)\s*\([\w\s,]*\))*\)(\s*without\s+rowid)?"
    r"|create\s+(unique\s+)?index\s+\w+\s+on\s+\w+\s*\([\w\s,]*\)",
    re.IGNORECASE,
)
_COMPUTED = re.compile(r"\b(check|as|generated|default|collate)\b", re.IGNORECASE)


def real_path(path: str | os.PathLike[str]) -> str:
    """Return where a file really is: SQLite's files beside it are found only there.

    Raises
    ------
    OSError
        If no file can have that name.
    """
    try:
        name = os.fsdecode(path)
        os.fsencode(name)
        return os.path.realpath(name)
    except ValueError as error:  # a lone surrogate, or a null character
        raise OSError(errno.EINVAL, f"no file can have the name {path!r}: {error}") from error


def uri(path: str, options: str) -> str:
    """Return the name of a file for SQLite, whatever bytes it has."""
    return f"file:{quote(os.fsencode(path))}?{options}"


def guard(path: str, times: int = 1) -> Callable[[], bool]:
    """Return what tells whether this thread has spent more time than it may take to read a file so many times."""
    on_disk = os.stat(path).st_blocks * 512
    deadline = time.thread_time() + times * (_CHECK_SECONDS + _CHECK_SECONDS_PER_BYTE * on_disk)
    return lambda: time.thread_time() > deadline


def look_at(path: str) -> bool:
    """Return whether the file is still to be made; raise CheckpointRefused if it is something else, or damaged."""
    if not os.path.exists(path):
        return True
    if not os.path.isfile(path):
        kind = "directory" if os.path.isdir(path) else "special file"
        raise CheckpointRefused(f"{path} is a {kind}, not a checkpoint")
    if os.stat(path).st_nlink > 1:
        raise CheckpointRefused(
            f"{path} has several hard links. Who opens it by another of its names would not find the log that SQLite "
            "keeps beside it, and damage it: remove the other links, or copy the file. It was left as it is"
        )
    if os.path.getsize(path) == 0:
        return True
    if os.path.exists(f"{path}-journal") and _is_unfinished(path):
        return True
    # A connection that cannot write leaves the file as it is when it is closed. Without a log beside the file, it does
    # not even have to look whether another one writes; and where it cannot do that, as the disk is full, it has to do
    # without the log.
    as_it_is = not _has_log(path)
    for _ in range(_ATTEMPTS):
        try:
            _check(path, "&immutable=1" if as_it_is or os.path.exists(f"{path}-journal") else "")
        except sqlite3.DatabaseError as error:
            is_of_the_system = isinstance(error, sqlite3.OperationalError) and not is_of_the_file(error)
            if str(error) == "interrupted":
                raise CheckpointRefused(
                    f"{path} takes too long to read for what it has. It was left as it is"
                ) from error
            if is_of_the_system and not as_it_is:
                as_it_is = True
            elif is_of_the_system:
                raise OSError(f"the checkpoint {path} cannot be opened: {error}") from error
            elif as_it_is and _has_log(path) and "not a database" not in str(error):  # another one has begun to write
                as_it_is = False
            elif "not a database" in str(error):
                text = f"{path} is not a checkpoint: it is {_kind(path)}. It was left as it is"
                raise CheckpointRefused(text) from error
            else:
                raise CheckpointRefused(f"the checkpoint {path} is damaged: {error}. It was left as it is") from error
        else:
            return False
    raise OSError(f"the checkpoint {path} cannot be opened: others begin and end to write to it all the time")


def is_of_the_file(error: sqlite3.OperationalError) -> bool:
    """Return whether what SQLite could not do is the fault of what is in the file."""
    return str(error).startswith(("no such", "Could not decode", "interrupted"))


def _has_log(path: str) -> bool:
    try:
        return os.path.getsize(f"{path}-wal") > 0
    except FileNotFoundError:
        return False


def _is_unfinished(path: str) -> bool:
    """Return whether the process that makes the file has not finished, or was killed; its journal is there."""
    with closing(sqlite3.connect(uri(path, "mode=ro&immutable=1"), uri=True)) as connection:
        try:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.DatabaseError as error:
            return "not a database" not in str(error)  # only a part of it was written
    return bool(application == APPLICATION)


def _check(path: str, options: str) -> None:
    connection = sqlite3.connect(uri(path, f"mode=ro{options}"), timeout=PATIENCE, uri=True)
    with closing(connection):
        connection.set_progress_handler(guard(path), STEPS)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION:
            raise CheckpointRefused(f"{path} is a database of another program, not a checkpoint. It was left as it is")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise CheckpointRefused(
                f"the checkpoint {path} has format {version}, and this version of the package knows formats up to "
                f"{VERSION} only. It was left as it is"
            )
        _check_schema(path, connection)
        if os.path.getsize(path) <= _CHECKED:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)


def _check_schema(path: str, connection: sqlite3.Connection) -> None:
    """Raise CheckpointRefused if there is something that computes: a view, a trigger, a condition of a column."""
    for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master"):
        is_plain = sql is None or (isinstance(sql, str) and _PLAIN.fullmatch(sql.strip()) and not _COMPUTED.search(sql))
        if kind not in ("table", "index") or not is_plain:
            raise CheckpointRefused(f"{path} has a {kind} {name!r} that checkpoints do not have. It was left as it is")
    connection.execute("SELECT 1 FROM functions, runs, calls, outcomes, pieces LIMIT 0").fetchone()


def _kind(path: str) -> str:
    with open(path, "rb") as file:  # which is no database, so no process has locks on it
        header = file.read(100)
    if header[:1] == b"\x80" and header[1] <= pickle.HIGHEST_PROTOCOL:
        if b"thread_chunks" in header:
            return "a checkpoint of thread-chunks 1.0.5 (a pickle), which this version does not read"
        return "a pickle"
    if header.startswith(b"SQLite"):
        return "a database of another program, or a damaged one"
    return "text" if header.isascii() else "a file of another kind"
