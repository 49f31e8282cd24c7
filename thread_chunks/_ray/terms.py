"""What a worker knows of its cluster, and how functions travel there."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray import ObjectRef

from .._actor.here import PROCESS
from .._wire.framing import ChannelAddress
from .._wire.interpreter import Interpreter
from .._wire.ledger import Ledger
from .._wire.logs import Levels
from .._wire.pickling import Packed, pack
from .._wire.protocol import Setup
from .._wire.views import View
from .large import LargeArguments
from .logs import Logs
from .oom import KernelKills
from .runtime import RayRuntime

# From this size (bytes) on, a function goes through the object store once, and not to each actor
# by itself: below it, one more message to the store costs more than the copies.
_SHARED = 64 * 1024


@dataclass(frozen=True, slots=True)
class Terms:
    """What a worker has to know of its cluster.

    `ours` is whether the executor has made the actor, and may kill it. `unconnected` is called with the place of a
    worker without a channel. `node` returns the node of the process that calls it. `ledger` has the driver's
    globals, `view` those that a worker starts with. `large` has the large buffers of arguments. `logs` takes log
    records; None: none are to come. The others are as in `Setup`, or as the arguments of `RayCluster`.
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
    unconnected: Callable[[str], None]
    large: LargeArguments
    logs: Logs | None

    def setup(self, paths: list[str], index: int, identity: bytes, channel: ChannelAddress | None) -> Setup:
        """Return what a worker is started with: the driver's settings, its number, its identity, where it connects."""
        return Setup(
            paths,
            sys.argv,
            _working_directory(),
            Interpreter.here(),
            bytes(multiprocessing.current_process().authkey),
            self.streams,
            self.node,
            self.initializer,
            PROCESS,
            index,
            identity,
            channel,
            self.memory_limit,
            None if self.logs is None else Levels.here(),
            self.large.probe,
        )


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed; the worker stays where it starts
        return None


def pack_function(func: Callable[..., Any], runtime: RayRuntime) -> Packed | ObjectRef[Packed]:
    """Return the function packed, and in the object store if it is large."""
    return share(pack(func), runtime)


def share(packed: Packed, runtime: RayRuntime) -> Packed | ObjectRef[Packed]:
    """Return what is packed, or a reference to it in the object store if it is large."""
    return packed if packed.size < _SHARED else runtime.put(packed)
