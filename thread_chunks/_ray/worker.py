"""One Ray actor as a worker: what is sent to it, what becomes of its answers, and Ray's errors as ours."""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import ObjectLostError, OutOfMemoryError, RayTaskError

from .._actor.here import PROCESS
from .._calls.blocks import Block
from .._calls.calls import Outcomes
from .._calls.functions import Function, Parcel
from .._dispatch.cluster import GONE, executor_broken
from .._dispatch.messages import Broken, Exceeded, Failed, Finished, Lost, Message, Started, Surrendered
from .._system.exits import Watch
from .._wire.holdings import Holdings
from .._wire.images import Shipment
from .._wire.pickling import Packed, pack_calls, unpack_error
from .._wire.protocol import CARRIED_KEY, STORED_KEY, Excess, Look, Ready, Reply, Request, Setup, seal, unseal
from ..errors import ExecutorBroken, WorkerLost, WorkerOutOfMemory
from .deaths import lost
from .line import Line
from .runtime import RayRuntime
from .sent import Sent, outcomes
from .terms import Terms, pack_function

Post = Callable[[Message], None]

_log = logging.getLogger("thread_chunks")

# The groups of threads of an actor beside that which runs calls.
IN_CONTROL_GROUP = {"concurrency_group": "control"}
IN_WATCH_GROUP = {"concurrency_group": "watch"}

# Behind a block with more bytes of arguments than this no other is sent, lest two of them fill the worker's memory.
_LARGEST_FOLLOWED = 2**20

# After so many bytes of values a block ends: the driver has to hold them all at once.
_LARGEST_REPLY = 16 * 2**20

# So many functions of series and `submit` a worker keeps. Fewer, and calls that alternate between
# functions ship them again and again; more, and a worker holds on to what nobody will call.
_FUNCTIONS_KEPT = 16


class RayWorker:
    """One actor, as the dispatcher sees it. All but the callbacks runs on the dispatcher's thread.

    Ray calls back on threads of its own. What the callbacks write, and the dispatcher reads:

    * `host`, `pid` and `node` are written once, before `Started` is posted. Who reads them before that sees where the
      worker was meant to go, and no process.
    * `_sent` and `_forgetful` are under the lock. The line has a lock of its own.
    * `_killed_by_kernel` is the callbacks' alone, and under the lock, as two of them may find the actor dead.

    `_killed` is the dispatcher's. A callback that reads it learns of a death, and `kill` sets it before that can be.

    Parameters
    ----------
    handle : actor handle
    node : str
        Where the actor is meant to go, or empty.
    index : int
        Its number among the workers of the executor.
    terms : Terms
    runtime : RayRuntime
    stored : Function
        The stored function.
    post : callable
        Takes messages to the dispatcher, from any thread.
    dismissed : callable
        Called when the worker is dismissed.
    """

    def __init__(
        self,
        handle: ActorHandle[Any],
        node: str,
        index: int,
        terms: Terms,
        runtime: RayRuntime,
        stored: Function,
        post: Post,
        dismissed: Callable[[RayWorker], None],
    ) -> None:
        self.handle = handle
        self.host, self.pid, self.node = "", 0, node
        self._terms = terms
        self._runtime = runtime
        self._post = post
        self._dismissed = dismissed
        self._paths = list(sys.path)
        # The functions that the actor keeps; the one that was used last is last.
        self._functions: OrderedDict[bytes, weakref.ref[Parcel]] = OrderedDict()
        self._stored: Parcel | None = stored.parcel  # what the actor is known to hold as its own
        self._has_stored = False  # whether that was replaced
        self._id = uuid4().bytes
        self._blocks_sent = 0
        # Ray keeps the order of what is sent, but not to an actor that it runs in an event loop.
        self._line = Line(is_ordered=not hasattr(handle, "thread_chunks_in_loop"))
        self._killed = False  # by us
        self._lock = threading.Lock()
        self._killed_by_kernel: bool | None = None  # None: nobody has asked
        self._sent: dict[Block, Sent] = {}
        self._forgetful = False  # whether functions that were sent may not have arrived
        self._watch: Watch | None = None  # written once, before `Started` is posted, if it is on this machine
        setup = Setup(
            self._paths,
            sys.argv,
            _working_directory(),
            bytes(multiprocessing.current_process().authkey),
            terms.streams,
            terms.node,
            terms.initializer,
            PROCESS,
            self._id,
            index,
        )
        self._holdings = Holdings(terms.ledger)
        shipment = Shipment(stored.parcel.shipment, self._holdings.update(terms.view, stored.view))
        started = handle.thread_chunks_start.remote(setup, shipment)
        self._line.add(lambda: self._when_done(started, self._started))
        if terms.memory_limit is not None:
            watch = handle.thread_chunks_watch.options(**IN_WATCH_GROUP)
            self._when_done(watch.remote(terms.memory_limit), self._exceeded)

    @property
    def place(self) -> str:
        """Process and host, for messages."""
        return f"process {self.pid} on {self.host}" if self.host else "not started yet"

    def run(self, block: Block) -> bool:
        """Send a block, as `Worker` says."""
        start = time.perf_counter()
        key = block.function.parcel.key
        calls, failures = pack_calls(block.calls, carried=key == CARRIED_KEY)
        if len(failures) == len(block.calls):
            self._post(Finished(self, block, partial(Outcomes, [None] * len(failures), dict(failures))))
            return False
        try:
            function, forget = self._ship(block.function)
            update = self._holdings.update_for(calls, block.function.view)
            shipment = function if update is None else Shipment(function, update)
        except Exception as error:  # it cannot be pickled, or the object store is full
            self._post(Failed(self, block, error))
            return False
        if not self._runtime.alive:  # else Ray would start itself, in its own way
            self._post(Broken(_gone))
            return False
        self._blocks_sent += 1
        token = self._id, self._blocks_sent
        sent = Sent(token, failures)
        with self._lock:
            self._sent[block] = sent
        largest = None if block.fixed else _LARGEST_REPLY
        keeps = block.function.keeps
        request = Request(
            token, block.first, key, calls, forget, self._new_paths(), self._terms.writable, largest, keeps
        )
        run = self.handle.thread_chunks_run.options(num_returns=2) if keeps else self.handle.thread_chunks_run
        size = request.size
        seconds = time.perf_counter() - start

        def send() -> Future[Any] | None:
            try:
                reply = run.remote(seal(request), *([] if shipment is None else [shipment]))
                if keeps:
                    reply, sent.kept = reply
            except Exception as error:  # as for a reference from a session of Ray that is over
                self._post(Failed(self, block, error, sent=False) if self._runtime.alive else Broken(_gone))
                return None
            return self._when_done(reply, lambda future: self._replied(future, block, sent, seconds))

        # What comes behind it relies on the function that it brings, which may get lost.
        return self._line.add(send) and shipment is None and size <= _LARGEST_FOLLOWED

    def surrender(self, block: Block) -> None:
        """Ask for what there is of the block, as `Worker` says."""
        sent = self._sent_of(block)
        if sent is None or not self._runtime.alive:
            return
        try:
            reply = self.handle.thread_chunks_surrender.options(**IN_CONTROL_GROUP).remote(sent.token)
        except Exception as error:
            self._post(Lost(self, self._describe(error)))
        else:
            self._when_done(reply, lambda future: self._surrendered(future, block, sent))

    def look(self, block: Block, with_stack: bool) -> Future[Look] | None:
        """Ask what runs, as `Worker` says."""
        sent = self._sent_of(block)
        if sent is None or not (self._terms.ours and self._runtime.alive):
            return None
        with suppress(Exception):  # if the actor or Ray is gone, others find out
            answer: Future[Look] = (
                self.handle.thread_chunks_look.options(**IN_CONTROL_GROUP).remote(sent.token, with_stack).future()
            )
            return answer
        return None

    def replace_function(self, function: Function) -> None:
        """Replace the actor's stored function, after what was sent before."""
        self._stored = function.parcel
        self._has_stored = True
        update = self._holdings.update(function.view)
        self._tell(self.handle.thread_chunks_store, Shipment(function.parcel.shipment, update))

    def dismiss(self) -> None:
        """Let go of the actor; it ends when nobody else holds its handle."""
        if self._watch is not None:
            self._watch.close()
            self._terms.kernel_kills.forget(self.pid)
        self._dismissed(self)
        self._tell(self.handle.thread_chunks_end, self._id, list(self._functions))
        del self.handle

    def settle(self, timeout: float) -> None:
        """Wait until the actor has what was stored in it last, if later messages could overtake that."""
        if self._has_stored:
            self._line.flush(timeout)

    def kill(self) -> None:
        """End the actor at once."""
        if self._terms.ours:
            self._killed = True
            self._runtime.kill(self.handle)
        else:  # the user's, and not ours to kill
            self._post(Lost(self, WorkerLost(f"the executor gave up on a worker ({self.place}), which may still run")))

    def _sent_of(self, block: Block) -> Sent | None:
        with self._lock:
            return self._sent.get(block)

    def _when_done(self, reference: ObjectRef[Any], callback: Callable[[Future[Any]], None]) -> Future[Any]:
        future: Future[Any] = reference.future()
        future.add_done_callback(callback)
        return future

    def _tell(self, method: Any, *args: Any) -> None:
        """Send what needs no answer."""

        def send() -> Future[Any] | None:
            with suppress(Exception):  # if the actor or Ray is gone, others find out
                if self._runtime.alive:
                    future: Future[Any] = method.remote(*args).future()
                    return future
            return None

        self._line.add(send)

    def _started(self, future: Future[Ready]) -> None:
        if (error := future.exception()) is not None:
            self._post(Lost(self, self._describe(error)))
            return
        ready = future.result()
        self.host, self.pid, self.node = ready.host, ready.pid, ready.node
        if ready.host == socket.gethostname():
            self._watch = Watch(ready.pid)
            self._terms.kernel_kills.watch(ready.pid)
        if ready.error is None:
            self._post(Started(self))
        else:
            self._post(Broken(partial(_initializer_failed, ready.error)))

    def _replied(self, future: Future[bytes | Reply], block: Block, sent: Sent, seconds: float) -> None:
        error = future.exception()
        with self._lock:
            self._sent.pop(block, None)  # what could not be sent refers to its arguments
        if error is None:
            reply: Reply = unseal(Reply, future.result())
            self._post(Finished(self, block, self._collect(reply, sent, seconds), reply.left))
        elif isinstance(error, (RayTaskError, ObjectLostError)):
            # The actor lives, but the message failed: it could not be unpickled, or it was lost. A function
            # that was in it has not arrived, so all are sent again when they are needed.
            with self._lock:
                self._forgetful = True
            self._post(Failed(self, block, error.cause if isinstance(error, RayTaskError) else error))
        else:
            self._post(Lost(self, self._describe(error)))

    def _surrendered(self, future: Future[bytes | Reply | bool], block: Block, sent: Sent) -> None:
        error = future.exception()
        if error is not None:
            self._post(Lost(self, self._describe(error)))
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
        used, limit = (f"{size / 2**20:,.0f} MiB" for size in (excess.memory, self._terms.memory_limit or 0))
        text = f"a worker ({self.place}) was killed because it had {used} for itself, and memory_limit is {limit}"
        with self._lock:
            block = next((block for block, sent in self._sent.items() if sent.token == excess.token), None)
        if excess.token is None:
            text += ", before it ran a call: give more than a worker has for itself when it is idle"
        self._post(Exceeded(self, WorkerOutOfMemory(text), block))

    def _collect(self, reply: Reply, sent: Sent, seconds: float = 0.0) -> Callable[[], Outcomes]:
        return partial(outcomes, reply, sent, seconds, self._terms.writable)

    def _describe(self, error: BaseException) -> WorkerLost:
        status = None if self._watch is None else self._watch.status()
        by_kernel = not isinstance(error, OutOfMemoryError) and self._is_killed_by_kernel(status)
        return lost(self.place, error, was_up=bool(self.host), by_kernel=by_kernel, status=status)

    def _is_killed_by_kernel(self, status: int | None) -> bool:
        with self._lock:
            if self._killed_by_kernel is None:  # for each death one kill is taken
                is_possible = not self._killed and self._watch is not None
                self._killed_by_kernel = is_possible and self._terms.kernel_kills.take(self.pid, status)
            return self._killed_by_kernel

    def _new_paths(self) -> list[str] | None:
        if sys.path == self._paths:
            return None
        self._paths = list(sys.path)
        return self._paths

    def _ship(self, function: Function) -> tuple[Packed | ObjectRef[Packed] | None, list[bytes]]:
        """Return the function if the actor does not hold it, and the keys of those it can forget."""
        with self._lock:
            forgetful, self._forgetful = self._forgetful, False
        if forgetful:
            self._functions.clear()
            self._holdings.forget()
            self._stored = None
        parcel = function.parcel
        if parcel.key == CARRIED_KEY:
            return None, []
        if parcel.failure is not None:
            raise parcel.failure
        if parcel.shipment is None and function.fn is not None:
            parcel.shipment = pack_function(function.fn, self._runtime)
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
    return executor_broken(GONE)


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed; the worker stays where it starts
        return None


def _initializer_failed(packed: Packed) -> ExecutorBroken:
    return executor_broken("the initializer failed in a worker", unpack_error(packed))
