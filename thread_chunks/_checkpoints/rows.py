"""What of calls, values and failures goes into a checkpoint file."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .._calls.calls import Arguments, parts_of
from .._wire.pickling import PLAIN, Packed, describe, pack, unpack
from ..errors import PicklingFailed, UnpicklingFailed
from .hashing import hash_of

# Larger pickles (bytes), and the buffers beside them, are cut into pieces: SQLite copies what it is given, and
# has a limit of 10^9 bytes.
_PIECE = 4 * 2**20

# Arguments whose pickle is larger (bytes) are not kept: only who looks into the file would ever read them.
_LARGEST_ARGUMENTS = 16 * 1024

# Position in the run, key, and the pickle of the arguments.
CallRow = tuple[int, bytes, bytes | None]

# The key of a call, and its value: the pickle if it is small.
ValueRow = tuple[bytes, bytes | Packed]

# The key of a call that failed, its arguments in short, and its error, a line each.
FailureRow = tuple[bytes, str, str]

# The key of a call that took long, its arguments in short, and its duration (s).
SlowRow = tuple[bytes, str, float]

# What Python says of a name that the script of a pickle had, and this one has not.
_MISSING = re.compile(r"module '__main__'.* has no attribute '(\S+)'|get attribute '(\S+)' on <module '__main__'")

# An error is cut to so many characters.
_LONGEST_ERROR = 300


@dataclass(slots=True)
class Rows:
    """Rows that are written together; `size` is that of the pickles in them (bytes)."""

    calls: list[CallRow] = field(default_factory=list)
    values: list[ValueRow] = field(default_factory=list)
    failures: list[FailureRow] = field(default_factory=list)
    slow: list[SlowRow] = field(default_factory=list)
    size: int = 0

    def __len__(self) -> int:
        return len(self.calls) + len(self.values) + len(self.failures) + len(self.slow)

    def extend(self, other: Rows) -> None:
        """Add other rows."""
        self.calls.extend(other.calls)
        self.values.extend(other.values)
        self.failures.extend(other.failures)
        self.slow.extend(other.slow)
        self.size += other.size


def failure_row(key: bytes, call: str, error: BaseException) -> FailureRow:
    """Return what to write for a call that failed."""
    text = " ".join(describe(error)[: 2 * _LONGEST_ERROR].split())
    if len(text) > _LONGEST_ERROR:
        text = f"{text[: _LONGEST_ERROR - 3]}..."
    return key, encodable(call), encodable(text)


def encodable(text: str) -> str:
    """Return a text without lone surrogates, which SQLite refuses."""
    return text.encode("utf-8", "backslashreplace").decode()


def make_key(digest: bytes, draw: int) -> bytes:
    """Return the key of the call that is the `draw`-th (from 0 on) with arguments of this digest."""
    return digest + draw.to_bytes(4, "big")


def to_row(value: Any, packed: Packed | None = None) -> bytes | Packed:
    """Return what to write for a value; `packed` is what it was made from, if it came from a worker.

    Raises
    ------
    PicklingFailed
        If it cannot be kept.
    """
    if packed is None and type(value) in PLAIN:
        packed = Packed(pickle.dumps(value, 5))
    elif packed is None:
        packed = pack(value, by_file=False)
        packed.buffers = [bytes(buffer) for buffer in packed.buffers]  # they are the value's, which may change
    if packed.references:
        raise PicklingFailed(f"an object of type {packed.kind!r} refers to the cluster")
    if packed.buffers or memoryview(packed.data).nbytes > _PIECE:
        return packed
    return bytes(packed.data)


def from_row(packed: Packed) -> Any:
    """Return a value, or the arguments, that `to_row` made this of.

    Raises
    ------
    UnpicklingFailed
        If it cannot be made again. The message names a class of `__main__` that is not there.
    """
    try:
        return unpack(packed, sole=True)
    except UnpicklingFailed as error:
        missing = _MISSING.search(str(error))
        if missing is None:
            raise
        name = next(filter(None, missing.groups()))
        raise UnpicklingFailed(
            f"the class {name!r} was defined by the script that wrote it, and is not defined here. Define it in a "
            "module that both scripts import, or in this script before loading"
        ) from error.__cause__


def digest_of(args: Arguments) -> bytes:
    """Return the digest of a call's arguments.

    Raises
    ------
    TypeError
        If they have none.
    """
    positional, extras = parts_of(args)
    if not extras.keywords:
        digest = bytes.fromhex(hash_of(positional))
    else:
        digest = _md5(b"keywords " + hash_of((positional, extras.keywords)).encode())
    return with_seed(digest, extras.seed)


def with_seed(digest: bytes, seed: int | None) -> bytes:
    """Return the digest of arguments with that seed, which decides on a call's value as they do."""
    return digest if seed is None else _md5(b"seed %d " % seed + digest)


def digest_of_key(key: str) -> bytes:
    """Return the digest that stands for a call's arguments where the user's key does."""
    return _md5(b"key " + key.encode("utf-8", "surrogatepass"))


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def to_bytes(args: Arguments) -> bytes | None:
    """Return the pickle of a call's arguments, for who looks into the file; None if they are large, or Ray's.

    A tuple, or a dict where there are arguments by keyword. Its keys are their names, and the places of those before.
    """
    if PLAIN.issuperset(map(type, args)):
        row: bytes | Packed = pickle.dumps(args, 5)
    else:
        positional, extras = parts_of(args)
        try:
            row = to_row({**dict(enumerate(positional)), **extras.keywords} if extras.keywords else positional)
        except PicklingFailed:
            return None
    return row if isinstance(row, bytes) and len(row) <= _LARGEST_ARGUMENTS else None


def cut(packed: Packed) -> Iterator[tuple[int, memoryview]]:
    """Cut what was packed into pieces; yield the number of the buffer (0: the pickle itself) with each."""
    for number, buffer in enumerate((packed.data, *packed.buffers)):
        view = memoryview(buffer).cast("B")
        for start in range(0, max(1, len(view)), _PIECE):
            yield number, view[start : start + _PIECE]
