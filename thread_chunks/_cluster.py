"""Ray's actors as workers, and Ray's errors as ours. Who starts and stops Ray is in `_session`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayTaskError

from . import _session, _wire
from ._calls import STORED_KEY, Function, Parcel, name_of
from ._memory import KernelKills
from ._messages import GONE
from ._wire import Packed, pack
from ._workers import Post, RayWorker
from .actor import LabelledActor

__all__ = ["RemoteLabelledActor"]

# A second group of threads in each actor, which answers while a call runs. A third one watches the memory, if that is
# limited.
_GROUPS = {"control": 1}
_GROUPS_WITH_WATCH = {"control": 1, "watch": 1}

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


def remote_class(actor_class: type[LabelledActor], *, watched: bool = False) -> Any:
    """Return the actor class to make workers from."""
    groups = _GROUPS_WITH_WATCH if watched else _GROUPS
    return ray.remote(concurrency_groups=groups)(actor_class)  # type: ignore[call-overload]


RemoteLabelledActor = remote_class(LabelledActor)


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
        actor_class: type[LabelledActor],
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
        self.initializer = None if initializer is None else pack((initializer, initargs))
        self._actors = list(reversed(actors or ()))
        self._join(actor_class, actor_options, persistent)
        try:
            # Without a function, the stored one is what the user's actors hold.
            self.stored = self.store(func) if func is not None else Function(None, Parcel(STORED_KEY))
        except BaseException:
            self._leave()
            raise

    def store(self, func: Callable[..., Any]) -> Function:
        """Make `func` the stored function of all workers, those to come included."""
        self.stored = Function(None, Parcel(STORED_KEY, self.pack_function(func)), name_of(func))
        return self.stored

    def ask(self, handle: ActorHandle[Any], question: str) -> Any:
        """Return what a method of an actor returns, after what it runs now."""
        try:
            return getattr(handle, question).remote().future().result()
        except RayTaskError as error:
            raise error.cause from None

    def start_worker(self, post: Post) -> RayWorker:
        """Begin to start a worker."""
        return RayWorker(self._make_actor() if self.replaceable else self._actors.pop(), self, post)

    def close(self) -> None:
        """Let go of everything, and of Ray."""
        self._actors.clear()
        self.stored = Function(None, Parcel(STORED_KEY))
        self._leave()

    def pack_function(self, func: Callable[..., Any]) -> Packed | ObjectRef[Packed]:
        """Return the function packed, and in the object store if it is large."""
        packed = pack(func)
        return packed if packed.size < _SHARED else self._put(packed)

    # What follows is all that the driver asks of Ray, but for the methods of actors' handles.

    def _join(self, actor_class: type[LabelledActor], actor_options: dict[str, Any], persistent: bool) -> None:
        if refused := {"max_restarts", "max_task_retries"}.intersection(actor_options):
            raise ValueError(f"{', '.join(refused)}: Ray must not restart actors or run calls again; the executor does")
        # The default of Ray would reserve a CPU to place an actor, and so refuse more of them.
        options = {"num_cpus": 0, **actor_options}
        make = remote_class(actor_class, watched=self.memory_limit is not None)
        self._actor_class = make.options(**options)  # refuses nonsense before Ray is started
        self._session = _session.join(persistent=persistent)
        if self.memory_limit is not None and "memory" not in options:
            # So that no node gets more workers than it has memory for; but one, in any case.
            memory = min(self.memory_limit, int(self._session.largest_memory()))
            self._actor_class = make.options(memory=memory, **options)

    def _leave(self) -> None:
        self._session.leave()

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
                counted_on = self._session.counted_on()
                self._missed = 0
                return counted_on
        self._missed += 1
        return self._missed < _MISSES

    @property
    def address_of_streams(self) -> str | None:
        """Where a worker asks for this process's standard output and error."""
        # The user's own actors print where the user lets them print.
        return self._session.outlet.address if self.replaceable and self._session.outlet is not None else None

    def _make_actor(self) -> ActorHandle[Any]:
        if not self.alive:
            raise RuntimeError(GONE)
        handle: ActorHandle[Any] = self._actor_class.remote(None)
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
