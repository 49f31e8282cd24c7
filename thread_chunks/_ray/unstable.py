"""What comes from modules of Ray that are public, but may change with any version; and what is lost without each.

They are imported when they are needed, and no version is refused for the lack of one.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from ray import ObjectRef

_PRINTER = "ray_listen_error_messages"


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


@contextmanager
def nothing_printed() -> Iterator[None]:
    """Keep Ray, if it is initialised in this block, from printing what it has to say of dead workers and nodes.

    It would do so in a thread of its own, on standard output, where whoever reads what the program prints would get it;
    and the package itself says what happened. Ray has no option for it, beside a pattern that it reads when it is
    imported. So the thread ends as it begins, by the hook that debuggers use. An exception that was sent to it later
    would wait until it wakes up; until then, Python 3.11 hangs in each function that is traced or profiled. Where Ray
    calls the thread by another name, Ray prints.
    """
    before = threading.gettrace()

    def hook(frame: FrameType, event: Any, arg: Any) -> Any:
        if threading.current_thread().name == _PRINTER:
            raise SystemExit
        sys.settrace(before)
        return None if before is None else before(frame, event, arg)

    threading.settrace(hook)
    try:
        yield
    finally:
        if threading.gettrace() is hook:  # else a debugger has begun meanwhile
            threading.settrace(before)


def import_early() -> None:
    """Import what Ray imports as it ends: when Ctrl-C ends the program, Python would forget that.

    Without it, calls that run at Ctrl-C are finished, and not killed, if nothing but the end of the program ends them.
    """
    with suppress(ImportError):
        import ray.dag  # noqa: F401
