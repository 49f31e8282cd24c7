"""Make workers of Ray's actors. What is asked of Ray itself is in `runtime`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayTaskError

from .._calls.blocks import Block
from .._calls.calls import parts_of
from .._calls.functions import Function, Parcel, name_of
from .._wire.ledger import Ledger
from .._wire.parcels import Parcels
from .._wire.pickling import Packed, pack
from .._wire.protocol import STORED_KEY
from .large import LargeArguments
from .logs import Logs
from .oom import KernelKills
from .options import DEFAULTS, PLACING, REFUSED, resources_asked
from .room import in_words, missing
from .runtime import RayRuntime
from .session import is_busy_here
from .terms import Terms, pack_function, share
from .worker import Post, RayWorker

_log = logging.getLogger("thread_chunks")

# How often in a row Ray's head may be missed, every 2 s, before calls are given up. Ray itself waits for a minute,
# and then ends the program.
_MISSES = 8

# How long the end of an executor waits for the user's actors to have the function that was stored in them last, where
# Ray does not keep the order of what is sent (s). Less, and one that is slow to start may run the next executor's calls
# with an older function; more, and one that cannot start holds up the end.
_SETTLING = 60.0


class RayCluster:
    """Make workers of Ray actors, within a session of Ray that it joins and leaves.

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
    forward_logging : bool
        Let the driver's loggers handle what workers log.
    runtime : RayRuntime, optional
        Whom to ask for actors. Default: Ray.
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
        forward_logging: bool = False,
        runtime: RayRuntime | None = None,
    ) -> None:
        self.replaceable = actors is None
        self.kernel_kills = KernelKills()
        self._has_warned = False  # of workers without a channel
        self._missed = 0  # how often in a row Ray did not answer
        self._actors = list(reversed(actors or ()))
        self._workers: set[RayWorker] = set()
        self._unsettled: list[RayWorker] = []  # those of the user's actors that were dismissed
        self._options = _checked(actor_options)
        self._runtime = RayRuntime() if runtime is None else runtime
        self._actor_class = self._runtime.actor_class(actor_class, self._options)
        packed_initializer = None if initializer is None else pack((initializer, initargs))
        self._ledger = Ledger(partial(share, runtime=self._runtime), bare_loggers=forward_logging)
        self.parcels = Parcels(self._ledger, partial(share, runtime=self._runtime))
        self._runtime.join(persistent=persistent)
        try:
            view = self._ledger.view(frozenset() if packed_initializer is None else packed_initializer.uses)
            # Without a function, the stored one is what the user's actors hold.
            self.stored = self.replace_function(func) if func is not None else Function(None, Parcel(STORED_KEY))
        except BaseException:
            self._runtime.leave()
            raise
        if memory_limit is not None and "memory" not in self._options:
            # So that no node gets more workers than it has memory for; but one, in any case.
            self._options["memory"] = min(memory_limit, int(self._runtime.nodes.largest_memory))
            self._options.setdefault("scheduling_strategy", "SPREAD")
        try:
            self._check_room()
            self._logs = Logs(self._runtime.channels) if forward_logging else None
        except BaseException:
            self._runtime.leave()
            raise
        self._is_open = self.replaceable and not any(self._options.get(name) for name in PLACING)
        self._terms = Terms(
            ours=self.replaceable,
            writable=not zero_copy,
            memory_limit=memory_limit,
            initializer=packed_initializer,
            ledger=self._ledger,
            view=view,
            # The user's own actors print where the user lets them print.
            streams=self._runtime.streams if self.replaceable else None,
            node=self._runtime.node,
            kernel_kills=self.kernel_kills,
            unconnected=self._warn_of_unconnected,
            large=LargeArguments(self._runtime),
            logs=self._logs,
        )

    def replace_function(self, func: Callable[..., Any]) -> Function:
        """Make `func` the stored function of all workers, those to come included."""
        packed, view = self._ledger.ship(func, lasting=True)
        self.stored = Function(None, Parcel(STORED_KEY, share(packed, self._runtime)), name_of(func), view=view)
        return self.stored

    def ask(self, handle: ActorHandle[Any], question: str) -> Any:
        """Return what a method of an actor returns, after what it runs now."""
        try:
            return getattr(handle, question).remote().future().result()
        except RayTaskError as error:
            raise error.cause from None

    def start_worker(self, post: Post, index: int) -> RayWorker:
        """Begin to start a worker."""
        nodes = self._runtime.nodes
        if self._is_open and nodes.is_stale and self._runtime.reachable():
            with suppress(Exception):  # Ray's, while its head is started anew
                self._look()
        place = nodes.take_place() if self._is_open else ""
        if self.replaceable:
            starting = sum(not worker.host for worker in self._workers)
            handle = self._runtime.make_actor(self._actor_class, self._options, place, starting)
        else:
            handle = self._actors.pop()
        if self._logs is not None:
            post = partial(self._logs.behind, post)
        worker = RayWorker(handle, place, index, self._terms, self._runtime, self.stored, post, self._dismissed)
        self._workers.add(worker)
        return worker

    def _warn_of_unconnected(self, place: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            _log.warning(
                "a worker (%s) cannot connect to the driver (a firewall?). Its calls go through Ray one at a time, "
                "which is slower, and running() does not show which of them runs%s",
                place,
                "" if self._terms.memory_limit is None else ". A call that exceeds memory_limit fails with WorkerLost",
            )

    def _dismissed(self, worker: RayWorker) -> None:
        self._workers.discard(worker)
        if not self.replaceable:
            self._unsettled.append(worker)
        self._runtime.nodes.leave_place(worker.node)

    def home_of(self, block: Block) -> str:
        """Return the node that has most of what the first call of a block needs, if that is large."""
        args, extras = parts_of(block.calls[0])
        with suppress(Exception):  # Ray's, when it is gone
            return self._runtime.nodes.home_of((*args, *extras.keywords.values()))
        return ""

    @property
    def leaving(self) -> Collection[str]:
        """The nodes that Ray drains, with which actors go that can be replaced."""
        return self._runtime.nodes.leaving if self.replaceable else ()

    def _check_room(self) -> None:
        """Say so at once if no node has what each actor asks for: none would come up, without a reason.

        Raises
        ------
        ValueError
            If no other node can come, as the package has started Ray.
        """
        asked = resources_asked(self._options)
        if not self.replaceable or self._runtime.nodes.has_room_for(asked):
            return
        text = f"no node of the cluster has what each worker needs: {in_words(asked)}"
        if (resources := self._runtime.resources()) is not None:
            text += f". The whole cluster has {in_words({name: resources.there.get(name, 0.0) for name in asked})}"
        if self._runtime.is_alone:
            raise ValueError(text)
        _log.warning("%s. Calls wait until such a node comes", text)

    def why_late(self, size: int) -> str:
        """Return why workers, of so many, are not up after some time, for messages."""
        if not self.replaceable:
            return "they are actors of your own, which are not up, or run something else"
        asked = resources_asked(self._options)
        resources = self._runtime.resources()
        if resources is None:
            return "Ray does not answer"
        if lack := resources.lack(asked):
            # Those that have their place, and are slow to start, may be what takes all.
            busy = ", or the machine is busy" if resources.may_have_placed(lack, len(self._workers)) else ""
            return f"there is no room for them{busy}: {missing(lack, resources.free)}"
        reasons = ["the machine is busy"]
        if self._options.get("runtime_env"):
            reasons.append("their environment (runtime_env) takes long")
        placing = sorted(name for name in PLACING if self._options.get(name))
        if placing and not self._runtime.is_alone:  # what is left may be in pieces, or where they may not go
            reasons.append(f"no node has room for them ({', '.join(placing)})")
        cpus = self._runtime.nodes.cpus
        if size > cpus:
            asked_for = f"you asked for {size} workers on {cpus} CPU{'s' * (cpus > 1)}"
            reasons[-1] += f"; {asked_for}; chunk_size is how many calls run at once"
        return ", or ".join(reasons)

    def close(self) -> None:
        """Release everything, and Ray."""
        self._actors.clear()
        deadline = time.monotonic() + _SETTLING
        for worker in self._unsettled:
            worker.settle(max(0.0, deadline - time.monotonic()))
        self._unsettled.clear()
        self.stored = Function(None, Parcel(STORED_KEY))
        if self._logs is not None:
            self._logs.close()
        self._runtime.leave()

    def pack_function(self, func: Callable[..., Any]) -> Packed | ObjectRef[Packed]:
        """Return the function packed, and in the object store if it is large."""
        return pack_function(func, self._runtime)

    @property
    def default_size(self) -> int:
        """How many workers there are where the user does not say."""
        return self._runtime.default_size

    @staticmethod
    def may_wait() -> bool:
        """Return whether the thread that asks may wait for an executor's end: it does not start or stop Ray itself."""
        return not is_busy_here()

    @property
    def alive(self) -> bool:
        """Whether Ray is up, and still the same."""
        return self._runtime.alive

    def reachable(self) -> bool:
        """Return whether it still answers, or was missed a few times only: Ray's head may be started anew."""
        if not self.alive:
            return False
        self.kernel_kills.look()
        with suppress(Exception):  # Ray's, while it goes down
            if self._runtime.reachable():
                self._look()
                self._missed = 0
                return self._runtime.nodes.counts_on(self._runtime.node())
        self._missed += 1
        return self._missed < _MISSES

    def _look(self) -> None:
        self._runtime.nodes.look(worker.node for worker in self._workers)


def _checked(actor_options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of actors, with the defaults."""
    if not isinstance(actor_options, dict):
        raise TypeError(f"actor_options must be a dict, not {actor_options!r}")
    for name, why in REFUSED.items():
        if name in actor_options:
            raise ValueError(f"{name!r} cannot be an option of the actors: {why}")
    return {**DEFAULTS, **actor_options}


def check_actor(actor: object) -> None:
    """Raise TypeError unless `actor` is a handle of an actor derived from `LabelledActor`."""
    if not (isinstance(actor, ActorHandle) and hasattr(actor, "thread_chunks_run")):
        raise TypeError(f"actors must be handles of actors derived from LabelledActor, not {actor!r}")
