"""Tell which deaths were kills for memory by the kernel."""

from __future__ import annotations

import threading
from contextlib import suppress


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
