"""What a worker prints goes out line by line, each in one piece, however many workers print at the same time."""

from __future__ import annotations

import io
import os
import select
import threading
from contextlib import suppress

from .._system.forks import in_forked_children

try:
    import fcntl
except ImportError:  # Windows, where long lines of two workers may mix
    fcntl = None  # type: ignore[assignment]


class Lines(io.BufferedIOBase):
    """Write to a descriptor, whole lines only, unless `flush` is called in the middle of one.

    Parameters
    ----------
    descriptor : int
        Where to write.
    lock : int or None
        The descriptor of a file that all share who write there, for one at a time: a pipe takes what is longer than
        4 kB in pieces.
    """

    def __init__(self, descriptor: int, lock: int | None) -> None:
        self._descriptor = descriptor
        self._file = lock
        self._begun = bytearray()  # a line that has no end yet; under the lock
        self._lock = threading.RLock()
        in_forked_children(self._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # a thread that is not here may have had it
        self._begun.clear()  # which the parent writes

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal's."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Take some bytes, and write the lines that are complete."""
        added = bytes(data)
        with self._lock:
            self._begun += added
            if b"\n" in added:
                stop = self._begun.rindex(b"\n") + 1
                lines = bytes(self._begun[:stop])
                del self._begun[:stop]
                self._write_out(lines)
        return len(added)

    def flush(self) -> None:
        """Write what there is of a line that has no end yet."""
        with self._lock:
            if self._begun:
                begun = bytes(self._begun)
                self._begun.clear()
                self._write_out(begun)

    def _write_out(self, data: bytes) -> None:
        if self._file is None or fcntl is None:
            self._write_all(data)
            return
        with suppress(OSError):
            fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            self._write_all(data)
        finally:
            with suppress(OSError):
                fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _write_all(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # the driver shares it, and reads or writes there without waiting
                select.select([], [self._descriptor], [])
