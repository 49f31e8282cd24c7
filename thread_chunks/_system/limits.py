"""What limits this process: address space, open files, and the processes that it may start."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

from .groups import control_groups
from .users import user_id

try:
    import resource
except ImportError:  # Windows, which has no such limits
    resource = None  # type: ignore[assignment]


def address_space() -> float:
    """Return how many bytes of addresses a process may have (``ulimit -v``), infinite if there is no limit."""
    return _limit("RLIMIT_AS")


def open_files(*, now: bool = False) -> float:
    """Return how many files a process may have open (``ulimit -n``), infinite if there is no limit.

    It is the limit up to which a process may raise its own, as Ray does, or that of `now`.
    """
    return _limit("RLIMIT_NOFILE", hard=not now)


def room_for_threads(enough: float = math.inf) -> float:
    """Return how many more threads may be started: by this user (``ulimit -u``), or in its control groups.

    Infinite if there is no limit, or none that is known. If there is room for `enough`, it may be less than there is:
    to count the user's threads takes some ten milliseconds.
    """
    rooms = [math.inf]
    limit = _limit("RLIMIT_NPROC")
    if limit < math.inf and user_id() != 0:  # which root may exceed
        room = limit - _threads_of_all()
        if room < enough:
            room = limit - _threads_of_user()
        rooms.append(room)
    for group in control_groups(Path("/"), "pids"):
        with suppress(OSError, ValueError):  # "max" is no number
            rooms.append(int((group / "pids.max").read_text()) - int((group / "pids.current").read_text()))
    return min(rooms)


def _threads_of_all() -> float:
    """Return how many threads there are on the machine; infinite if that is not known."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    return math.inf


def _threads_of_user() -> int:
    import psutil  # only here: it takes long, and few programs have such a limit

    count = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real == user_id():
                count += process.num_threads()
    return count


def _limit(name: str, *, hard: bool = False) -> float:
    if resource is None or not hasattr(resource, name):
        return math.inf
    limit = resource.getrlimit(getattr(resource, name))[hard]
    return math.inf if limit == resource.RLIM_INFINITY else limit
