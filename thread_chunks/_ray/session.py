"""Who starts Ray, and who stops it.

A *session* is one run of Ray in this process, from ``ray.init`` to ``ray.shutdown``. Executors
share it. The last one to leave a session that the package started ends it.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass

import ray

from . import presence
from .connecting import check_connection, connect, reach
from .outlet import Outlet
from .unstable import import_early

# How long Ray's head may take to answer (s).
_PATIENCE = 3.0

_lock = threading.Lock()
_current: Session | None = None  # under the lock: the one that was joined last


@dataclass(slots=True, eq=False)
class Session:
    """One run of Ray: who uses it, and whether it is ours to stop. All under the lock."""

    identity: str
    ours: bool  # the package began it, and no persistent executor wants it to go on
    local: bool  # the package started Ray for it, on this machine
    users: int = 0
    outlet: Outlet | None = None  # where workers get this process's standard output and error

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return ray.is_initialized() and _identity() == self.identity

    def reachable(self) -> bool:
        """Whether Ray answers, and is still the same. It may take `_PATIENCE`."""
        if not self.alive:  # else Ray would start itself to answer, in its own way
            return False
        try:
            reach(ray.get_runtime_context().gcs_address, _PATIENCE)
        except OSError:
            return False
        return True

    def leave(self) -> None:
        """Use Ray no more; the last user of what the package started stops it."""
        with _lock:
            self.users -= 1
            if self.users == 0 and self.outlet is not None:
                self.outlet.close()
                self.outlet = None
            if self.users == 0 and self.ours and self.alive:
                ray.shutdown()


def join(*, persistent: bool) -> Session:
    """Start Ray, or connect to it, unless it is up; use it until `Session.leave`.

    Raises
    ------
    ExecutorBroken
        If Ray cannot be started, or nobody answers at its address, for a reason of the system.
    ValueError
        If its address is none, or the user has connected by Ray Client.
    RuntimeError
        In a process that was forked while Ray was up: Ray cannot be used there.
    """
    global _current
    if presence.was_forked:
        raise RuntimeError(
            "this process was forked while Ray was up, and Ray cannot be used in such a child: "
            "fork before the first executor is made, or start the process by 'spawn'"
        )
    with _lock:
        is_up = ray.is_initialized()
        if is_up:
            check_connection()
        is_local = not is_up and connect()
        if _current is None or _current.identity != _identity():
            _current = Session(_identity(), ours=not is_up, local=is_local)
        if _current.outlet is None:
            with suppress(OSError, RuntimeError):  # then workers print into Ray's files
                _current.outlet = Outlet()
        if persistent:
            _current.ours = False
        _current.users += 1
        return _current


def _identity() -> str:
    context = ray.get_runtime_context()
    return f"{context.get_node_id()}/{context.get_job_id()}"


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


import_early()
os.register_at_fork(after_in_child=_after_fork)
