"""Ray's actors as workers, and Ray's errors as ours. Who starts and stops Ray is in `_session`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayTaskError

from .. import config
from .._calls.blocks import Block
from .._calls.functions import Function, Parcel, name_of
from .._dispatch.cluster import GONE
from .._wire import pickling as _wire
from .._wire.ledger import Ledger
from .._wire.parcels import Parcels
from .._wire.pickling import Packed, pack
from .._wire.protocol import STORED_KEY
from . import session as _session
from .nodes import Nodes, on
from .oom import KernelKills
from .options import DEFAULTS, PLACING, REFUSED, remote_class
from .worker import Post, RayWorker

# How often in a row Ray's head may be missed, every 2 s, before calls are given up. Ray itself waits for a minute,
# and then ends the program.
_MISSES = 8

# From this size (bytes) on, a function goes through the object store once, and not to each actor
# by itself: below it, one more message to the store costs more than the copies.
_SHARED = 64 * 1024


def _resolve(reference: ObjectRef[Any]) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from error


_wire.references.of_values = ObjectRef
_wire.references.others = (ActorHandle,)
_wire.references.resolve = _resolve


class RayCluster:
    """Makes workers of Ray actors, within a session of Ray that it joins and leaves.

    Parameters
    ----------
    func : callable or None
        The stored function.
    initializer, initargs
        What each worker runs first.
    actors : sequence of actor handles, or None
        The only actors to use, made by the user.
    actor_class : type
        What actors are made from otherwise.
    actor_options : dict
        Options of those actors, as for Ray's ``ActorClass.options``.
    persistent : bool
        Leave Ray up, even if it was started here.
    zero_copy : bool
        Let large buffers arrive as read-only views of shared memory.
    memory_limit : int or None
        How many bytes a worker may have for itself.
    """

    def __init__(
        self,
        func: Callable[..., Any] | None,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        actors: Sequence[ActorHandle[Any]] | None,
        actor_class: type[Any],
        actor_options: dict[str, Any],
        *,
        persistent: bool,
        zero_copy: bool,
        memory_limit: int | None = None,
    ) -> None:
        self.replaceable = actors is None
        # An actor that lacks the control group dies of a call to it, and nobody can tell whether it does.
        self.interruptible = actors is None
        self.writable = not zero_copy
        self.memory_limit = memory_limit
        self.kernel_kills = KernelKills()
        self._missed = 0  # how often in a row Ray did not answer
        self.ledger = Ledger(self._shared)
        self.parcels = Parcels(self.ledger, self._shared)
        self._actors = list(reversed(actors or ()))
        self._workers: set[RayWorker] = set()
        self.initializer = None if initializer is None else pack((initializer, initargs))
        self._join(actor_class, actor_options, persistent)
        try:
            # What each worker is sent when it starts.
            self.view = self.ledger.view(frozenset() if self.initializer is None else self.initializer.uses)
            # Without a function, the stored one is what the user's actors hold.
            self.stored = self.store(func) if func is not None else Function(None, Parcel(STORED_KEY))
        except BaseException:
            self._leave()
            raise

    def store(self, func: Callable[..., Any]) -> Function:
        """Make `func` the stored function of all workers, those to come included."""
        packed, view = self.ledger.ship(func)
        self.stored = Function(None, Parcel(STORED_KEY, self._shared(packed)), name_of(func), view=view)
        return self.stored

    def ask(self, handle: ActorHandle[Any], question: str) -> Any:
        """Return what a method of an actor returns, after what it runs now."""
        try:
            return getattr(handle, question).remote().future().result()
        except RayTaskError as error:
            raise error.cause from None

    def start_worker(self, post: Post) -> RayWorker:
        """Begin to start a worker."""
        if self._is_open and self.nodes.is_stale and self._session.reachable():
            with suppress(Exception):  # Ray's, while its head is started anew
                self._look()
        place = self.nodes.take_place() if self._is_open else ""
        handle = self._make_actor(place) if self.replaceable else self._actors.pop()
        worker = RayWorker(handle, place, self, post)
        self._workers.add(worker)
        return worker

    def forget(self, worker: RayWorker) -> None:
        """Take note that a worker is let go of."""
        self._workers.discard(worker)
        self.nodes.leave_place(worker.node)

    def home_of(self, block: Block) -> str:
        """Return the node that has most of what the first call of a block needs, if that is large."""
        keywords = {} if block.keywords is None else block.keywords[0]
        with suppress(Exception):  # Ray's, when it is gone
            return self.nodes.home_of((*block.calls[0], *keywords.values()))
        return ""

    @property
    def leaving(self) -> Collection[str]:
        """The nodes that Ray drains, with which actors go that can be replaced."""
        return self.nodes.leaving if self.replaceable else ()

    @property
    def needs(self) -> str:
        """What an actor asks Ray for, and what there is, for messages."""
        asked = {name: value for name, value in self._options.items() if name in PLACING and value}
        left = "an unknown rest"
        with suppress(Exception):  # Ray's, while it goes down
            if self._session.reachable():  # else Ray would wait for its head
                there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
                free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
                left = str({name: free.get(name, 0.0) for name in there if not name.startswith("node:")})
        return f"{asked or 'a process'}; the cluster has {left} left"

    def close(self) -> None:
        """Let go of everything, and of Ray."""
        self._actors.clear()
        self.stored = Function(None, Parcel(STORED_KEY))
        self._leave()

    def pack_function(self, func: Callable[..., Any]) -> Packed | ObjectRef[Packed]:
        """Return the function packed, and in the object store if it is large."""
        return self._shared(pack(func))

    def _shared(self, packed: Packed) -> Packed | ObjectRef[Packed]:
        return packed if packed.size < _SHARED else self._put(packed)

    # What follows is all that the driver asks of Ray, but for the methods of actors' handles, and `_nodes`.

    def _join(self, actor_class: type[Any], actor_options: dict[str, Any], persistent: bool) -> None:
        if not isinstance(actor_options, dict):
            raise TypeError(f"actor_options must be a dict, not {actor_options!r}")
        for name, why in REFUSED.items():
            if name in actor_options:
                raise ValueError(f"{name!r} cannot be an option of the actors: {why}")
        self._options = {**DEFAULTS, **actor_options}
        self._actor_class = remote_class(actor_class, watched=self.memory_limit is not None)
        self._actor_class.options(**self._options)  # refuses nonsense before Ray is started
        self._session = _session.join(persistent=persistent)
        try:
            self.nodes = Nodes()
        except BaseException:
            self._leave()
            raise
        if self.memory_limit is not None and "memory" not in self._options:
            # So that no node gets more workers than it has memory for; but one, in any case.
            self._options["memory"] = min(self.memory_limit, int(self.nodes.largest_memory))
            self._options.setdefault("scheduling_strategy", "SPREAD")
        self._is_open = self.replaceable and not any(self._options.get(name) for name in PLACING)

    def _leave(self) -> None:
        self._session.leave()

    @property
    def default_size(self) -> int:
        """How many workers there are where the user does not say."""
        if self._session.local or config.default_chunk_size != config.usable_cpus:
            return operator.index(config.default_chunk_size)
        return self.nodes.cpus

    @staticmethod
    def node() -> str:
        """Return the node of the process that calls it."""
        return ray.get_runtime_context().get_node_id()

    @property
    def alive(self) -> bool:
        """Whether Ray is up, and still the same."""
        return self._session.alive

    def reachable(self) -> bool:
        """Whether it still answers, or was missed a few times only: Ray's head may be started anew."""
        if not self.alive:
            return False
        self.kernel_kills.look()
        with suppress(Exception):  # Ray's, while it goes down
            if self._session.reachable():
                self._look()
                self._missed = 0
                return self.nodes.counts_on(self.node())
        self._missed += 1
        return self._missed < _MISSES

    def _look(self) -> None:
        self.nodes.look(worker.node for worker in self._workers)

    @property
    def address_of_streams(self) -> str | None:
        """Where a worker asks for this process's standard output and error."""
        # The user's own actors print where the user lets them print.
        return self._session.outlet.address if self.replaceable and self._session.outlet is not None else None

    def _make_actor(self, place: str) -> ActorHandle[Any]:
        if not self.alive:
            raise RuntimeError(GONE)
        options = {**self._options, "scheduling_strategy": on(place)} if place else self._options
        handle: ActorHandle[Any] = self._actor_class.options(**options).remote(None)
        return handle

    def _put(self, packed: Packed) -> ObjectRef[Packed]:
        if not self.alive:
            raise RuntimeError(GONE)
        return ray.put(packed)

    def kill(self, handle: ActorHandle[Any]) -> None:
        """End an actor at once."""
        if self.alive:
            ray.kill(handle)


def check_actor(actor: object) -> None:
    """Raise TypeError unless `actor` is a handle of an actor derived from `LabelledActor`."""
    if not (isinstance(actor, ActorHandle) and hasattr(actor, "run_block")):
        raise TypeError(f"actors must be handles of actors derived from LabelledActor, not {actor!r}")
