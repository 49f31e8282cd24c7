"""Large buffers of arguments: one that calls under way have in common is in the object store once."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pickle import PickleBuffer
from typing import Any

from ray import ObjectRef

from .._wire.pickling import Packed
from .._wire.protocol import LARGEST_BY_CHANNEL
from .runtime import RayRuntime

# From this size (bytes) on, a buffer goes to the store when it is first seen, and else when it is seen again. Less, and
# one that does not come again costs 1 ms more; more, and one that does is copied once more.
_AT_FIRST_SIGHT = 32 * 2**20

# So many bytes are compared at once, which holds the interpreter lock (0.1 ms for each MiB). Less, and it takes longer;
# more, and other threads wait longer.
_AT_ONCE = 8 * 2**20

# So many bytes of each end of a buffer are compared first of all.
_SAMPLE = 64


@dataclass(eq=False)
class Seen:
    """A buffer that was sent. If it is in the store, whoever keeps this keeps it there."""

    reference: ObjectRef[Any] | None = None


class LargeBuffers:
    """Puts large buffers into the store, and finds those again that are there. It belongs to the dispatcher's thread.

    A buffer is found by its contents, whatever object it is of. So what a caller changes in place between two calls
    arrives as it is when a call is sent. To compare takes 0.1 s per GB; to put it there, ten times as long.

    Promise: a buffer is in the store no longer than a block that uses it is under way, and the next one is sent.

    Parameters
    ----------
    runtime : RayRuntime
    """

    def __init__(self, runtime: RayRuntime) -> None:
        self._runtime = runtime
        self._seen: weakref.WeakValueDictionary[tuple[int, bytes, bytes], Seen] = weakref.WeakValueDictionary()

    def put_aside(self, calls: Iterable[Packed | None]) -> list[Seen]:
        """Replace large buffers of packed calls by references; return what is to be kept until these calls are over.

        Raises
        ------
        Exception
            If the object store is full.
        """
        kept: list[Seen] = []
        for packed in calls:
            if packed is not None and packed.buffers:
                packed.replace_buffers(partial(self._reference_to, kept))
        return kept

    def _reference_to(self, kept: list[Seen], buffer: memoryview) -> ObjectRef[Any] | None:
        size = buffer.nbytes
        if size <= LARGEST_BY_CHANNEL:
            return None
        key = size, bytes(buffer[:_SAMPLE]), bytes(buffer[-_SAMPLE:])
        seen = self._seen.get(key)
        is_new = seen is None
        if seen is None or (seen.reference is not None and not self._has(seen.reference, buffer)):
            seen = self._seen[key] = Seen()
        if seen.reference is None and not (is_new and size < _AT_FIRST_SIGHT):
            seen.reference = self._runtime.put(PickleBuffer(buffer))
        kept.append(seen)
        return seen.reference

    def _has(self, reference: ObjectRef[Any], buffer: memoryview) -> bool:
        return are_equal(buffer, memoryview(self._runtime.get(reference)))


def are_equal(one: memoryview, other: memoryview) -> bool:
    """Return whether two buffers of bytes, of one size, have the same contents."""
    for start in range(0, len(one), _AT_ONCE):
        mine, others = one[start : start + _AT_ONCE], other[start : start + _AT_ONCE]
        words = len(mine) & ~7
        # As words: byte by byte it takes eight times as long.
        if mine[:words].cast("Q") != others[:words].cast("Q") or mine[words:] != others[words:]:
            return False
    return True
