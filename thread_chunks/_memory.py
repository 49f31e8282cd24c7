"""How much memory this process has for itself, and what the kernel did for want of it. Linux only; elsewhere 0."""

from __future__ import annotations

import operator
import os
import re
import resource
import threading
import time
from contextlib import suppress
from typing import SupportsIndex

# An answer about the peak counts for so many times as long as it took to get it, and for so long at most (s).
# Less, and calls of some 20 ms spend a percent with it; more, and a call is said to have the memory that an earlier
# one gave back.
_FRESH = 5000
_FRESH_AT_MOST = 2.0

# Both are asked for the memory of the process; for the first the kernel does not have to look at each of its threads.
_WHO = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)

# So much more (KiB) is no new peak.
_SMALL = 1024

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_UNITS |= {f"{unit}i": 1024**power for power, unit in enumerate("kmgt", 1)}


def number_of_bytes(size: SupportsIndex | str) -> int:
    """Return a size in bytes; ``"2GiB"`` is twice 1024**3, ``"2GB"`` twice 1000**3.

    Raises
    ------
    TypeError, ValueError
        If it is no size.
    """
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmgt]?i?)b?\s*", size.lower())
        if match is None or match[2] not in _UNITS:
            raise ValueError(f"{size!r} is no size: give bytes, or a string like '2GiB' or '500 MB'")
        size = int(float(match[1]) * _UNITS[match[2]])
    if isinstance(size, bool) or not isinstance(size, SupportsIndex):
        raise TypeError(f"a size is a number of bytes, or a string like '2GiB', not {size!r}")
    size = operator.index(size)
    if size < 1:
        raise ValueError(f"a size must be greater than 0, not {size!r}")
    return size


def resident() -> int:
    """Return the resident bytes that this process does not share: no mapped files, nothing of Ray's object store."""
    with suppress(OSError), open("/proc/self/statm", "rb") as file:
        pages = file.read().split()
        return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGESIZE")
    return 0


class PeakMeter:
    """Tells the largest that `resident` was since it was asked last. Belongs to one thread.

    To ask the kernel takes 40 us, and much more in a process that has just slept on a busy machine. So for a while the
    last answer is given again, unless the process has had more memory than then.
    """

    def __init__(self) -> None:
        self._peak = 0
        self._highest = 0  # what the process may have had in all (KiB) without being asked about it
        self._next = 0.0

    def take(self, now: float) -> int:
        """Return it, by the clock of `time.perf_counter`."""
        if now >= self._next or resource.getrusage(_WHO).ru_maxrss > self._highest:
            self._peak = _take_peak()
            self._highest = resource.getrusage(_WHO).ru_maxrss + _SMALL
            done = time.perf_counter()
            self._next = done + min(_FRESH_AT_MOST, _FRESH * (done - now))
        return self._peak


def _take_peak() -> int:
    with suppress(OSError, KeyError), open("/proc/self/status", "rb") as file:
        lines = dict(line.split(b":", 1) for line in file if line.startswith((b"VmHWM", b"RssFile", b"RssShmem")))
        peak, *shared = (int(lines[name].split()[0]) * 1024 for name in (b"VmHWM", b"RssFile", b"RssShmem"))
        with open("/proc/self/clear_refs", "wb") as clear:
            clear.write(b"5")  # begins the peak anew
        return max(peak - sum(shared), resident())
    return resident()


class KernelKills:
    """Tells which deaths may be the kernel's doing: it has killed a process of this machine just before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known = self._seen = _kernel_kills()  # by the look before the last, or taken; by the last

    def look(self) -> None:
        """Forget those that were there at the last look."""
        with self._lock:
            self._known, self._seen = max(self._known, self._seen), _kernel_kills()

    def take(self) -> bool:
        """Return whether there is one, for one death."""
        with self._lock:
            found = _kernel_kills() > self._known
            self._known += found
            return found


def _kernel_kills() -> int:
    """Return how many processes the kernel of this machine has killed for want of memory."""
    with suppress(OSError, StopIteration), open("/proc/vmstat", "rb") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(b"oom_kill "))
    return 0
