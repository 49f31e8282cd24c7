"""Who starts Ray, and who stops it.

A *session* is one run of Ray in this process, from ``ray.init`` to ``ray.shutdown``. Executors
share it. The last one to leave a session that the package started ends it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType

import ray

from .._system.forks import in_forked_children
from .._system.tls import tls_context, wants_tls
from . import presence
from .channels import Channels
from .connecting import Connection, check_connection, connect, reach
from .keeper import Keeper, wait_for_others
from .outlet import Outlet
from .unstable import import_early

# How long Ray's head may take to answer (s).
_PATIENCE = 3.0

_NOT_OURS = Connection(None, ours=False, local=False)

# How long the end of Ray waits for an exception that is shown (s). Less, and a slow disk, from which the lines of the
# program are read, is not waited for; more, and a hook of the user's that waits for an executor takes longer.
_SHOWING = 3.0

_lock = threading.Lock()
_holder: int | None = None  # which thread has the lock
_current: Session | None = None  # under the lock: the one that was joined last
_nothing_shown = threading.Event()  # cleared under the lock
_nothing_shown.set()


@dataclass(slots=True, eq=False)
class Session:
    """One run of Ray: who uses it, and whether it is ours to stop. All under the lock."""

    identity: str
    ours: bool  # the package began it, and no persistent executor wants it to go on
    local: bool  # the package started Ray for it, on this machine
    keeper: Keeper | None  # the thread that Ray's processes live with, if it is the package's
    users: int = 0
    channels: Channels | None = None  # where workers connect
    outlet: Outlet | None = None  # where workers get this process's standard output and error

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return ray.is_initialized() and _identity() == self.identity

    def reachable(self) -> bool:
        """Return whether Ray answers, and is still the same. It may take `_PATIENCE`."""
        if not self.alive:  # else Ray would start itself to answer, in its own way
            return False
        try:
            reach(ray.get_runtime_context().gcs_address, _PATIENCE)
        except OSError:
            return False
        return True

    def leave(self) -> None:
        """Use Ray no more; the last user of what the package started stops it."""
        with _held():
            self.users -= 1
            if self.users == 0 and self.channels is not None:
                self.channels.close()
                self.channels = None
            if self.users == 0 and self.outlet is not None:
                self.outlet.close()
                self.outlet = None
            if self.users == 0 and self.ours:
                wait_for_others()
                _nothing_shown.wait(_SHOWING)
                if self.alive:
                    ray.shutdown()
                self.end()

    def end(self) -> None:
        """Let the thread end that Ray's processes live with, as Ray is down."""
        if self.keeper is not None:
            self.keeper.end()
            self.keeper = None


def join(*, persistent: bool) -> Session:
    """Start Ray, or connect to it, unless it is up; use it until `Session.leave`.

    Raises
    ------
    ExecutorBroken
        If Ray cannot be started, or nothing answers at its address, for a reason of the system.
    ValueError
        If its address is not one of a Ray cluster, or the user has connected by Ray Client.
    RuntimeError
        In a process that was forked while Ray was up: Ray cannot be used there.
    """
    global _current
    if presence.was_forked:
        raise RuntimeError(
            "this process was forked while Ray was up, and Ray cannot be used in such a child: "
            "fork before the first executor is made, or start the process by 'spawn'"
        )
    with _held():
        connection = _NOT_OURS if ray.is_initialized() else connect()
        if not connection.ours:
            check_connection()
        if _current is None or _current.identity != _identity():
            if _current is not None:
                _current.end()  # the user has shut it down
            _current = Session(_identity(), connection.ours, connection.local, connection.keeper)
        if _current.channels is None:
            with suppress(OSError, RuntimeError):  # then Ray carries all
                _current.channels = _open_channels(_current.local)
        if _current.outlet is None:
            with suppress(OSError, RuntimeError):  # then workers print into Ray's files
                _current.outlet = Outlet()
        if persistent:
            _current.ours = False
        _current.users += 1
        return _current


def _open_channels(local: bool) -> Channels:
    """Begin to listen: for workers of other machines too, if there may be such."""
    if local:
        return Channels()
    try:
        context = tls_context(server=True) if wants_tls() else None
    except (OSError, KeyError):  # Ray's files are not for this process: nothing goes to other machines unencrypted
        return Channels()
    return Channels(ray.util.get_node_ip_address(), context)  # type: ignore[no-untyped-call]


def is_busy_here() -> bool:
    """Return whether the thread that asks is in the middle of `join` or `Session.leave`, as a finalizer may be."""
    return _holder == threading.get_ident()


@contextmanager
def _held() -> Iterator[None]:
    global _holder
    with _lock:
        _holder = threading.get_ident()
        try:
            yield
        finally:
            _holder = None


def _identity() -> str:
    context = ray.get_runtime_context()
    return f"{context.get_node_id()}/{context.get_job_id()}"


def _show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Show an exception that ends the program, while Ray is up or down.

    Ray's hook asks Ray for something. In the middle of Ray's end, which is in another thread after Ctrl-C, that would
    end the process at once.
    """
    if is_busy_here():  # a program may call the hook
        _rays_hook(kind, error, traceback)
        return
    with _held():
        _nothing_shown.clear()
    try:
        _rays_hook(kind, error, traceback)
    finally:
        _nothing_shown.set()


def _after_fork() -> None:
    global _lock, _holder
    if _lock.locked():  # Ray comes up or goes down
        presence.was_forked = True
    _lock, _holder = threading.Lock(), None
    _nothing_shown.set()


import_early()
in_forked_children(_after_fork)
_rays_hook = sys.excepthook
if getattr(_rays_hook, "__module__", None) != "sys":  # else Ray has none
    sys.excepthook = _show
