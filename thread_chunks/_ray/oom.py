"""Tell which deaths of workers were kills for memory by the kernel."""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass
from pathlib import Path

from .._system.kills import counting_group, is_in_log, kernel_kills


@dataclass(slots=True)
class _Count:
    """How many kills there were: by the look before the last, or taken; and by the last."""

    known: int
    seen: int


class KernelKills:
    """Tell which deaths were the kernel's doing. Any thread may ask.

    The kernel counts its kills on the whole machine. One that was not there some seconds ago may be any process's.
    So the death must be by SIGKILL, where that is known, and stand in the kernel's log. Where that cannot be read, the
    kill must be counted in the process's control group, too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Path | None, _Count] = {}  # by control group; under the lock
        self._groups: dict[int, Path | None] = {}  # of each process; under the lock

    def watch(self, pid: int) -> None:
        """Expect the death of a process of this machine."""
        group = counting_group(pid)
        with self._lock:
            self._groups[pid] = group
            for counted in {None, group} - self._counts.keys():
                number = kernel_kills(counted)
                self._counts[counted] = _Count(number, number)

    def forget(self, pid: int) -> None:
        """Expect it no more."""
        with self._lock:
            self._groups.pop(pid, None)

    def look(self) -> None:
        """Forget the kills that were there at the last look."""
        with self._lock:
            for group, count in self._counts.items():
                count.known, count.seen = max(count.known, count.seen), kernel_kills(group)

    def take(self, pid: int, status: int | None) -> bool:
        """Return whether the death of a process was such a kill; no other death is that one then.

        Parameters
        ----------
        pid : int
            The process.
        status : int or None
            How it ended, as `os.waitstatus_to_exitcode` has it, if that is known.
        """
        if status is not None and status != -signal.SIGKILL:
            return False
        with self._lock:
            if pid not in self._groups or not self._is_new(None):
                return False
            group = self._groups[pid]
            if (in_log := is_in_log(pid)) is None:
                in_log = self._is_new(group)
            if in_log:
                for counted in {None, group}:
                    self._counts[counted].known += 1
            return in_log

    def _is_new(self, group: Path | None) -> bool:
        return kernel_kills(group) > self._counts[group].known
