"""One Ray actor as a worker: what is sent to it, what becomes of its answers, and Ray's errors as ours."""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
import sys
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import ObjectLostError, OutOfMemoryError, RayTaskError

from .._calls.blocks import Block
from .._calls.calls import Outcomes
from .._calls.functions import Function, Parcel
from .._dispatch.cluster import GONE
from .._dispatch.messages import Broken, Exceeded, Failed, Finished, Lost, Message, Started, Surrendered
from .._wire.holdings import Holdings
from .._wire.images import Shipment
from .._wire.ledger import View
from .._wire.pickling import Packed, pack_calls, unpack, unpack_error
from .._wire.protocol import CARRIED_KEY, STORED_KEY, Excess, Look, Ready, Reply, Request, Setup, Token, seal, unseal
from .._wire.reducing import Key
from ..errors import ExecutorBroken, PicklingFailed, UnpicklingFailed, WorkerLost, WorkerOutOfMemory

Post = Callable[[Message], None]

_log = logging.getLogger("thread_chunks")

# The groups of threads of an actor beside that which runs calls.
IN_CONTROL_GROUP = {"concurrency_group": "control"}
IN_WATCH_GROUP = {"concurrency_group": "watch"}

_NOT_INSTALLED = (
    "thread_chunks is not installed on its node: install it there, for the Python that Ray was started with; or ship "
    "it, by config.ray_config['runtime_env'] = {'py_modules': [thread_chunks], 'pip': ['joblib', 'tqdm']}, before Ray "
    "is up"
)

# So much is shown of what Ray says of a lack of memory, which is pages (characters).
_LONGEST_TEXT = 300

# Behind a block with more bytes of arguments than this no other is sent, lest two of them fill the worker's memory.
_LARGEST_FOLLOWED = 2**20

# After so many bytes of values a block ends: the driver has to hold them all at once.
_LARGEST_REPLY = 16 * 2**20

# So many functions of series and `submit` a worker keeps. Fewer, and calls that alternate between
# functions ship them again and again; more, and a worker holds on to what nobody will call.
_FUNCTIONS_KEPT = 16


@dataclass(slots=True, eq=False)
class Sent:
    """A block that was sent: what of it could not be, and the reference to its value if that stays in the cluster."""

    token: Token
    failures: dict[int, PicklingFailed]
    kept: ObjectRef[Any] | None = None


class RayWorker:
    """One actor, as the dispatcher sees it. All but the callbacks run on the dispatcher's thread."""

    def __init__(self, handle: ActorHandle[Any], node: str, cluster: Any, post: Post) -> None:
        self.handle = handle
        self.node = node  # where it is meant to go, until it is up
        self._cluster = cluster
        self._post = post
        self.host, self.pid = "", 0
        self._paths = list(sys.path)
        # The functions that the actor keeps; the one that was used last is last.
        self._functions: OrderedDict[bytes, weakref.ref[Parcel]] = OrderedDict()
        self._stored: Parcel | None = cluster.stored.parcel  # what the actor holds as its own
        self._id = uuid4().bytes
        self._blocks_sent = 0
        self._killed = False  # by us
        self._killed_by_kernel: bool | None = None  # None: nobody has asked
        self._sent: dict[Block, Sent] = {}
        self._holdings = Holdings()
        self._forgetful = False  # whether functions that were sent may not have arrived
        authkey = bytes(multiprocessing.current_process().authkey)
        setup = Setup(
            self._paths,
            sys.argv,
            _working_directory(),
            authkey,
            cluster.address_of_streams,
            cluster.node,
            cluster.initializer,
        )
        update = self._holdings.update(cluster.view, cluster.stored.view)
        shipment = Shipment(cluster.stored.parcel.shipment, update)
        self._when_done(handle.start_worker.remote(setup, shipment), self._started)
        if cluster.memory_limit is not None:
            self._when_done(handle.watch.options(**IN_WATCH_GROUP).remote(cluster.memory_limit), self._exceeded)

    @property
    def place(self) -> str:
        """Process and host, for messages."""
        return f"process {self.pid} on {self.host}" if self.host else "not started yet"

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
            update = self._holdings.update(block.function.view, self._view_of(calls))
        except Exception as error:  # it cannot be pickled, or the object store is full
            self._post(Failed(self, block, error))
            return False
        if not self._cluster.alive:  # else Ray would start itself, in its own way
            self._post(Broken(_gone))
            return False
        self._blocks_sent += 1
        token = self._id, self._blocks_sent
        sent = self._sent[block] = Sent(token, failures)
        largest = None if block.fixed else _LARGEST_REPLY
        keeps = block.function.keeps
        request = Request(
            token, block.first, key, calls, forget, self._new_paths(), self._cluster.writable, largest, keeps
        )
        run = self.handle.run_block.options(num_returns=2) if keeps else self.handle.run_block
        try:
            shipment = function if update is None else Shipment(function, update)
            reply = run.remote(seal(request), *([] if shipment is None else [shipment]))
            if keeps:
                reply, sent.kept = reply
        except Exception as error:  # as for a reference from a session of Ray that is over
            self._post(Failed(self, block, error, sent=False) if self._cluster.alive else Broken(_gone))
            return False
        seconds = time.perf_counter() - start
        self._when_done(reply, lambda future: self._replied(future, block, sent, seconds))
        # What comes behind it relies on the function that it brings, which may get lost.
        return shipment is None and request.size <= _LARGEST_FOLLOWED

    def surrender(self, block: Block) -> None:
        """Ask for what there is of the block, as `_messages.Worker` says."""
        sent = self._sent.get(block)
        if sent is None or not self._cluster.alive:
            return
        try:
            reply = self.handle.surrender.options(**IN_CONTROL_GROUP).remote(sent.token)
        except Exception as error:
            self._post(Lost(self, self._describe(error, block)))
        else:
            self._when_done(reply, lambda future: self._surrendered(future, block, sent))

    def look(self, block: Block, with_stack: bool) -> Future[Look] | None:
        """Ask what runs, as `_messages.Worker` says."""
        sent = self._sent.get(block)
        if sent is None or not (self._cluster.interruptible and self._cluster.alive):
            return None
        with suppress(Exception):  # if the actor or Ray is gone, others find out
            answer: Future[Look] = self.handle.look.options(**IN_CONTROL_GROUP).remote(sent.token, with_stack).future()
            return answer
        return None

    def store(self, function: Function) -> None:
        """Replace the actor's stored function. Ray keeps the order of what is sent to an actor."""
        with suppress(Exception):  # if the actor or Ray is gone, the next block finds out
            if self._cluster.alive:
                update = self._holdings.update(function.view)
                self.handle.store_function.remote(Shipment(function.parcel.shipment, update))
        self._stored = function.parcel

    def dismiss(self) -> None:
        """Let go of the actor; it ends when nobody else holds its handle."""
        self._cluster.forget(self)
        with suppress(Exception):  # the actor or Ray may be gone
            if self._cluster.alive:
                self.handle.end_worker.remote(self._id, list(self._functions))
        del self.handle

    def kill(self) -> None:
        """End the actor at once."""
        if self._cluster.replaceable:
            self._killed = True
            self._cluster.kill(self.handle)
        else:  # the user's, and not ours to kill
            self._post(Lost(self, WorkerLost(f"the executor gave up on a worker ({self.place}), which may still run")))

    def _when_done(self, reference: ObjectRef[Any], callback: Callable[[Future[Any]], None]) -> None:
        reference.future().add_done_callback(callback)

    def _started(self, future: Future[Ready]) -> None:
        if (error := future.exception()) is not None:
            self._post(Lost(self, self._describe(error)))
            return
        ready = future.result()
        self.host, self.pid, self.node = ready.host, ready.pid, ready.node
        if ready.error is None:
            self._post(Started(self))
        else:
            self._post(Broken(partial(_initializer_failed, ready.error)))

    def _replied(self, future: Future[bytes | Reply], block: Block, sent: Sent, seconds: float) -> None:
        error = future.exception()
        self._sent.pop(block, None)  # what could not be sent refers to its arguments
        if error is None:
            reply: Reply = unseal(Reply, future.result())
            self._post(Finished(self, block, self._collect(reply, sent, seconds), reply.left))
        elif isinstance(error, (RayTaskError, ObjectLostError)):
            # The actor lives, but the message failed: it could not be unpickled, or it was lost. A function
            # that was in it has not arrived, so all are sent again when they are needed.
            self._forgetful = True
            self._post(Failed(self, block, error.cause if isinstance(error, RayTaskError) else error))
        else:
            self._post(Lost(self, self._describe(error, block)))

    def _surrendered(self, future: Future[bytes | Reply | bool], block: Block, sent: Sent) -> None:
        error = future.exception()
        if error is not None:
            self._post(Lost(self, self._describe(error, block)))
        elif (reply := unseal(Reply, future.result())) is False:
            self._post(Surrendered(self, block, partial(Outcomes, []), len(block.calls)))
        elif reply is not True:
            self._post(Surrendered(self, block, self._collect(reply, sent), reply.left))

    def _exceeded(self, future: Future[Excess | None]) -> None:
        if (error := future.exception()) is not None:
            if isinstance(error, RayTaskError):  # else the actor is dead, which others learn of
                _log.warning("the memory of a worker (%s) is not watched any more: %s", self.place, error.cause)
            return
        if (excess := future.result()) is None:
            return  # it was let go
        used, limit = (f"{size / 2**20:,.0f} MiB" for size in (excess.memory, self._cluster.memory_limit or 0))
        text = f"a worker ({self.place}) was killed because it had {used} for itself, and memory_limit is {limit}"
        block = next((block for block, sent in list(self._sent.items()) if sent.token == excess.token), None)
        if excess.token is not None:
            text += f", while it ran call {excess.label}" + ("" if block is None else f" of {block.function.name}")
        self._post(Exceeded(self, WorkerOutOfMemory(text), block))

    def _collect(self, reply: Reply, sent: Sent, seconds: float = 0.0) -> Callable[[], Outcomes]:
        return partial(_outcomes, reply, sent, seconds, self._cluster.writable)

    def _describe(self, error: BaseException, block: Block | None = None) -> WorkerLost:
        if block is None:
            doing = "before it was up"
        else:
            count, name = len(block.calls), block.function.name
            calls = (
                f"call {block.first} of {name}" if count == 1 else f"{count} calls of {name}, as far as they had begun"
            )
            doing = f"while it ran {calls}"
        lost: WorkerLost
        if isinstance(error, OutOfMemoryError):
            said = str(error).partition("\n")[0][:_LONGEST_TEXT]
            lost = WorkerOutOfMemory(f"a worker ({self.place}) was killed by Ray for want of memory {doing}. {said}")
        elif self._is_killed_by_kernel():
            lost = WorkerOutOfMemory(f"a worker ({self.place}) was killed by the kernel for want of memory {doing}.")
        else:
            reason = _NOT_INSTALLED if "No module named 'thread_chunks'" in str(error) else error
            lost = WorkerLost(f"a worker ({self.place}) died {doing}. {reason}")
        lost.__cause__ = error
        return lost

    def _is_killed_by_kernel(self) -> bool:
        if self._killed_by_kernel is None:  # for each death one kill is taken
            is_possible = not self._killed and self.host == socket.gethostname()
            self._killed_by_kernel = is_possible and self._cluster.kernel_kills.take()
        return self._killed_by_kernel

    def _new_paths(self) -> list[str] | None:
        if sys.path == self._paths:
            return None
        self._paths = list(sys.path)
        return self._paths

    def _view_of(self, calls: bytes | list[Packed | None]) -> View | None:
        """Return the globals that the calls' arguments need."""
        uses: set[Key] = set()
        for call in calls if isinstance(calls, list) else ():
            if call is not None and call.uses:
                uses |= call.uses
                call.uses = frozenset()
        view: View | None = self._cluster.ledger.view(uses) if uses else None
        return view

    def _ship(self, function: Function) -> tuple[Packed | ObjectRef[Packed] | None, list[bytes]]:
        """Return the function if the actor does not hold it, and the keys of those it can forget."""
        if self._forgetful:
            self._forgetful = False
            self._functions.clear()
            self._holdings.forget()
            self._stored = None
        parcel = function.parcel
        if parcel.key == CARRIED_KEY:
            return None, []
        if parcel.failure is not None:
            raise parcel.failure
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


def _gone() -> ExecutorBroken:
    return ExecutorBroken(GONE)


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


def _outcomes(reply: Reply, sent: Sent, seconds: float, writable: bool) -> Outcomes:
    """Rebuild outcomes; it took `seconds` to find out that some calls could not be sent."""
    values = reply.values if sent.kept is None else [sent.kept] * len(reply.values)
    errors: dict[int, BaseException] = {index: unpack_error(packed) for index, packed in reply.errors.items()}
    for index, packed in reply.packed.items():
        try:
            values[index] = unpack(packed, writable=writable)
        except UnpicklingFailed as error:
            errors[index] = error
    for index, failure in sent.failures.items():
        if 0 <= index - reply.offset < len(values):
            errors[index - reply.offset] = failure
    return Outcomes(
        values,
        errors,
        reply.offset,
        seconds + reply.seconds,
        reply.packed,
        reply.running,
        reply.short,
        reply.long,
    )
