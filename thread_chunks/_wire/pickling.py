"""Calls and outcomes to bytes and buffers, and back.

What Ray itself would pickle arrives read-only, and its errors wrapped. So everything of the
user's is pickled here, and Ray only carries the bytes:

* plain pickle first, as the standard library; cloudpickle where that fails, and for all that
  belongs to ``__main__``, which no worker can import;
* large buffers out of band, so that Ray moves them through shared memory; writable on arrival;
* each call and each value in a pickle of its own, made the moment it is needed: one bad object
  fails alone, and nothing that two calls share arrives as one object. Only immutable plain
  values share a pickle, since that makes no difference (`PLAIN`). That is what makes no-ops fast.
"""

from __future__ import annotations

import io
import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import cloudpickle

from ..errors import PicklingFailed, RemoteTraceback, UnpicklingFailed
from .exceptions import reduce_exception
from .files import MARK, is_memory_map
from .homes import find_homes
from .mapped import Mapped, mappings
from .reducing import Key, Reducer, named

PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None)})

# From this size (bytes) on, a buffer travels out of band. Smaller ones are cheaper to copy than
# to account for; larger ones would be copied once more for nothing.
OUT_OF_BAND = 64 * 1024

# A pickle contains the names of the modules and classes that it refers to. So a search of its
# bytes (some GB/s) finds out what else a walk through the object would have to. A false alarm
# costs time and nothing else.
_SMALL_PICKLE = 256  # a digest takes longer than to compare so many bytes
_MARKS_OF_REFERENCES = (b"ObjectRef", b"ActorHandle")


@dataclass(slots=True, eq=False)
class Packed:
    """One pickled object: its pickle, its large buffers, the references in it, its type's name.

    A reference is paired with whether it arrives as its value. A buffer may be in a file, or be the value of a
    reference: then a `Mapped`, or the place among the references, stands for it. `uses` are the globals that have to be
    where it arrives, `objects` those that stand for a part of it.
    """

    data: Any  # bytes, or a PickleBuffer of them where they are many
    buffers: list[Any] = field(default_factory=list)
    references: list[tuple[Any, bool]] = field(default_factory=list)
    kind: str = ""
    uses: frozenset[Key] = frozenset()
    objects: frozenset[Key] = frozenset()

    @property
    def size(self) -> int:
        """How many bytes it has, without those of buffers that are elsewhere."""
        return sum(memoryview(part).nbytes for part in (self.data, *self.buffers) if type(part) not in _ELSEWHERE)

    def replace_buffers(self, shipped_for: Callable[[memoryview], Any]) -> None:
        """Replace its buffers by what is shipped for them, a `Mapped` or a reference; None leaves one where it is."""
        for place, buffer in enumerate(self.buffers):
            shipped = shipped_for(buffer.raw())
            if type(shipped) is Mapped:
                self.buffers[place] = shipped
            elif shipped is not None:
                self.buffers[place] = len(self.references)
                self.references.append((shipped, True))


_ELSEWHERE = (int, Mapped)


class _NoReference:
    pass


@dataclass(slots=True, frozen=True)
class References:
    """What refers to something in the cluster.

    Instances of `of_values` stand for a value, which `resolve` gets. Those of `others` only have to be
    carried by Ray, which counts them.
    """

    of_values: type = _NoReference
    others: tuple[type, ...] = ()
    resolve: Callable[[Any], Any] = lambda reference: reference


_NO_REFERENCES = References()
_found: References | None = None
_find: Callable[[], References | None] | None = None  # None: nothing knows Ray


def find_references_by(find: Callable[[], References | None]) -> None:
    """Let the room that knows Ray say what references are; `find` returns None as long as there can be none."""
    global _find
    _find = find


def references() -> References:
    """Return what refers to something in the cluster."""
    global _found
    if _found is None and _find is not None:
        _found = _find()
    return _NO_REFERENCES if _found is None else _found


@dataclass(slots=True)
class Argument:
    """Mark a reference that is an argument by itself: it arrives as its value."""

    reference: Any


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """The slow and thorough one: by value where need be, and references handed to Ray."""

    def __init__(self, file: Any, packed: Packed, reducer: Reducer) -> None:
        super().__init__(file, protocol=5, buffer_callback=_keeper(packed.buffers))
        self._references = packed.references
        known = references()
        self._carried = (known.of_values, *known.others)
        self._reducer = reducer

    def persistent_id(self, obj: Any) -> Any:
        if (key := self._reducer.global_of(obj)) is not None:
            return key
        # By `type`, here as elsewhere: an object may lie about its `__class__`, or raise.
        if type(obj) is Argument:
            self._references.append((obj.reference, True))
        elif issubclass(type(obj), self._carried):
            self._references.append((obj, False))
        else:
            return None
        return len(self._references) - 1

    def reducer_override(self, obj: Any) -> Any:
        if issubclass(type(obj), BaseException) and (reduced := reduce_exception(obj)):
            return reduced
        if issubclass(type(obj), Future):
            raise TypeError("a future stays in its process. Pass future.result(), or the future itself to `submit`")
        return self._reducer.reduce(obj, super().reducer_override, self._reduce_plainly)

    def _reduce_plainly(self, obj: Any) -> Any:
        reduce = self.dispatch_table.get(type(obj))
        return obj.__reduce_ex__(5) if reduce is None else reduce(obj)


class _Unpickler(pickle.Unpickler):
    """Put back the references that `_Pickler` took out."""

    def __init__(self, data: Any, buffers: list[Any], referents: list[Any]) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self._referents = referents

    def persistent_load(self, pid: Any) -> Any:
        return self._referents[pid] if type(pid) is int else named(*pid)


def pack(obj: Any, reducer: Reducer | None = None, *, by_file: bool = True) -> Packed:
    """Pickle `obj`.

    Parameters
    ----------
    reducer : Reducer, optional
        Of what belongs to ``__main__``. By default, what cannot be pickled is an error.
    by_file : bool, default: True
        Whether a memory map of a file travels by the file's path. Not where the pickle is to last.

    Raises
    ------
    PicklingFailed
        Whatever the reason, with the reason as its cause.
    """
    packed = Packed(b"", kind=type(obj).__qualname__)
    try:
        packed.data = _pickle(obj, _keeper(packed.buffers), by_file=by_file)
        done = not any(mark in packed.data for mark in (*map(str.encode, find_homes()), *_MARKS_OF_REFERENCES))
    except BaseException:  # cloudpickle may know how, and if not, says why
        done = False
    if not done:
        _pack_thoroughly(obj, packed, reducer or Reducer(by_file=by_file))
    _end(packed)
    return packed


_has_met_files = False  # whether a memory map has been in what was pickled


class _FileMet(Exception):
    """There is a memory map in what is pickled."""


class _Stopping(pickle.Pickler):
    """The quick one, which stops at the first memory map, before it copies the contents."""

    def reducer_override(self, obj: Any) -> Any:
        if is_memory_map(obj):
            raise _FileMet
        return NotImplemented


def _pickle(obj: Any, callback: Callable[[pickle.PickleBuffer], Any], *, by_file: bool) -> bytes:
    """Return the plain pickle of an object; raise `_FileMet` if a memory map in it needs another."""
    global _has_met_files
    if by_file and _has_met_files:  # else not, as it costs time for each object
        file = io.BytesIO()
        _Stopping(file, 5, buffer_callback=callback).dump(obj)
        return file.getvalue()
    data = pickle.dumps(obj, 5, buffer_callback=callback)
    if by_file and MARK in data:
        _has_met_files = True
        raise _FileMet
    return data


def _end(packed: Packed) -> None:
    if len(packed.data) >= OUT_OF_BAND:
        packed.data = pickle.PickleBuffer(packed.data)


def _pack_thoroughly(obj: Any, packed: Packed, reducer: Reducer) -> None:
    packed.buffers.clear()
    file = io.BytesIO()
    try:
        _Pickler(file, packed, reducer).dump(obj)
    except BaseException as error:
        raise PicklingFailed(f"an object of type {packed.kind!r} cannot be pickled: {describe(error)}") from error
    packed.data = file.getvalue()
    packed.uses, packed.objects = frozenset(reducer.uses), frozenset(reducer.objects)


def pack_stream(items: Iterable[Any], reducer: Reducer, limit: int | None = None) -> Packed:
    """Pickle one object after the other; what two of them share is still shared on arrival.

    Raises
    ------
    Exception
        As it comes. With a `limit`, `OverflowError` if there are more bytes, or if there is a reference to the cluster:
        that may be of a session that is over, which only a call that uses it should learn.
    """
    packed = Packed(b"", kind="globals")
    file = io.BytesIO() if limit is None else _Limited(limit)
    pickler = _Pickler(file, packed, reducer)
    for item in items:
        pickler.dump(item)
        if limit is not None and (packed.size > limit or packed.references):
            raise OverflowError
    packed.data = file.getvalue()
    _end(packed)
    return packed


class _Limited(io.BytesIO):
    """Take so many bytes and no more."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._limit:
            raise OverflowError
        return super().write(data)


def resolved(obj: Any) -> Any:
    """Return the value that a reference stands for; anything else as it is."""
    known = references()
    return known.resolve(obj) if issubclass(type(obj), known.of_values) else obj


def unpack_stream(packed: Packed) -> Iterator[Any]:
    """Yield what `pack_stream` pickled."""
    referents = [resolved(ref) if as_value else ref for ref, as_value in packed.references]
    unpickler = _Unpickler(packed.data, packed.buffers, referents)
    while True:
        try:
            item = unpickler.load()
        except EOFError:
            return
        yield item


def fingerprint(obj: Any, reducer: Reducer) -> bytes:
    """Return what differs if an object is not what it was: its pickle, or the digest of that."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        data: Any = _pickle(obj, buffers.append, by_file=True)
    except Exception:
        packed = Packed(b"")
        _pack_thoroughly(obj, packed, reducer)
        data, buffers = packed.data, packed.buffers
    if len(data) <= _SMALL_PICKLE and not buffers:
        return bytes(data)
    digest = blake2b(data, digest_size=16)
    for buffer in buffers:
        digest.update(buffer.raw())
    return digest.digest()


def unpack(packed: Packed, *, writable: bool = True, sole: bool = False) -> Any:
    """Rebuild what was packed; its arrays may be written to, unless `writable` is False.

    Parameters
    ----------
    writable : bool, default: True
        Whether arrays are copies that may be written to, or read-only views of the buffers.
    sole : bool, default: False
        Whether nothing else uses the buffers, so that writable arrays need no copies.

    Raises
    ------
    UnpicklingFailed
        Whatever the reason, with the reason as its cause.
    Exception
        What the computation of a referenced value raised, as it was raised.
    """
    referents = [resolved(ref) if as_value else ref for ref, as_value in packed.references]
    try:
        copies = writable and not sole
        buffers = [_opened(buffer, referents, copies=copies) for buffer in packed.buffers]
        if not writable:
            buffers = [memoryview(buffer).toreadonly() for buffer in buffers]
        if referents or packed.objects:
            return _Unpickler(packed.data, buffers, referents).load()
        return pickle.loads(packed.data, buffers=buffers)
    except BaseException as error:
        which = f"an object of type {packed.kind!r}" if packed.kind else "an object"
        text = f"{which} cannot be unpickled: {describe(error)}"
        raise UnpicklingFailed(text) from error


def _opened(buffer: Any, referents: list[Any], *, copies: bool) -> Any:
    """Return what stands in the place of a buffer; with `copies`, nobody else has it."""
    if type(buffer) is Mapped:
        return mappings.open(buffer)
    if type(buffer) is int:
        buffer = referents[buffer]
    return bytearray(buffer) if copies else buffer


def pack_error(error: BaseException) -> Packed:
    """Pickle an exception with its traceback; never fails, but may have to pack a stand-in."""
    packed = Packed(b"", kind=type(error).__qualname__)
    text = ""
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        _pack_thoroughly((error, text), packed, Reducer(by_file=False))
        unpack(packed)  # exceptions are rare, and half of what can go wrong goes wrong there
    except BaseException as reason:
        cause = reason.__cause__ if isinstance(reason, (PicklingFailed, UnpicklingFailed)) else reason
        stand_in = PicklingFailed(
            f"the call raised an exception of type {packed.kind!r}, which cannot be pickled: {describe(cause)}. "
            f"Its text: {describe(error)}"
        )
        packed = pack((stand_in, text), by_file=False)
    return packed


def unpack_error(packed: Packed) -> BaseException:
    """Rebuild an exception, with the remote traceback as its cause; never fails, but may have to stand in."""
    try:
        error, text = unpack(packed)
        # Not by assignment, which a class may forbid.
        BaseException.__setattr__(error, "__cause__", RemoteTraceback(text))
    except BaseException as failure:
        if isinstance(failure, UnpicklingFailed):
            return failure
        return UnpicklingFailed(f"an exception of type {packed.kind!r} cannot be unpickled: {describe(failure)}")
    found: BaseException = error
    return found


def _keeper(buffers: list[Any]) -> Callable[[pickle.PickleBuffer], bool]:
    """Return a buffer callback that takes large buffers out of the pickle, into `buffers`."""

    def in_band(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < OUT_OF_BAND:
            return True
        buffers.append(buffer)
        return False

    return in_band


def describe(error: BaseException | None) -> str:
    """Describe an exception, even one whose ``__str__`` raises."""
    try:
        return f"{type(error).__qualname__}: {error}"
    except BaseException:
        return type(error).__qualname__
