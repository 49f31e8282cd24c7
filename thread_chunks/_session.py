"""Who starts Ray, and who stops it.

A *session* is one run of Ray in this process, from ``ray.init`` to ``ray.shutdown``. Executors
share it. The last one to leave a session that the package started ends it.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
import ray.dag  # Ray imports it as it ends, and then Python forgets that Ctrl-C ended the program

from . import config
from ._terminal import Outlet
from .errors import ExecutorBroken

# Options of ``ray.init`` that it refuses when it connects to a cluster that runs already.
_OPTIONS_OF_NEW_CLUSTERS = frozenset({"num_cpus", "num_gpus", "resources", "labels", "object_store_memory"})

# How long Ray's head may take to answer (s).
_PATIENCE = 3.0

_lock = threading.Lock()
_inherited = False  # whether this process was forked while Ray was up
_current: Session | None = None  # under the lock: the one that was joined last


@dataclass(slots=True, eq=False)
class Session:
    """One run of Ray: who uses it, and whether it is ours to stop. All under the lock."""

    identity: str
    ours: bool  # the package started it, and no persistent executor wants it to go on
    users: int = 0
    outlet: Outlet | None = None  # where workers get this process's standard output and error

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return ray.is_initialized() and _identity() == self.identity

    def reachable(self) -> bool:
        """Whether Ray answers. It may take `_PATIENCE`."""
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
        except OSError:
            return False
        return True

    def counted_on(self) -> bool:
        """Whether Ray counts on this process's node, after Ray was reachable."""
        mine = ray.get_runtime_context().get_node_id()
        return all(node["Alive"] for node in _nodes() if node["NodeID"] == mine)

    def largest_memory(self) -> float:
        """Return how much memory (bytes) actors may ask for on the node that has most of it."""
        return max((node["Resources"].get("memory", 0.0) for node in _nodes() if node["Alive"]), default=0.0)

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
    RuntimeError
        In a process that was forked while Ray was up: Ray cannot be used there.
    """
    global _current
    if _inherited:
        raise RuntimeError(
            "this process was forked while Ray was up, and Ray cannot be used in such a child: "
            "fork before the first executor is made, or start the process by 'spawn'"
        )
    with _lock:
        started = not ray.is_initialized()
        if started:
            _initialise()
        if _current is None or _current.identity != _identity():
            _current = Session(_identity(), ours=started)
        _current.users += 1
        if _current.outlet is None:
            with suppress(OSError, RuntimeError):  # then workers print into Ray's files
                _current.outlet = Outlet()
        if persistent:
            _current.ours = False
        return _current


def _nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes


def _identity() -> str:
    context = ray.get_runtime_context()
    return f"{context.get_node_id()}/{context.get_job_id()}"


def _initialise() -> None:
    options = dict(config.ray_config)
    # Ray's own default is to connect to any cluster that was once started on this machine.
    options["address"] = options.get("address") or os.environ.get("RAY_ADDRESS") or "local"
    if options["address"] != "local":
        options = {name: value for name, value in options.items() if name not in _OPTIONS_OF_NEW_CLUSTERS}
    # Ray takes SIGTERM for itself, to raise SystemExit, and a `with` block would then wait for all
    # that is pending. Without, it ends the program at once, as one with a `ProcessPoolExecutor`.
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except OSError as error:
        # Programs take an OSError for "no multiprocessing here", and go on with threads.
        failed = "started" if options["address"] == "local" else f"reached at {options['address']}"
        raise ExecutorBroken(f"Ray cannot be {failed}: {error}") from error
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _after_fork() -> None:
    global _inherited, _lock
    _lock = threading.Lock()
    _inherited = ray.is_initialized()
    # Ray's exit hook waits for ever in a forked child, which has none of its threads.
    atexit.unregister(ray.shutdown)


os.register_at_fork(after_in_child=_after_fork)
