"""How much memory this process has for itself.

Linux tells it exactly, with the peak of each call. Elsewhere what is shared counts as well, and the peak of a call is
what there is at its end.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

try:
    import resource
except ImportError:  # Windows: then the peak is asked for no sooner than time has passed
    resource = None  # type: ignore[assignment]

# An answer about the peak counts for so many times as long as it took to get it, and for so long at most (s).
# Less, and calls of some 20 ms spend a percent with it; more, and a call is said to have the memory that an earlier
# one gave back.
_FRESH = 5000
_FRESH_AT_MOST = 2.0

# Both are asked for the memory of the process; for the first the kernel does not have to look at each of its threads.
_WHO = None if resource is None else getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)

# So much more (KiB) is no new peak.
_SMALL = 1024


def resident() -> int:
    """Return the resident bytes that this process does not share: no mapped files, nothing of Ray's object store."""
    with suppress(OSError), open("/proc/self/statm", "rb") as file:
        pages = file.read().split()
        return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGESIZE")
    import psutil  # only here: the driver imports this module, too

    with suppress(psutil.Error):
        return int(psutil.Process().memory_info().rss)
    return 0


class PeakMeter:
    """Tell the largest that `resident` was since the last question. Belongs to one thread.

    To ask the kernel takes 40 us, and much more in a process that has just slept on a busy machine. So for a while the
    last answer is given again, unless the process has had more memory than then.
    """

    def __init__(self) -> None:
        self._peak = 0
        self._highest = 0  # what the process may have had in all (KiB) without being asked about it
        self._next = 0.0

    def take(self, now: float) -> int:
        """Return it, by the clock of `time.perf_counter`."""
        if now >= self._next or _highest() > self._highest:
            self._peak = _take_peak()
            self._highest = _highest() + _SMALL
            done = time.perf_counter()
            self._next = done + min(_FRESH_AT_MOST, _FRESH * (done - now))
        return self._peak


def _highest() -> int:
    """Return the most memory (KiB) that this process has had in all; 0 if that is not known."""
    return 0 if _WHO is None else resource.getrusage(_WHO).ru_maxrss


def _take_peak() -> int:
    with suppress(OSError, KeyError), open("/proc/self/status", "rb") as file:
        lines = dict(line.split(b":", 1) for line in file if line.startswith((b"VmHWM", b"RssFile", b"RssShmem")))
        peak, *shared = (int(lines[name].split()[0]) * 1024 for name in (b"VmHWM", b"RssFile", b"RssShmem"))
        with open("/proc/self/clear_refs", "wb") as clear:
            clear.write(b"5")  # begins the peak anew
        return max(peak - sum(shared), resident())
    return resident()
