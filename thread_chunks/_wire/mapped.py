"""Buffers that the processes of one machine have in common, in files without a name.

Each reader has a private mapping: it may write there, and gets pages of its own as it does. What it leaves as it is
takes no time and no memory.
"""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from dataclasses import dataclass
from typing import Any

from .._system.limits import open_files


@dataclass(slots=True, frozen=True)
class Mapped:
    """A buffer in a file, as it travels. The file is there as long as its owner keeps the `File`."""

    path: str
    size: int

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
        self.shipped = Mapped(f"/proc/{os.getpid()}/fd/{descriptor}", contents.nbytes)
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
