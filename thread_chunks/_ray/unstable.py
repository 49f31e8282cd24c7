"""What comes from modules of Ray that are public, but may change with any version; and what is lost without each.

They are imported when they are needed, and no version is refused for the lack of one.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

from ray import ObjectRef


def sizes_by_node(references: Sequence[ObjectRef[Any]]) -> list[tuple[Collection[str], int]]:
    """Return the nodes that have the value of each reference, and its size (bytes).

    Without it, a call whose argument is a large reference runs anywhere, and Ray moves the argument there.
    """
    try:
        from ray.experimental import get_local_object_locations
    except ImportError:
        return []
    places = get_local_object_locations(list(references)).values()
    return [(place["node_ids"], place["object_size"] or 0) for place in places]


def draining_nodes(address: str, timeout: int) -> frozenset[str]:
    """Return the nodes that are about to go, as the head at `address` says. Raises what Ray does if it does not answer.

    Without it, a node that goes takes the calls with it that it runs, as in a failure.
    """
    try:
        from ray.autoscaler.v2.sdk import get_cluster_status
    except ImportError:
        return frozenset()
    status = get_cluster_status(address, timeout=timeout)
    nodes = (*status.active_nodes, *status.idle_nodes)
    return frozenset(node.node_id for node in nodes if node.node_id and node.node_status == "DRAINING")


def is_client() -> bool:
    """Return whether the user has connected by Ray Client.

    Without it, such a user gets an error of Ray's from the first call in place of a clear one from the executor.
    """
    try:
        import ray.util.client
    except ImportError:
        return False
    return bool(ray.util.client.ray.is_connected())  # type: ignore[no-untyped-call]


def end_printing() -> None:
    """End the thread in which Ray prints, on standard output, what it has to say of each dead worker and node.

    Ray has no option for it, beside a pattern that it reads when it is imported. Whoever reads what the program prints
    would get Ray's words among it, and the package itself says what happened. Where Ray calls the thread by another
    name, Ray prints.
    """
    for thread in threading.enumerate():
        if thread.name == "ray_listen_error_messages" and thread.ident is not None:
            # It takes effect when the thread wakes up, before it prints.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))


def import_early() -> None:
    """Import what Ray imports as it ends: when Ctrl-C ends the program, Python would forget that.

    Without it, calls that run at Ctrl-C are finished, and not killed, if nothing but the end of the program ends them.
    """
    with suppress(ImportError):
        import ray.dag  # noqa: F401
