"""The nodes of the cluster: what they have, which are leaving, and where the next worker goes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .connecting import reach
from .unstable import draining_nodes, sizes_by_node

# How long Ray's head may take to say which nodes are leaving (s).
_PATIENCE = 3

# How long a node may take to be connected to (s): it is of the same network.
_PATIENCE_WITH_NODES = 0.5

# For how long a node that does not answer is not asked again (s). Less, and a dead one costs each other start half a
# second, till Ray knows of its death; more, and a node that was overtaxed for a moment is left out.
_DARK = 10.0

# How old may be what is known of the nodes when a worker is placed (s): on a node that is gone, none starts. Less, and
# the start of many takes longer; more, and starts fail where a node has just failed.
_FRESH = 0.3

# From this size (bytes) on, it pays to run a call where its argument is: a message is nothing beside the copy.
_LARGE = 2**20


class Nodes:
    """What was seen of them at the last look. All belongs to the dispatcher's thread, from its start on.

    Attributes
    ----------
    leaving : frozenset of str
        The nodes that Ray drains: their machines are about to go.
    """

    def __init__(self) -> None:
        self.leaving: frozenset[str] = frozenset()
        self._alive: dict[str, dict[str, float]] = {}  # with what each has
        self._addresses: dict[str, str] = {}  # where Ray listens on each
        self._answering: set[str] = set()  # those that have answered since the last look
        self._dark: dict[str, float] = {}  # those that did not answer, and till when they are not asked again
        self._workers: Counter[str] = Counter()  # how many each has of the executor's
        self._looked = 0.0
        self.look(())

    def look(self, workers: Iterable[str]) -> None:
        """See which nodes there are; `workers` are the nodes of the present workers. Waits for Ray's head."""
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        self._alive = {node["NodeID"]: node["Resources"] for node in nodes if node["Alive"]}
        self._addresses = {node["NodeID"]: f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}" for node in nodes}
        self._answering = set()
        self._workers = Counter(workers)
        if len(self._alive) > 1:
            with suppress(Exception):  # then it is as it was; whether Ray answers is found out elsewhere
                self.leaving = draining_nodes(ray.get_runtime_context().gcs_address, _PATIENCE)
        else:  # there is nowhere else to go
            self.leaving = frozenset()
        self._looked = time.monotonic()

    def counts_on(self, node: str) -> bool:
        """Return whether Ray counts on a node."""
        return node in self._alive

    @property
    def is_stale(self) -> bool:
        """Whether to look again before a worker is placed."""
        return time.monotonic() - self._looked > _FRESH

    @property
    def cpus(self) -> int:
        """How many CPUs there are; at least 1."""
        return max(1, int(sum(resources.get("CPU", 0.0) for resources in self._alive.values())))

    @property
    def largest_memory(self) -> float:
        """How much memory (bytes) actors may ask for on the node that has most of it."""
        return max((resources.get("memory", 0.0) for resources in self._alive.values()), default=0.0)

    def has_room_for(self, asked: dict[str, float]) -> bool:
        """Return whether there is a node that has what an actor asks for, were nothing else there."""
        return any(
            all(resources.get(name, 0.0) >= amount for name, amount in asked.items())
            for resources in self._alive.values()
        )

    def take_place(self) -> str:
        """Return where the next worker goes, so that there are as many on each as its CPUs; empty if it is open."""
        places = {
            node: cpus
            for node, resources in self._alive.items()
            if node not in self.leaving and (cpus := resources.get("CPU", 0.0)) > 0
        }
        while len(self._alive) > 1 and places:
            node = min(places, key=lambda node: (self._workers[node] + 1) / places[node])
            if self._answers(node):
                self._workers[node] += 1
                return node
            del places[node]
        return ""

    def _answers(self, node: str) -> bool:
        """Return whether a node is there: Ray takes some 15 s to find out, and till then would try to use it."""
        if node not in self._answering and time.monotonic() >= self._dark.get(node, 0.0):
            try:
                reach(self._addresses[node], _PATIENCE_WITH_NODES)
                self._answering.add(node)
            except OSError:
                self._dark[node] = time.monotonic() + _DARK
        return node in self._answering

    def leave_place(self, node: str) -> None:
        """Count one worker fewer on a node."""
        self._workers[node] -= 1

    def home_of(self, arguments: Iterable[Any]) -> str:
        """Return the node that has most of the large objects among the arguments, or an empty string."""
        if len(self._alive) < 2:
            return ""
        references = [argument for argument in arguments if isinstance(argument, ray.ObjectRef)]
        if not references:
            return ""
        sizes: Counter[str] = Counter()
        for places, size in sizes_by_node(references):
            for node in places:
                sizes[node] += size
        node, size = max(sizes.items(), key=lambda item: item[1], default=("", 0))
        return node if size >= _LARGE else ""


def on(node: str) -> NodeAffinitySchedulingStrategy:
    """Return the option that places an actor on a node."""
    # Not `soft`, which Ray takes for leave to place an actor that reserves nothing wherever it likes.
    return NodeAffinitySchedulingStrategy(node, soft=False)
