"""A page of memory on which the workers of one machine say which call they run, for when one of them dies.

A worker that is killed can't say any more how far it was. So each has a *slot* on a page that the driver shares with
it: the number of the block that it runs, and the place of the call in the block. To write it takes some 20 ns.
"""

from __future__ import annotations

import mmap
import os

# So many workers have a slot. Of those beyond, all calls of a block count as begun if they die.
SLOTS = 4096

_WORDS = 2  # of a slot: the block, the place
_SIZE = SLOTS * _WORDS * 8


class Page:
    """The driver's side: makes the page, and hands out its slots. It belongs to one thread.

    Raises
    ------
    OSError
        If there is no such memory: then workers have no slot.
    """

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("thread_chunks", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.descriptor, _SIZE)
            self._memory = mmap.mmap(self.descriptor, _SIZE)
        except BaseException:
            os.close(self.descriptor)
            raise
        self._words = memoryview(self._memory).cast("Q")
        self._free = list(range(SLOTS))

    def take(self) -> int | None:
        """Return a free slot, or None."""
        if not self._free:
            return None
        slot = self._free.pop()
        self._words[slot * _WORDS] = self._words[slot * _WORDS + 1] = 0
        return slot

    def give_back(self, slot: int) -> None:
        """Free a slot."""
        self._free.append(slot)

    def read(self, slot: int) -> tuple[int, int]:
        """Return the number of the block that was begun last, and the place of the call."""
        start = slot * _WORDS
        return self._words[start], self._words[start + 1]

    def close(self) -> None:
        """Unmap the page."""
        self._words.release()
        self._memory.close()
        os.close(self.descriptor)


def open_slot(descriptor: int, slot: int) -> memoryview:
    """Return the two words of a slot, for the worker that has it. They stay mapped as long as they are referred to."""
    memory = mmap.mmap(descriptor, _SIZE)
    return memoryview(memory).cast("Q")[slot * _WORDS : (slot + 1) * _WORDS]


def no_slot() -> memoryview:
    """Return two words that are not read."""
    return memoryview(bytearray(_WORDS * 8)).cast("Q")
