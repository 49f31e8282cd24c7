"""One Ray actor as a worker: requests to it, its answers, and errors of Ray as errors of the package."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import ObjectLostError, RayTaskError

from .._calls.blocks import Block
from .._calls.calls import Outcomes
from .._calls.functions import Function
from .._dispatch.cluster import GONE, executor_broken
from .._dispatch.messages import Broken, Exceeded, Failed, Finished, Lost, Message, Started, Surrendered
from .._wire.arguments import pack_calls
from .._wire.images import Shipment
from .._wire.logs import Levels
from .._wire.pickling import Packed, unpack_error
from .._wire.protocol import (
    CARRIED_KEY,
    Excess,
    GivenBack,
    Left,
    Logged,
    Look,
    Looked,
    Question,
    Ready,
    Refused,
    Reply,
    Request,
    Surrender,
    decode,
    encode,
    fits_channel,
    seal,
    unseal,
)
from ..errors import ExecutorBroken, WorkerLost, WorkerOutOfMemory
from .fate import Fate, Progress
from .held import Held
from .link import Link, Order
from .runtime import RayRuntime
from .sent import Sent, SentBlocks, outcomes
from .terms import Terms

Post = Callable[[Message], None]

_log = logging.getLogger("thread_chunks")

# After so many bytes of values a block ends: the driver has to hold them all at once.
_LARGEST_REPLY = 16 * 2**20


class RayWorker:
    """One actor, as the dispatcher sees it. All but the callbacks runs on the dispatcher's thread.

    Ray calls back on threads of its own, and the channel on its loop's. What the callbacks write, and the dispatcher
    reads:

    * `host`, `pid`, `node`, `interruptible` and `_large` are written once, before `Started` is posted. Who reads them
      before that sees where the worker was meant to go, and no process.
    * `_looks` is under the lock. The link, the fate, and what was sent have locks of their own.

    `_is_dismissed` is the dispatcher's. If a callback reads it too early, a line of the log is one too many.

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
        self.interruptible = True
        self._terms = terms
        self._runtime = runtime
        self._post = post
        self._dismissed = dismissed
        self._paths = list(sys.path)
        self._large = terms.large.in_store
        self._held = Held(terms, runtime, stored)
        self._has_stored = False  # whether the stored function was replaced
        self._id = uuid4().bytes
        self._orders_sent = self._shipped = 0  # orders, and the number of the last one that had a shipment
        self._is_dismissed = False
        self._lock = threading.Lock()
        self._sent = SentBlocks()
        self._looks: dict[int, Future[Look | None]] = {}  # questions that are not answered
        channels = runtime.channels
        self._fate = Fate(self._id, channels, terms.kernel_kills, self._conclude)
        channel = None if channels is None else channels.expect(self._id, self)
        self._link = Link(
            handle,
            self._id,
            channel,
            not hasattr(handle, "thread_chunks_in_loop"),
            lambda: runtime.alive,
            self._returned,
            self._fate.lost,
        )
        address = None if channels is None else channels.address
        setup = terms.setup(self._paths, index, self._id, address)
        self._levels = setup.levels
        _when_done(handle.thread_chunks_start.remote(setup, self._held.first), self._started)

    @property
    def place(self) -> str:
        """Process and host, for messages."""
        return self._fate.place

    def run(self, block: Block) -> bool:
        """Send a block, as `Worker` says."""
        start = time.perf_counter()
        self._send_levels()
        key = block.function.parcel.key
        calls, failures = pack_calls(block.calls, carried=key == CARRIED_KEY)
        if len(failures) == len(block.calls):
            self._post(Finished(self, block, partial(Outcomes, [None] * len(failures), dict(failures))))
            return False
        try:
            large = [] if isinstance(calls, bytes) else self._large.put_aside(calls, block.receiver.fed)
            shipment, forget = self._held.ship(block.function, calls)
        except Exception as error:  # it cannot be pickled, or the object store is full
            self._post(Failed(self, block, error))
            return False
        number = self._next_number()
        if shipment is not None:
            self._shipped = number
        largest = None if block.fixed else _LARGEST_REPLY
        keeps = block.function.keeps
        request = Request(
            number,
            block.first,
            key,
            calls,
            forget,
            self._new_paths(),
            self._terms.writable,
            largest,
            keeps,
            self._shipped,
            shipment,
        )
        payload = encode(request) if self.interruptible and fits_channel(request) else None
        sent = Sent(block, number, failures, time.perf_counter() - start, large)
        self._sent.add(sent)
        # Ray that is down would start itself, in its own way, if it were to carry something. A worker that is lost may
        # have been so with Ray, and nothing may have been sent to it then that would have told.
        if (payload is None or self._fate.is_over) and not self._runtime.alive:
            self._sent.pop(number)
            self._post(Broken(_gone))
            return False
        self._link.send(Order(number, payload, partial(self._run_by_ray, request, sent)))
        return payload is not None  # what Ray carries is large, and two of them might fill the worker's memory

    def surrender(self, block: Block) -> None:
        """Ask for the finished calls of the block, as `Worker` says."""
        if (sent := self._sent.ask_back(block)) is not None:
            self._link.ask(encode(Surrender(sent.number)))

    def look(self, block: Block, with_stack: bool) -> Future[Look | None] | None:
        """Ask what runs, as `Worker` says."""
        if (sent := self._sent.find(block)) is None:
            return None
        answer: Future[Look | None] = Future()
        with self._lock:
            identity = id(answer)
            self._looks[identity] = answer
        if not self._link.ask(encode(Question(identity, sent.number, with_stack))):
            with self._lock:
                del self._looks[identity]
            return None
        return answer

    def replace_function(self, function: Function) -> None:
        """Replace the actor's stored function, after what was sent before."""
        self._has_stored = True
        # By Ray, so that what the user asks of the actor comes after it.
        self._link.send(Order(self._next_number(), None, partial(self._store_by_ray, self._held.replace(function))))

    def dismiss(self) -> None:
        """Release the actor; it ends when no other handle of it is held."""
        self._is_dismissed = True
        self._fate.close()
        self._sent.clear()
        self._dismissed(self)
        self._link.close(at_once=self._fate.is_over or (self._terms.ours and not self.host))
        del self.handle

    def settle(self, timeout: float) -> None:
        """Wait until the actor has what was stored in it last, if later messages could overtake that."""
        if self._has_stored:
            self._link.settle(timeout)

    def kill(self) -> None:
        """End the actor at once."""
        if self._terms.ours:
            self._fate.was_killed = True
            self._runtime.kill(self.handle)
        else:  # the user's, and not ours to kill
            self._post(Lost(self, WorkerLost(f"the executor gave up on a worker ({self.place}), which may still run")))

    def _next_number(self) -> int:
        self._orders_sent += 1
        return self._orders_sent

    def _run_by_ray(self, request: Request, sent: Sent, handle: ActorHandle[Any]) -> Future[Any] | None:
        shipment, request.shipment = request.shipment, None
        run = handle.thread_chunks_run
        try:
            reply = (run.options(num_returns=2) if request.keeps else run).remote(
                self._id, seal(request), *([] if shipment is None else [shipment])
            )
            if request.keeps:
                reply, sent.kept = reply
        except Exception as error:  # as for a reference from a session of Ray that is over
            self._sent.pop(sent.number)
            self._post(Failed(self, sent.block, error, sent=False) if self._runtime.alive else Broken(_gone))
            return None
        return _when_done(reply, lambda future: self._replied(future, sent))

    def _store_by_ray(self, shipment: Shipment, handle: ActorHandle[Any]) -> Future[Any] | None:
        with suppress(Exception):  # if the actor or Ray is gone, others find out
            if self._runtime.alive:
                future: Future[Any] = handle.thread_chunks_store.remote(shipment).future()
                return future
        return None

    # All that follows is called back, by threads of Ray's or of the channels.

    def _started(self, future: Future[Ready]) -> None:
        if (error := future.exception()) is not None:
            self._fate.lost(error)
            return
        ready = future.result()
        self._log(ready.records)
        self.host, self.pid, self.node = ready.host, ready.pid, ready.node
        self.interruptible = ready.connected
        if ready.reaches_files:
            self._large = self._terms.large.in_files
        self._fate.up(ready.host, ready.pid, connected=ready.connected)
        if not ready.connected and not self._is_dismissed:  # else the channels may be closed by now
            self._terms.unconnected(self.place)
        self._link.ready(connected=ready.connected)
        if ready.error is None:
            self._post(Started(self))
        else:
            self._post(Broken(partial(_initializer_failed, ready.error)))

    def received(self, payload: bytes) -> None:
        """Take a message that came by the channel."""
        message = decode(payload)
        match message:
            case Reply():
                self._link.answered(message.number)  # first: the next order may come as soon as the outcomes are known
                self._finished(message)
            case Refused(number, error):
                self._link.answered(number)
                if (sent := self._sent.pop(number)) is not None:
                    self._failed(sent.block, unpack_error(error))
            case GivenBack(number, reply):
                self._given_back(number, reply)
            case Looked(identity, look):
                with self._lock:
                    answer = self._looks.pop(identity, None)
                if answer is not None:
                    answer.set_result(look)
            case Excess():
                self._exceeded(message)
            case Left():
                self._link.left()
            case Logged():
                self._log([message])

    def _returned(self, number: int, sealed: Any) -> None:
        """Take the outcomes of a block that were Ray's to carry, though the block was not."""
        self._link.answered(number)
        self._finished(unseal(sealed))

    def _replied(self, future: Future[Any], sent: Sent) -> None:
        """Take the answer to a block that Ray carried."""
        if (error := future.exception()) is None:
            self._finished(unseal(future.result()))
        elif isinstance(error, (RayTaskError, ObjectLostError)):
            self._sent.pop(sent.number)
            self._failed(sent.block, error.cause if isinstance(error, RayTaskError) else error)
        else:
            self._fate.lost(error)

    def _finished(self, reply: Reply) -> None:
        self._log(reply.records)
        if (sent := self._sent.pop(reply.number)) is not None:
            self._post(Finished(self, sent.block, self._collect(reply, sent), reply.left))

    def _failed(self, block: Block, error: BaseException) -> None:
        """Let a block fail though the actor lives: it could not be unpickled, or it was lost.

        A function that was in it has not arrived, so all are sent again when they are needed.
        """
        self._held.doubt()
        self._post(Failed(self, block, error))

    def _given_back(self, number: int, reply: Reply | bool) -> None:
        sent = self._sent.given_back(number)
        if sent is None or reply is True:
            return
        if isinstance(reply, Reply):
            self._post(Surrendered(self, sent.block, self._collect(reply, sent, 0.0), reply.left))
        else:
            self._post(Surrendered(self, sent.block, partial(Outcomes, []), len(sent.block.calls)))

    def _exceeded(self, excess: Excess) -> None:
        used, limit = (f"{size / 2**20:,.0f} MiB" for size in (excess.memory, self._terms.memory_limit or 0))
        text = f"a worker ({self.place}) was killed because it had {used} for itself, and memory_limit is {limit}"
        sent = self._sent.get(excess.number)
        if excess.number is None:
            text += ", before it ran a call: give more than a worker has for itself when it is idle"
        self._post(Exceeded(self, WorkerOutOfMemory(text), None if sent is None else sent.block))

    def broke(self) -> None:
        """End a worker that can't be reached any more; what it had begun is lost."""
        self._end_actor()
        self._link.find_out()
        self._fate.broke()

    def died(self) -> None:
        """Find out why the worker died: Ray knows, or hears of it now."""
        self._link.find_out()
        self._fate.died()

    def _end_actor(self) -> None:
        if self._terms.ours and (handle := self._link.handle) is not None:
            self._runtime.kill(handle)

    def _conclude(self, lost: WorkerLost, progress: Progress | None) -> None:
        """Say that the worker is lost."""
        with self._lock:
            looks, self._looks = self._looks, {}
        for answer in looks.values():
            answer.set_exception(lost)
        if self._runtime.alive:
            self._end_actor()  # Ray may take it to be alive
            self._post(Lost(self, lost, self._sent.begun(progress)))
        elif len(self._sent):  # the user has shut it down, and with it all workers; else the next use finds out
            self._post(Broken(_gone))

    def _collect(self, reply: Reply, sent: Sent, seconds: float | None = None) -> Callable[[], Outcomes]:
        return partial(outcomes, reply, sent, sent.seconds if seconds is None else seconds, self._terms.writable)

    def _log(self, records: list[Logged]) -> None:
        if self._terms.logs is not None:
            for logged in records:
                self._terms.logs.take(logged)

    def _send_levels(self) -> None:
        """Tell the worker which log records are wanted, if that has changed and it can be reached."""
        if self._terms.logs is not None:
            levels = Levels.here()
            if levels != self._levels and self._link.ask(encode(levels)):
                self._levels = levels

    def _new_paths(self) -> list[str] | None:
        if sys.path == self._paths:
            return None
        self._paths = list(sys.path)
        return self._paths


def _when_done(reference: ObjectRef[Any], callback: Callable[[Future[Any]], None]) -> Future[Any]:
    future: Future[Any] = reference.future()
    future.add_done_callback(callback)
    return future


def _gone() -> ExecutorBroken:
    return executor_broken(GONE)


def _initializer_failed(packed: Packed) -> ExecutorBroken:
    return executor_broken("the initializer failed in a worker", unpack_error(packed))
