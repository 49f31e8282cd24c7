"""What a worker knows of its cluster, and how functions travel there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray import ObjectRef

from .._wire.ledger import Ledger, View
from .._wire.pickling import Packed, pack
from .oom import KernelKills
from .runtime import RayRuntime

# From this size (bytes) on, a function goes through the object store once, and not to each actor
# by itself: below it, one more message to the store costs more than the copies.
_SHARED = 64 * 1024


@dataclass(frozen=True, slots=True)
class Terms:
    """What a worker has to know of its cluster.

    `ours` is whether the executor has made the actor: it has a control group, and may be killed. `node` returns the
    node of the process that calls it. `ledger` has the driver's globals, `view` those that a worker starts with. The
    others are as in `Setup`, or as the arguments of `RayCluster`.
    """

    ours: bool
    writable: bool
    memory_limit: int | None
    initializer: Packed | None
    ledger: Ledger
    view: View
    streams: str | None
    node: Callable[[], str]
    kernel_kills: KernelKills


def pack_function(func: Callable[..., Any], runtime: RayRuntime) -> Packed | ObjectRef[Packed]:
    """Return the function packed, and in the object store if it is large."""
    return share(pack(func), runtime)


def share(packed: Packed, runtime: RayRuntime) -> Packed | ObjectRef[Packed]:
    """Return what is packed, or a reference to it in the object store if it is large."""
    return packed if packed.size < _SHARED else runtime.put(packed)
