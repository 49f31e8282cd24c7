"""What runs the calls of a block in a worker's process."""

from __future__ import annotations

import atexit
import gc
import inspect
import multiprocessing
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from .._wire.images import Shipment, open_shipment
from .._wire.logs import Forwarder
from .._wire.mapped import mappings
from .._wire.pickling import Packed, pack, pack_error, unpack
from .._wire.protocol import (
    CARRIED_KEY,
    STORED_KEY,
    Leave,
    Left,
    Ready,
    Reply,
    Request,
    Setup,
    seal,
    unseal,
)
from .block import RunningBlock
from .calling import Finish, run_calls
from .channel import connect
from .here import PROCESS, Place, enter
from .loading import load, load_for_each_call
from .memory import PeakMeter
from .sender import LoopsOrders, Sender, ThreadsOrders
from .signals import handle_signals
from .terminal import Streams

# For how long an executor's worker waits for more, before others can use it (s). Less, and who sends one call after the
# other pays for a message of Ray's each time; more, and others wait longer.
_LINGER = 0.1

# For how long it does one executor's work before others get their turn (s). Less, and to begin anew, which takes a
# millisecond, costs more; more, and others wait longer.
_STAY = 1.0


class Holder(Protocol):
    """Who holds the stored function: the user's actor. What its methods return may have to be awaited."""

    @property
    def set_func(self) -> Callable[..., Any]:
        """What replaces the stored function."""

    @property
    def run(self) -> Callable[..., Any]:
        """What takes a label and a call's arguments, and returns the label and the stored function's value."""

    @property
    def function(self) -> Callable[..., Any] | None:
        """The stored function, if calls need not go through `run`."""


class Runner:
    """Run blocks in a worker's process, one call after the other.

    `Sender` takes what an executor sends, and its `Control` answers for the block that runs. All of this belongs to the
    one thread that runs calls, or, in an event loop, to who has `turn`; except `senders`, from which the threads that
    read take those that are gone.

    Parameters
    ----------
    in_loop : bool
        Whether its coroutines run in an event loop, so that the user's methods may be `async`. Without one they wait
        for nothing.

    Attributes
    ----------
    turn : asyncio.Lock
        In an event loop, whoever runs calls has it.
    senders : dict
        The executors that use the actor, by identity.
    """

    def __init__(self, *, in_loop: bool) -> None:
        import asyncio  # only here: workers need it, and it is a sixth of what the package takes to import

        self.turn = asyncio.Lock()
        self._in_loop = in_loop
        self.senders: dict[bytes, Sender] = {}
        self._served: Sender | None = None  # the one that is served; read by the threads that read
        self._peak = PeakMeter()
        self._place = Place()
        self._streams = Streams()
        self._forwarder: Forwarder | None = None
        self._is_apart = False  # whether this process is not the driver's

    def __reduce__(self) -> tuple[Any, ...]:
        # An actor that copies or pickles itself means what is its own. The copy runs nothing yet.
        return _new_runner, (self._in_loop,)

    async def start(self, holder: Holder, setup: Setup, shipment: Packed | Shipment | None) -> Ready:
        """Take over the driver's surroundings, connect to it, store the function, run the initializer."""
        handle_signals()
        enter(self._place, setup.process)
        self._place.index = setup.index
        _extend_path(setup.paths)
        sys.argv[:] = setup.arguments
        if setup.directory is not None and os.path.isdir(setup.directory):
            os.chdir(setup.directory)
        self._is_apart = setup.process != PROCESS  # else a thread stands for the process, in a test
        if self._is_apart:
            setup.interpreter.take_over()
            # Else the collector looks through all modules at the end, which takes a tenth of a second.
            atexit.unregister(gc.freeze)  # of another executor on the same actor
            atexit.register(gc.freeze)
        multiprocessing.current_process().authkey = setup.authkey
        if setup.streams is not None:
            self._streams.take(setup.streams)
        sender = self._expect(setup)
        error = None
        try:
            with self._filters_kept():
                await self.store(holder, shipment)
            if setup.initializer is not None:
                initializer, initargs = unpack(setup.initializer)
                initializer(*initargs)
        except BaseException as raised:
            error = pack_error(raised)
        self._streams.flush()
        reaches_files = setup.probe is not None and setup.probe.is_reached()
        return Ready(
            socket.gethostname(),
            os.getpid(),
            setup.node(),
            sender.is_connected,
            reaches_files,
            error,
            sender.take_records(),
        )

    async def attach(self, holder: Holder, identity: bytes) -> tuple[int, bytes | Reply] | None:
        """Carry out what an executor sends by its channel, as long as there is something to do.

        It ends soon after that, so that others can use the actor; and now and then in any case, so that what others
        have asked of it gets its turn. If it ends because the outcomes of a block are Ray's to carry, return its number
        and these.
        """
        if (sender := self.senders.get(identity)) is None:
            return None  # its executor is gone
        self._served = sender
        until = time.monotonic() + _STAY
        try:
            while not isinstance(order := await sender.orders.take(_LINGER), Leave):
                if order is not None and (reply := await self._carry_out(holder, sender, order)) is not None:
                    return order.number, reply
                if order is None or time.monotonic() > until or self._others_wait(sender):
                    return None
            return None
        finally:
            self._served = None
            mappings.clear()
            sender.tell(Left())

    async def run(
        self, holder: Holder, identity: bytes, sealed: bytes | Request, shipment: Packed | Shipment | None
    ) -> Any:
        """Run the calls of a block that Ray brings, and return a `Reply`, sealed.

        If the value is to stay in the cluster, return it beside the reply, as an object of its own for Ray.

        What a call raises is its outcome. An error of this method itself, as for a function that the
        actor does not hold, is the outcome of all calls of the block.
        """
        request: Request = unseal(sealed)
        request.shipment = shipment
        sender = self.senders[identity]
        try:
            block = await self._run(holder, sender, request)
        finally:
            mappings.clear()
        outcomes = block.take()
        outcomes.records = sender.take_records()
        reply = seal(outcomes)
        return (reply, block.kept) if request.keeps else reply

    async def store(self, holder: Holder, shipment: Packed | Shipment | None) -> None:
        """Bring the globals up to date, and replace the stored function if there is one."""
        if (function := open_shipment(shipment)) is not None:
            await self._settled(holder.set_func(load(function)))

    def end(self, identity: bytes) -> None:
        """Forget an executor, which stops using the actor; others may go on to use it."""
        if (sender := self.senders.get(identity)) is not None:
            sender.end()
            self._gone(identity)

    def _expect(self, setup: Setup) -> Sender:
        """Prepare for the messages of an executor."""
        identity = setup.identity
        channel = None if setup.channel is None else connect(setup.channel, identity)
        orders = LoopsOrders() if self._in_loop else ThreadsOrders()
        sender = Sender(channel, orders, setup.index, self._came, lambda: self._gone(identity))
        self.senders[identity] = sender
        if setup.memory_limit is not None:
            sender.watch(setup.memory_limit)
        if setup.levels is not None and self._is_apart:  # else the driver's handlers are here
            self._forwarder = self._forwarder or Forwarder()
            sender.forward(self._forwarder, setup.levels)
        return sender

    def _gone(self, identity: bytes) -> None:
        if self.senders.pop(identity, None) is not None:
            self._streams.give_back()
            if self._forwarder is not None and not any(sender.forwarder for sender in list(self.senders.values())):
                self._forwarder.end()

    def _came(self, sender: Sender) -> None:
        """Let an executor that has nothing to do not keep another waiting, for which something has come."""
        served = self._served
        if served is not None and served is not sender and not len(served.orders):
            served.orders.add(None)

    def _others_wait(self, sender: Sender) -> bool:
        return any(other is not sender and len(other.orders) for other in list(self.senders.values()))

    async def _carry_out(self, holder: Holder, sender: Sender, order: Request) -> bytes | Reply | None:
        """Carry out an order, and answer; return the answer if it is Ray's to carry."""
        try:
            block = await self._run(holder, sender, order)
        except Exception as error:  # for all calls of the block
            sender.refuse(order.number, error)
            return None
        return sender.answer(block.take(), by_ray=block.exits)

    async def _run(self, holder: Holder, sender: Sender, request: Request) -> RunningBlock:
        if sender.failure is not None and sender.failure[0] == request.relies_on:
            raise sender.failure[1]
        try:
            return await self._run_block(holder, sender, request)
        except Exception as error:
            if request.shipment is not None:
                sender.failure = request.number, error
            raise

    async def _run_block(self, holder: Holder, sender: Sender, request: Request) -> RunningBlock:
        block = RunningBlock(request, self._peak)
        self._place.index = sender.index
        if self._forwarder is not None:
            self._forwarder.take = None if sender.forwarder is None else sender.log
        with sender.control.running(block):
            if request.paths is not None:
                _extend_path(request.paths)
            for key in request.forget:
                sender.functions.pop(key, None)
            # And keep it, though the block may have been surrendered.
            if request.shipment is not None:
                with self._filters_kept():
                    if (function := open_shipment(request.shipment)) is not None:
                        await self._keep(holder, sender, request.key, function)
            call, finish = self._function(holder, sender, request.key, block)
            if block.plain:
                mappings.clear()  # no call of the block uses any, and they may take long
            else:
                call = _opening(call, request.writable, self._place)
            if request.keeps:
                finish = _putting_aside(finish, block)
            try:
                await run_calls(block, call, finish, request.largest, sender.page)
            finally:
                self._place.seed = None
        self._streams.flush()
        return block

    def _filters_kept(self) -> AbstractContextManager[object]:
        """Keep modules that are loaded with a function from setting warning filters: the driver's have theirs."""
        return warnings.catch_warnings() if self._is_apart else nullcontext()

    async def _keep(self, holder: Holder, sender: Sender, key: bytes, function: Packed) -> None:
        if key == STORED_KEY:
            await self._settled(holder.set_func(load(function)))
        else:
            sender.functions[key] = load_for_each_call(function)

    def _function(
        self, holder: Holder, sender: Sender, key: bytes, block: RunningBlock
    ) -> tuple[Callable[..., Any], Finish | None]:
        """Return what to call with the arguments of the block's calls, and what makes their values of what it returns.

        Raises
        ------
        KeyError
            If the actor does not hold the function.
        """
        if key == CARRIED_KEY:
            return _call, None
        if key != STORED_KEY:
            return sender.functions[key], None
        if (function := holder.function) is not None:
            return function, None

        async def finish(outcome: Any) -> Any:
            return (await self._settled(outcome, block))[1]

        run = holder.run
        return lambda *args, **kwargs: run(block.label, *args, **kwargs), finish

    async def _settled(self, result: Any, block: RunningBlock | None = None) -> Any:
        """Return what a method of the user's returns, after it has been awaited if it is `async`."""
        if not (self._in_loop and inspect.isawaitable(result)):
            return result
        if block is None:
            return await result
        block.awaited = result if inspect.iscoroutine(result) else None
        try:
            return await result
        finally:
            block.awaited = None


def _new_runner(in_loop: bool) -> Runner:
    return Runner(in_loop=in_loop)


def _extend_path(paths: list[str]) -> None:
    sys.path.extend(path for path in paths if path not in sys.path)


def _call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _putting_aside(finish: Finish | None, block: RunningBlock) -> Finish:
    """Return what puts a value aside, for Ray to pickle."""

    async def put_aside(value: Any) -> None:
        if finish is not None:
            value = await finish(value)
        pack(value, by_file=False)  # for its error: one of Ray's own would come too late
        block.kept = value

    return put_aside


def _opening(function: Callable[..., Any], writable: bool, place: Place) -> Callable[[Packed | None], Any]:
    """Return `function` of a packed call, which is unpacked at the last moment."""

    def call(packed: Packed | None) -> Any:
        if packed is None:  # it could not be sent, and the driver has the error
            return None
        args, kwargs, place.seed = unpack(packed, writable=writable)
        mappings.drop_others()
        return function(*args, **kwargs)

    return call
