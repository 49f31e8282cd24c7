"""Buffers that the processes of one machine have in common, in files without a name.

Each reader has a private mapping: it may write there, and gets pages of its own as it does. What it leaves as it is
takes no time and no memory.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import sys
import weakref
from dataclasses import dataclass
from typing import Any

from .._system.limits import open_files

# Of https://docs.kernel.org/admin-guide/mm/pagemap.html: the size of an entry (bytes); in its highest byte, whether the
# page is in memory or in the swap area, and whether it is the file's.
_ENTRY = 8
_PRESENT_OR_SWAPPED = 0b1100_0000
_FILE_PAGE = 0b0010_0000

_numbers = itertools.count()


@dataclass(slots=True, frozen=True)
class Mapped:
    """A buffer in a file, as it travels. The file is there as long as its owner keeps the `File`.

    `number` tells the files of one owner apart, whose paths are used again.
    """

    path: str
    size: int
    number: int

    def open(self) -> mmap.mmap:
        """Return the contents, which may be written to; the file stays as it is.

        Raises
        ------
        OSError
            If this process cannot reach the file, or has too many open.
        """
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Before Python 3.13, a mapping keeps a descriptor of its own.
            more: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
            return mmap.mmap(descriptor, self.size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE, **more)
        finally:
            os.close(descriptor)


class Mappings:
    """Keep the mappings of buffers that call after call uses, so that the next call gets one that is as it was.

    A new mapping of 200 MB takes 15 ms from its first use to its end, and to find out whether one was written to takes
    3 ms. What is used for the first time is not kept: most buffers come once.
    """

    def __init__(self) -> None:
        self._kept: dict[Mapped, list[mmap.mmap]] = {}  # each in a list, as `_is_sole` wants it
        self._used: set[Mapped] = set()  # by the call that is being unpacked
        self._before: set[Mapped] = set()  # by the one before it

    def open(self, mapped: Mapped) -> memoryview:
        """Return the contents, which may be written to; raises as `Mapped.open`.

        A view, since the next call would see where this one had moved the position of a mapping, or closed it.
        """
        kept = self._kept.pop(mapped, None)  # so that no other thread gets it
        if kept is None or not _is_sole(kept) or _is_written(kept[0]):
            kept = [mapped.open()]
        view = memoryview(kept[0])  # before another thread finds it, and takes it for unused
        self._used.add(mapped)
        if mapped in self._before:
            self._kept[mapped] = kept
        return view

    def drop_others(self) -> None:
        """Keep no mapping that the latest call does not use: it may take long, and the driver needs the memory."""
        for mapped in list(self._kept):
            if mapped not in self._used:
                self._kept.pop(mapped, None)
        self._before, self._used = self._used, set()

    def clear(self) -> None:
        """Keep no mapping: no call is known to come that uses one."""
        self._kept.clear()
        self._before.clear()


mappings = Mappings()


def _references(holder: list[Any]) -> int:
    return sys.getrefcount(holder[0])


def _is_sole(holder: list[Any]) -> bool:
    """Return whether only this list refers to its item. How many references that are depends on the interpreter."""
    return _references(holder) == _references([object()])


def _is_written(mapping: mmap.mmap) -> bool:
    """Return whether a private mapping has pages of its own; True if the system does not say."""
    start = ctypes.addressof(ctypes.c_char.from_buffer(mapping)) // mmap.PAGESIZE
    count = -(-len(mapping) // mmap.PAGESIZE)
    try:
        descriptor = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            entries = os.pread(descriptor, count * _ENTRY, start * _ENTRY)
        finally:
            os.close(descriptor)
    except OSError:
        return True
    if len(entries) < count * _ENTRY or sys.byteorder != "little":
        return True
    # The highest byte of an entry has the flags. There are few different ones.
    return any(flags & _PRESENT_OR_SWAPPED and not flags & _FILE_PAGE for flags in set(entries[_ENTRY - 1 :: _ENTRY]))


class File:
    """The owner's side: a copy of a buffer.

    Parameters
    ----------
    contents : memoryview
        Bytes; not empty.

    Attributes
    ----------
    shipped : Mapped
        What travels.

    Raises
    ------
    OSError
        If the system has no such files, no memory, or no descriptor left.
    """

    def __init__(self, contents: memoryview) -> None:
        if not hasattr(os, "memfd_create"):
            raise OSError("only Linux has files without a name")
        descriptor = os.memfd_create("thread_chunks", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, descriptor).atexit = False
        if descriptor >= open_files(now=True) / 4:
            raise OSError("the program needs the other descriptors for itself")
        self.shipped = Mapped(f"/proc/{os.getpid()}/fd/{descriptor}", contents.nbytes, next(_numbers))
        written = 0
        while written < contents.nbytes:  # one `write` takes 2 GiB at most
            written += os.write(descriptor, contents[written:])
        self._contents: memoryview | None = None

    def contents(self) -> memoryview:
        """Return what is in it."""
        if self._contents is None:  # to map it anew each time takes as long as to read it
            self._contents = memoryview(self.shipped.open()).toreadonly()
        return self._contents


@dataclass(slots=True, frozen=True)
class Probe:
    """Lets another process find out whether it can reach the files of this one."""

    mapped: Mapped
    contents: bytes

    def is_reached(self) -> bool:
        """Return whether it can. Elsewhere the same path may be another file's."""
        try:
            return self.mapped.open()[:] == self.contents
        except (OSError, ValueError):
            return False
