"""Ray's actors as workers, and Ray's errors as ours. Who starts and stops Ray is in `_session`."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import ObjectLostError, RayTaskError

from . import _session, _wire
from ._calls import CARRIED_KEY, STORED_KEY, Block, Function, Outcomes, Parcel
from ._messages import Broken, Failed, Finished, Lost, Message, Started, Surrendered
from ._wire import Packed, Reply, Request, pack, pack_calls, seal, unpack, unpack_error, unseal
from .actor import LabelledActor, Ready, Setup
from .errors import ExecutorBroken, PicklingFailed, UnpicklingFailed, WorkerLost

__all__ = ["RemoteLabelledActor"]

Post = Callable[[Message], None]

# A second group of threads in each actor, which answers while a call runs.
_CONTROL_GROUP = {"control": 1}
_IN_CONTROL_GROUP = {"concurrency_group": "control"}

# From this size (bytes) on, a function goes through the object store once, and not to each actor
# by itself: below it, one more message to the store costs more than the copies.
_SHARED = 64 * 1024

# Behind a block with more bytes of arguments than this no other is sent, lest two of them fill the worker's memory.
_LARGEST_FOLLOWED = 2**20

# After so many bytes of values a block ends: the driver has to hold them all at once.
_LARGEST_REPLY = 16 * 2**20

# So many functions of series and `submit` a worker keeps. Fewer, and calls that alternate between
# functions ship them again and again; more, and a worker holds on to what nobody will call.
_FUNCTIONS_KEPT = 16

_GONE = "Ray was shut down while the executor had need of it"


def _resolve(reference: ObjectRef[Any]) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from error


_wire.references.of_values = ObjectRef
_wire.references.others = (ActorHandle,)
_wire.references.resolve = _resolve


def remote_class(actor_class: type[LabelledActor]) -> Any:
    """Return the actor class to make workers from."""
    return ray.remote(concurrency_groups=_CONTROL_GROUP)(actor_class)  # type: ignore[call-overload]


RemoteLabelledActor = remote_class(LabelledActor)


class RayWorker:
    """One actor, as the dispatcher sees it. All but the callbacks run on the dispatcher's thread."""

    def __init__(self, handle: ActorHandle[Any], cluster: RayCluster, post: Post) -> None:
        self.handle = handle
        self._cluster = cluster
        self._post = post
        self._paths = list(sys.path)
        # The functions that the actor keeps; the one that was used last is last.
        self._functions: OrderedDict[bytes, weakref.ref[Parcel]] = OrderedDict()
        self._stored: Parcel | None = cluster.stored.parcel  # what the actor holds as its own
        self._place = "not started yet"
        self._sent: dict[Block, tuple[bytes, dict[int, PicklingFailed]]] = {}  # tokens, and what could not be sent
        self._forgetful = False  # whether functions that were sent may not have arrived
        authkey = bytes(multiprocessing.current_process().authkey)
        setup = Setup(
            self._paths, sys.argv, _working_directory(), authkey, cluster.address_of_streams, cluster.initializer
        )
        self._when_done(handle.start_worker.remote(setup, cluster.stored.parcel.shipment), self._started)

    def run(self, block: Block) -> bool:
        """Send a block, as `_messages.Worker` says."""
        start = time.perf_counter()
        key = block.function.parcel.key
        calls, failures = pack_calls(block.calls, block.keywords, carried=key == CARRIED_KEY)
        if len(failures) == len(block.calls):
            self._post(Finished(self, block, partial(Outcomes, [None] * len(failures), dict(failures))))
            return False
        try:
            function, forget = self._ship(block.function)
        except Exception as error:  # it cannot be pickled, or the object store is full
            self._post(Failed(self, block, error))
            return False
        if not self._cluster.alive:  # else Ray would start itself, in its own way
            self._post(Broken(partial(ExecutorBroken, _GONE)))
            return False
        token = uuid4().bytes
        self._sent[block] = token, failures
        largest = None if block.fixed else _LARGEST_REPLY
        request = Request(token, block.first, key, calls, forget, self._new_paths(), self._cluster.writable, largest)
        try:
            reply = self.handle.run_block.remote(seal(request), *([] if function is None else [function]))
        except Exception as error:
            self._post(Lost(self, self._describe(error, block)))
            return False
        seconds = time.perf_counter() - start
        self._when_done(reply, lambda future: self._replied(future, block, failures, seconds))
        # What comes behind it relies on the function that it brings, which may get lost.
        return function is None and request.size <= _LARGEST_FOLLOWED

    def surrender(self, block: Block) -> None:
        """Ask for what there is of the block, as `_messages.Worker` says."""
        sent = self._sent.get(block)
        if sent is None or not self._cluster.alive:
            return
        token, failures = sent
        try:
            reply = self.handle.surrender.options(**_IN_CONTROL_GROUP).remote(token)
        except Exception as error:
            self._post(Lost(self, self._describe(error, block)))
        else:
            self._when_done(reply, lambda future: self._surrendered(future, block, failures))

    def store(self, function: Function) -> None:
        """Replace the actor's stored function. Ray keeps the order of what is sent to an actor."""
        with suppress(Exception):  # if the actor or Ray is gone, the next block finds out
            if self._cluster.alive:
                self.handle.store_function.remote(function.parcel.shipment)
        self._stored = function.parcel

    def dismiss(self) -> None:
        """Let go of the actor; it ends when nobody else holds its handle."""
        with suppress(Exception):  # the actor or Ray may be gone
            if self._cluster.alive:
                self.handle.end_worker.remote(list(self._functions))
        del self.handle

    def kill(self) -> None:
        """End the actor at once."""
        if self._cluster.replaceable:
            self._cluster.kill(self.handle)
        else:  # the user's, and not ours to kill
            self._post(Lost(self, WorkerLost(f"the executor gave up on a worker ({self._place}), which may still run")))

    def _when_done(self, reference: ObjectRef[Any], callback: Callable[[Future[Any]], None]) -> None:
        reference.future().add_done_callback(callback)

    def _started(self, future: Future[Ready]) -> None:
        if (error := future.exception()) is not None:
            self._post(Lost(self, self._describe(error)))
            return
        ready = future.result()
        self._place = f"process {ready.pid} on {ready.host}"
        if ready.error is None:
            self._post(Started(self))
        else:
            self._post(Broken(partial(_initializer_failed, ready.error)))

    def _replied(
        self, future: Future[bytes | Reply], block: Block, failures: dict[int, PicklingFailed], seconds: float
    ) -> None:
        error = future.exception()
        self._sent.pop(block, None)  # what could not be sent refers to its arguments
        if error is None:
            reply: Reply = unseal(future.result())
            self._post(Finished(self, block, self._collect(reply, failures, seconds), reply.left))
        elif isinstance(error, (RayTaskError, ObjectLostError)):
            # The actor lives, but the message failed: it could not be unpickled, or it was lost. A function
            # that was in it has not arrived, so all are sent again when they are needed.
            self._forgetful = True
            self._post(Failed(self, block, error.cause if isinstance(error, RayTaskError) else error))
        else:
            self._post(Lost(self, self._describe(error, block)))

    def _surrendered(
        self, future: Future[bytes | Reply | bool], block: Block, failures: dict[int, PicklingFailed]
    ) -> None:
        error = future.exception()
        if error is not None:
            self._post(Lost(self, self._describe(error, block)))
        elif (reply := unseal(future.result())) is False:
            self._post(Surrendered(self, block, partial(Outcomes, []), len(block.calls)))
        elif reply is not True:
            self._post(Surrendered(self, block, self._collect(reply, failures), reply.left))

    def _collect(
        self, reply: Reply, failures: dict[int, PicklingFailed], seconds: float = 0.0
    ) -> Callable[[], Outcomes]:
        return partial(_outcomes, reply, failures, seconds, self._cluster.writable)

    def _describe(self, error: BaseException, block: Block | None = None) -> WorkerLost:
        if block is None:
            doing = "before it was up"
        else:
            last = block.first + len(block.calls) - 1
            labels = f"call {block.first}" if last == block.first else f"calls {block.first} to {last}"
            doing = f"while it ran {labels} of {block.function.name}"
        lost = WorkerLost(f"a worker ({self._place}) died {doing}. {error}")
        lost.__cause__ = error
        return lost

    def _new_paths(self) -> list[str] | None:
        if sys.path == self._paths:
            return None
        self._paths = list(sys.path)
        return self._paths

    def _ship(self, function: Function) -> tuple[Packed | ObjectRef[Packed] | None, list[bytes]]:
        """Return the function if the actor does not hold it, and the keys of those it can forget."""
        if self._forgetful:
            self._forgetful = False
            self._functions.clear()
            self._stored = None
        parcel = function.parcel
        if parcel.key == CARRIED_KEY:
            return None, []
        if parcel.shipment is None and function.fn is not None:
            parcel.shipment = self._cluster.pack_function(function.fn)
        if parcel.key == STORED_KEY:
            held, self._stored = self._stored is parcel, parcel
            return (None if held else parcel.shipment), []
        held = self._functions.pop(parcel.key, None) is not None
        forget = [key for key, kept in self._functions.items() if kept() is None]  # of series that are over
        forget += list(self._functions)[: max(0, len(self._functions) - len(forget) + 1 - _FUNCTIONS_KEPT)]
        for key in forget:
            self._functions.pop(key, None)
        self._functions[parcel.key] = weakref.ref(parcel)
        return (None if held else parcel.shipment), forget


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
    ) -> None:
        self.replaceable = actors is None
        # An actor that lacks the control group dies of a call to it, and nobody can tell whether it does.
        self.interruptible = actors is None
        self.writable = not zero_copy
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
        self.stored = Function(None, Parcel(STORED_KEY, self.pack_function(func)))
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
        self._actor_class = remote_class(actor_class).options(**{"num_cpus": 0, **actor_options})
        self._session = _session.join(persistent=persistent)

    def _leave(self) -> None:
        self._session.leave()

    @property
    def alive(self) -> bool:
        """Whether Ray is up, and still the same."""
        return self._session.alive

    @property
    def address_of_streams(self) -> str | None:
        """Where a worker asks for this process's standard output and error."""
        # The user's own actors print where the user lets them print.
        return self._session.outlet.address if self.replaceable and self._session.outlet is not None else None

    def _make_actor(self) -> ActorHandle[Any]:
        if not self.alive:
            raise RuntimeError(_GONE)
        handle: ActorHandle[Any] = self._actor_class.remote(None)
        return handle

    def _put(self, packed: Packed) -> ObjectRef[Packed]:
        if not self.alive:
            raise RuntimeError(_GONE)
        return ray.put(packed)

    def kill(self, handle: ActorHandle[Any]) -> None:
        """End an actor at once."""
        ray.kill(handle)


def check_actor(actor: object) -> None:
    """Raise TypeError unless `actor` is a handle of an actor derived from `LabelledActor`."""
    if not (isinstance(actor, ActorHandle) and hasattr(actor, "run_block")):
        raise TypeError(f"actors must be handles of actors derived from LabelledActor, not {actor!r}")


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed; the worker stays where it starts
        return None


def _initializer_failed(packed: Packed) -> ExecutorBroken:
    error = unpack_error(packed)
    broken = ExecutorBroken(f"the initializer failed in a worker: {type(error).__name__}: {error}")
    broken.__cause__ = error
    return broken


def _outcomes(reply: Reply, failures: dict[int, PicklingFailed], seconds: float, writable: bool) -> Outcomes:
    """Rebuild outcomes; `failures` are those of calls that were never sent, which took `seconds` to find out."""
    values = reply.values
    errors: dict[int, BaseException] = {index: unpack_error(packed) for index, packed in reply.errors.items()}
    for index, packed in reply.packed.items():
        try:
            values[index] = unpack(packed, writable=writable)
        except UnpicklingFailed as error:
            errors[index] = error
    for index, failure in failures.items():
        if 0 <= index - reply.offset < len(values):
            errors[index - reply.offset] = failure
    return Outcomes(values, errors, reply.offset, seconds + reply.seconds, reply.packed)
