"""What limits this process: address space, and the processes that it may start."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import psutil

from .groups import control_groups
from .users import user_id

try:
    import resource
except ImportError:  # Windows, which has no such limits
    resource = None  # type: ignore[assignment]


def address_space() -> float:
    """Return how many bytes of addresses a process may have (``ulimit -v``), infinite if there is no limit."""
    return _soft_limit("RLIMIT_AS")


def room_for_threads() -> float:
    """Return how many more threads may be started: by this user (``ulimit -u``), or in its control groups.

    Infinite if there is no limit, or none that is known.
    """
    rooms = [math.inf]
    limit = _soft_limit("RLIMIT_NPROC")
    if limit < math.inf and user_id() != 0:  # which root may exceed
        rooms.append(limit - sum(_threads_of(process) for process in psutil.process_iter()))
    for group in control_groups(Path("/"), "pids"):
        with suppress(OSError, ValueError):  # "max" is no number
            rooms.append(int((group / "pids.max").read_text()) - int((group / "pids.current").read_text()))
    return min(rooms)


def _threads_of(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        if process.uids().real == user_id():
            return int(process.num_threads())
    return 0


def _soft_limit(name: str) -> float:
    if resource is None or not hasattr(resource, name):
        return math.inf
    soft, _ = resource.getrlimit(getattr(resource, name))
    return math.inf if soft == resource.RLIM_INFINITY else soft
