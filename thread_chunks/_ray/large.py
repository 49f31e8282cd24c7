"""Large buffers of arguments: one that calls under way have in common is kept once, where workers get it."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pickle import PickleBuffer
from typing import Any, Protocol

from .._wire.mapped import File, Probe
from .._wire.pickling import Packed
from .._wire.protocol import LARGEST_BY_CHANNEL
from .runtime import RayRuntime

# From this size (bytes) on, a buffer goes to the object store when it is first seen, and else when it is seen again.
# Less, and one that does not come again costs 1 ms more; more, and one that does is copied once more.
_AT_FIRST_SIGHT = 32 * 2**20

# The smallest buffers (bytes) that go into a file. Less, and one that does not come again travels faster along with its
# call; more, and one that does, as the data of a search by scikit-learn, is copied again and again.
_SMALLEST_IN_FILES = 256 * 1024

# So many bytes are compared at once, which holds the interpreter lock (0.1 ms for each MiB). Less, and it takes longer;
# more, and other threads wait longer.
_AT_ONCE = 8 * 2**20

# A call with more large buffers than this has none put aside: each takes a descriptor here, and in the worker, as
# long as it lives.
_MOST_BUFFERS = 64

# So many bytes of each end of a buffer are compared first of all.
_SAMPLE = 64


class Kept(Protocol):
    """A copy of a buffer. It is there as long as this object."""

    @property
    def shipped(self) -> Any:
        """What a worker gets it by."""

    def contents(self) -> memoryview:
        """Return what is in it."""


class InStore:
    """A copy of a buffer in Ray's object store."""

    def __init__(self, runtime: RayRuntime, buffer: memoryview) -> None:
        self._runtime = runtime
        self.shipped = runtime.put(PickleBuffer(buffer))

    def contents(self) -> memoryview:
        """Return what is in it."""
        return memoryview(self._runtime.get(self.shipped))


@dataclass(eq=False)
class Seen:
    """A buffer that was sent, and its copy if there is one.

    At the time `when` the copy was like a buffer of `owner`, which was at an `address`.
    """

    kept: Kept | None = None
    when: float = 0.0
    owner: weakref.ref[Any] | None = None  # None: something without weak references, as bytes
    address: int = 0

    def compared(self, buffer: memoryview, when: float) -> None:
        """Note that the copy is like a buffer."""
        owner, self.address = _origin(buffer)
        self.when, self.owner = when, None
        with suppress(TypeError):
            self.owner = weakref.ref(owner)

    def vouches(self, buffer: memoryview, fed: float) -> bool:
        """Return whether the copy is as good as the buffer for calls that had come at the time `fed`.

        They get what was there when they were sent, or between the two.
        """
        if self.owner is None or self.when <= fed:
            return False
        owner, address = _origin(buffer)
        return owner is self.owner() and address == self.address


def _origin(buffer: memoryview) -> tuple[Any, int]:
    """Return what a buffer belongs to, and its address if that is an array."""
    obj: Any = buffer.obj
    interface = getattr(obj, "__array_interface__", None)
    if interface is None:
        return obj, 0
    # Of arrays in Fortran's order, a view is pickled, which is a new one each time.
    while getattr(base := getattr(obj, "base", None), "__array_interface__", None) is not None:
        obj = base
    return obj, interface["data"][0]


class LargeBuffers:
    """Keeps copies of large buffers, and finds those again that are there. It belongs to the dispatcher's thread.

    A buffer is found by its contents, whatever object it is of. So what a caller changes in place between two calls
    arrives as it is when a call is sent. To compare takes 0.1 s per GB, and is left out for calls that had come when
    the copy was made: they get the array as it was then.

    Promise: a buffer is kept no longer than a block that uses it is under way, and the next one is sent.

    Parameters
    ----------
    keep : callable
        Makes a copy. If it raises OSError, the buffer travels with the call.
    smallest : int
        From this size (bytes) on, a buffer is large.
    at_first_sight : int
        From this size (bytes) on, copies are made of buffers that are not known to come again.
    """

    def __init__(self, keep: Callable[[memoryview], Kept], smallest: int, at_first_sight: int = 0) -> None:
        self._keep = keep
        self._smallest = smallest
        self._at_first_sight = at_first_sight
        self._seen: weakref.WeakValueDictionary[tuple[int, bytes, bytes], Seen] = weakref.WeakValueDictionary()

    def put_aside(self, calls: Iterable[Packed | None], fed: float) -> list[Seen]:
        """Replace large buffers of packed calls by copies; return what is to be kept until these calls are over.

        The last of the calls came at the time `fed` (by `time.monotonic`), or earlier.

        Raises
        ------
        Exception
            If the object store is full.
        """
        used: list[Seen] = []
        now = time.monotonic()
        for packed in calls:
            if packed is not None and 0 < len(packed.buffers) <= _MOST_BUFFERS:
                packed.replace_buffers(partial(self._shipped_for, used, fed, now))
        return used

    def _shipped_for(self, used: list[Seen], fed: float, now: float, buffer: memoryview) -> Any:
        size = buffer.nbytes
        if size < self._smallest:
            return None
        key = size, bytes(buffer[:_SAMPLE]), bytes(buffer[-_SAMPLE:])
        seen = self._seen.get(key)
        with suppress(OSError):
            is_new = seen is None
            if seen is not None and seen.kept is not None and not seen.vouches(buffer, fed):
                if are_equal(buffer, seen.kept.contents()):
                    seen.compared(buffer, now)
                else:
                    seen = None
            if seen is None:
                seen = self._seen[key] = Seen()
            used.append(seen)
            if seen.kept is None and not (is_new and size < self._at_first_sight):
                seen.kept = self._keep(buffer)
                seen.compared(buffer, now)
            return None if seen.kept is None else seen.kept.shipped
        return None


class LargeArguments:
    """The large buffers of all calls of an executor.

    Attributes
    ----------
    in_files : LargeBuffers
        For workers that reach files of this process. It takes them no copy.
    in_store : LargeBuffers
        For all others.
    probe : Probe or None
        Tells the ones from the others.
    """

    def __init__(self, runtime: RayRuntime) -> None:
        self.in_files = LargeBuffers(File, _SMALLEST_IN_FILES)
        self.in_store = LargeBuffers(partial(InStore, runtime), LARGEST_BY_CHANNEL + 1, _AT_FIRST_SIGHT)
        self.probe: Probe | None = None
        with suppress(OSError):
            contents = os.urandom(16)
            self._file = File(memoryview(contents))  # which has to live as long as this
            self.probe = Probe(self._file.shipped, contents)


def are_equal(one: memoryview, other: memoryview) -> bool:
    """Return whether two buffers of bytes, of one size, have the same contents."""
    for start in range(0, len(one), _AT_ONCE):
        mine, others = one[start : start + _AT_ONCE], other[start : start + _AT_ONCE]
        words = len(mine) & ~7
        # As words: byte by byte it takes eight times as long.
        if mine[:words].cast("Q") != others[:words].cast("Q") or mine[words:] != others[words:]:
            return False
    return True
