"""What runs the calls of a block in a worker's process."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from types import BuiltinFunctionType, FunctionType
from typing import Any, Protocol

from .._system.signals import unblock
from .._wire.images import Shipment, open_shipment
from .._wire.pickling import PLAIN, Packed, pack, pack_error, unpack
from .._wire.protocol import CARRIED_KEY, STORED_KEY, Ready, Request, Setup, seal, unseal
from ..errors import UnpicklingFailed
from .block import RunningBlock
from .children import restore_signals_in_children
from .control import Control
from .here import Place, enter
from .memory import PeakMeter
from .terminal import Streams

# From this duration (s) on, a call's duration and memory are noted. Less, and calls spend their time with it.
_LONG = 0.02

# Makes a call's value of what the call returned.
_Finish = Callable[[Any], Awaitable[Any]]


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
    """Runs blocks in a worker's process, one call after the other.

    How messages arrive is not its business (see `entry`), nor is what other threads ask about the block that runs (see
    `control`). All but `control` belongs to the one thread that runs calls, or, in an event loop, to who has `turn`.

    Parameters
    ----------
    in_loop : bool
        Whether its coroutines run in an event loop, so that the user's methods may be `async`. Without one they wait
        for nothing.

    Attributes
    ----------
    control : Control
    turn : asyncio.Lock
        In an event loop, whoever runs calls has it.
    """

    def __init__(self, *, in_loop: bool) -> None:
        import asyncio  # only here: workers need it, and it is a sixth of what the package takes to import

        self.control = Control()
        self.turn = asyncio.Lock()
        self._in_loop = in_loop
        self._functions: dict[bytes, Callable[..., Any]] = {CARRIED_KEY: _call}  # those of series and `submit`, by key
        self._peak = PeakMeter()
        self._place = Place()
        self._indices: dict[bytes, int] = {}  # the numbers that those who send blocks have given it
        self._streams = Streams()

    def __reduce__(self) -> tuple[Any, ...]:
        # An actor that copies or pickles itself means what is its own. The copy runs nothing yet.
        return _new_runner, (self._in_loop,)

    async def start(self, holder: Holder, setup: Setup, shipment: Packed | Shipment | None) -> Ready:
        """Take over the driver's surroundings, store the function, run the initializer."""
        restore_signals_in_children()
        enter(self._place, setup.process)
        self._indices[setup.sender] = self._place.index = setup.index
        _extend_path(setup.paths)
        sys.argv[:] = setup.arguments
        # Ray blocks it, and what the calls start would inherit that, and could not be interrupted.
        unblock([signal.SIGINT])
        if setup.directory is not None and os.path.isdir(setup.directory):
            os.chdir(setup.directory)
        multiprocessing.current_process().authkey = setup.authkey
        if setup.streams is not None:
            self._streams.take(setup.streams)
        error = None
        try:
            await self.store(holder, shipment)
            if setup.initializer is not None:
                initializer, initargs = unpack(setup.initializer)
                initializer(*initargs)
        except BaseException as raised:
            error = pack_error(raised)
        self._streams.flush()
        return Ready(socket.gethostname(), os.getpid(), setup.node(), error)

    async def store(self, holder: Holder, shipment: Packed | Shipment | None) -> None:
        """Bring the globals up to date, and replace the stored function if there is one."""
        if (function := open_shipment(shipment)) is not None:
            await self._store(holder, function)

    async def _store(self, holder: Holder, function: Packed) -> None:
        await self._settled(holder.set_func(_load(function)))

    async def run(self, holder: Holder, sealed: bytes | Request, shipment: Packed | Shipment | None) -> Any:
        """Run the calls of a block, one after the other, and return a `Reply`, sealed.

        If the value is to stay in the cluster, return it beside the reply, as an object of its own for Ray.

        What a call raises is its outcome. An error of this method itself, as for a function that the
        actor does not hold, is the outcome of all calls of the block.
        """
        request: Request = unseal(Request, sealed)
        block = RunningBlock(request, self._peak)
        self._place.index = self._indices.get(block.token[0])
        with self.control.running(block):
            if request.paths is not None:
                _extend_path(request.paths)
            self._forget(request.forget)
            if (
                function := open_shipment(shipment)
            ) is not None:  # and keep it, though the block may have been surrendered
                await self._keep(holder, request.key, function)
            call, finish = self._function(holder, request.key, block)
            if not block.plain:
                call = _opening(call, request.writable, self._place)
            if request.keeps:
                finish = _putting_aside(finish, block)
            try:
                await _run(block, call, finish, request.largest)
            finally:
                self._place.seed = None
        self._streams.flush()
        reply = seal(block.take())
        return (reply, block.kept) if request.keeps else reply

    def end(self, sender: bytes, keys: list[bytes]) -> None:
        """Let go of what is an executor's, which stops using the actor; others may go on to use it."""
        self.control.dismiss(sender)
        self._indices.pop(sender, None)
        self._forget(keys)
        self._streams.give_back()

    async def _keep(self, holder: Holder, key: bytes, function: Packed) -> None:
        if key == STORED_KEY:
            await self._store(holder, function)
        else:
            self._functions[key] = _load_for_each_call(function)

    def _forget(self, keys: list[bytes]) -> None:
        for key in keys:
            self._functions.pop(key, None)

    def _function(self, holder: Holder, key: bytes, block: RunningBlock) -> tuple[Callable[..., Any], _Finish | None]:
        """Return what to call with the arguments of the block's calls, and what makes their values of what it returns.

        Raises
        ------
        KeyError
            If the actor does not hold the function.
        """
        if key != STORED_KEY:
            return self._functions[key], None
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


async def _run(block: RunningBlock, call: Callable[..., Any], finish: _Finish | None, largest: int | None) -> None:
    values, clock, size = block.values, time.perf_counter, 0
    run_next = _next_call(call, block)
    since = block.begin()
    for _ in block.places:
        try:
            value = run_next()
            if finish is not None:
                value = await finish(value)
            kind = type(value)
            if kind not in PLAIN:
                packed = block.packed[len(values)] = pack(value)
                value = None
                size += packed.size
            elif kind is str or kind is bytes:
                size += len(value)
        except BaseException as error:  # SystemExit too: it would end the actor for good
            block.errors[len(values)] = pack_error(error)
            value = None
        now = clock()
        if now - since > _LONG:
            block.note_long(now - since)
        block.since = since = now
        values.append(value)  # last: what `values` has is complete
        if largest is not None and size > largest:
            block.give_up()


def _extend_path(paths: list[str]) -> None:
    sys.path.extend(path for path in paths if path not in sys.path)


def _call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _load(function: Packed) -> Callable[..., Any]:
    """Return the function; if it cannot be rebuilt, one that says so to each of its calls.

    Its large arrays are shared by all actors of a node, and therefore read-only.
    """
    try:
        loaded: Callable[..., Any] = unpack(function, writable=False)
    except UnpicklingFailed as failure:
        text, cause = str(failure), failure.__cause__

        def fail(*args: Any, **kwargs: Any) -> None:
            raise UnpicklingFailed(text) from cause

        return fail
    return loaded


def _load_for_each_call(function: Packed) -> Callable[..., Any]:
    """Return the function, made anew for each call if it may change as it runs, as if it came along."""
    loaded = _load(function)
    if isinstance(loaded, (FunctionType, BuiltinFunctionType, type)):
        return loaded
    return lambda *args, **kwargs: unpack(function, writable=False)(*args, **kwargs)


def _putting_aside(finish: _Finish | None, block: RunningBlock) -> _Finish:
    """Return what puts a value aside, for Ray to pickle."""

    async def put_aside(value: Any) -> None:
        if finish is not None:
            value = await finish(value)
        pack(value)  # for its error: one of Ray's own would come too late
        block.kept = value

    return put_aside


def _next_call(function: Callable[..., Any], block: RunningBlock) -> Callable[[], Any]:
    """Return what runs the next call of a block, and does not refer to its arguments afterwards."""
    items, width, pop = block.items, block.width, block.items.pop
    if width == 1:
        return lambda: function(pop())
    if width is None:
        return lambda: function(*pop())

    def run() -> Any:
        args = items[: -width - 1 : -1]
        del items[-width:]
        return function(*args)

    return run


def _opening(function: Callable[..., Any], writable: bool, place: Place) -> Callable[[Packed | None], Any]:
    """Return `function` of a packed call, which is unpacked at the last moment."""

    def call(packed: Packed | None) -> Any:
        if packed is None:  # it could not be sent, and the driver has the error
            return None
        args, kwargs, place.seed = unpack(packed, writable=writable)
        return function(*args, **kwargs)

    return call
