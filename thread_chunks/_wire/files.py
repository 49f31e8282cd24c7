"""Memory maps of files, as ``numpy.memmap`` makes them: by the path of the file, and mapped again on arrival.

So what a call writes is in the file. numpy is not imported for this: without it there are no such arrays.
"""

from __future__ import annotations

import mmap
import os
import sys
from importlib import import_module
from typing import Any

# Where a pickle contains it, there may be a memory map in it; as in `pickling`.
MARK = b"memmap"

_WRITING = ("r+", "w+")


def is_memory_map(obj: Any) -> bool:
    """Return whether an object is a ``numpy.memmap``, which may be of a file or not."""
    return type(obj) is getattr(sys.modules.get("numpy"), "memmap", None)


def reduce_memory_map(array: Any) -> Any:
    """Return the reduction of a memory map; NotImplemented if it is to be copied as other arrays are.

    It is copied if no file has its contents: if its writes are private (mode ``"c"``), or the file is gone.
    """
    place = _place(array)
    if place is not None:
        path, position, size = place
        mode = "r+" if array.flags.writeable else "r"
        first = array.__array_interface__["data"][0] - _low(array)
        return _open, (path, mode, position, size, array.dtype, array.shape, array.strides, first)
    return NotImplemented if array.flags.writeable else (_read_only, (array.view(import_module("numpy").ndarray),))


def _low(array: Any) -> int:
    """Return the address of the first byte of an array."""
    below = sum((n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True) if stride < 0)
    return int(array.__array_interface__["data"][0] + below)


def _place(array: Any) -> tuple[str, int, int] | None:
    """Return path, position of the first byte and number of bytes of an array in a file; None if it is in no file."""
    mapping = array._mmap  # noqa: SLF001 (numpy has no other name for it)
    if array.filename is None or array.mode not in ("r", *_WRITING) or mapping is None or not array.size:
        return None
    numpy = import_module("numpy")
    mapped = numpy.frombuffer(mapping, numpy.uint8)
    # Not by `offset`, which for a slice is that of the array that it is a slice of.
    within = _low(array) - mapped.__array_interface__["data"][0]
    size = array.itemsize + sum((n - 1) * abs(step) for n, step in zip(array.shape, array.strides, strict=True))
    if within < 0 or within + size > mapped.nbytes:
        return None
    position = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY + within
    path = os.path.abspath(os.fspath(array.filename))
    try:
        return (path, position, size) if os.path.getsize(path) >= position + size else None
    except OSError:
        return None


def _open(
    path: str, mode: str, position: int, size: int, dtype: Any, shape: Any, strides: Any, first: int
) -> Any:  # a numpy.memmap
    numpy = import_module("numpy")
    try:
        # Before numpy does: it makes a file longer that is too short.
        if (there := os.path.getsize(path)) < position + size:
            raise OSError(f"it has {there} bytes and should have {position + size}")
        whole = numpy.memmap(path, numpy.uint8, mode, position, size)
    except (OSError, ValueError) as error:
        text = f"the file {path!r} of a memory map has to be reachable where the call runs, and cannot be opened there"
        raise OSError(f"{text}: {error}") from error
    start = position % mmap.ALLOCATIONGRANULARITY + first
    array = numpy.ndarray.__new__(numpy.memmap, shape, dtype, whole._mmap, start, strides)  # noqa: SLF001
    array.__array_finalize__(whole)  # which gives it path, mode and mapping
    return array


def _read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array.view(import_module("numpy").memmap)
