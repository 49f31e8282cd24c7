"""What runs inside an actor. Plain Python: nothing here knows Ray."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from ._actor.block import RunningBlock
from ._actor.memory import PeakMeter, resident
from ._actor.runner import LONG, LOOKS, call, extend_path, keeping, load, load_for_each_call, next_call, opening
from ._actor.terminal import Streams
from ._checkpoints.identity import identify_class
from ._wire.images import Shipment, open_shipment
from ._wire.pickling import PLAIN, Packed, pack, pack_error, unpack
from ._wire.protocol import CARRIED_KEY, STORED_KEY, Excess, Look, Ready, Reply, Request, Setup, Token, seal, unseal

__all__ = ["LabelledActor"]


class LabelledActor:
    """Holds a function, and runs it on labelled arguments.

    Derive from it to make a worker of your own: `__init__` may load what all calls need, and
    `run` may be overridden. Decorate the class with ``ray.remote`` to pass handles as ``actors``,
    or pass the plain class to `ChunkExecutor` as ``actor_class``.

    Parameters
    ----------
    func : callable, optional
        The stored function. An executor that makes the actor itself passes None here, and sets
        the function with `set_func` before the first call.

    Examples
    --------
    >>> from thread_chunks import LabelledActor
    >>> class Logged(LabelledActor):
    ...     def run(self, label, *args):
    ...         print("running", label)
    ...         return super().run(label, *args)
    >>> Logged(pow).run(7, 2, 5)
    running 7
    (7, 32)
    """

    _runs_plainly = True  # whether nothing is overridden, so that a block need not go through `run`

    # All of it belongs to the one thread that runs calls.
    _func: Callable[..., Any] | None
    _functions: dict[bytes, Callable[..., Any]]  # those of series and `submit`, by key

    # Under the lock, because the control thread has to do with them.
    _block: RunningBlock | None  # what runs
    _begun: dict[bytes, int]  # the number of each sender's last block that began; they begin in their order
    _given_back: set[Token]  # the tokens of those that were surrendered before they began
    _retired: bool  # nothing begins here any more

    def __init__(self, func: Callable[..., Any] | None = None) -> None:
        self._func = func
        self._functions = {CARRIED_KEY: call}
        self._lock = threading.Lock()
        self._block, self._begun, self._given_back = None, {}, set()
        self._retired = False
        self._dismissed = threading.Event()
        self._thread = 0  # which runs the calls
        self._peak = PeakMeter()
        self._streams = Streams()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Here, because Ray later wraps the methods of a subclass of its own.
        super().__init_subclass__(**kwargs)
        cls._runs_plainly = cls.run is LabelledActor.run and cls.get_func is LabelledActor.get_func

    def run(self, label: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Run the stored function.

        Parameters
        ----------
        label : object
            Identifies the call; returned as it is.
        *args, **kwargs
            The function's arguments.

        Returns
        -------
        tuple
            The label, and what the function returned.
        """
        return label, self.get_func()(*args, **kwargs)

    def set_func(self, func: Callable[..., Any]) -> None:
        """Replace the stored function."""
        self._func = func

    def get_func(self) -> Callable[..., Any]:
        """Return the stored function.

        Raises
        ------
        ValueError
            If there is none.
        """
        if self._func is None:
            raise ValueError("this actor has no stored function: give it one, or pass a function with the call")
        return self._func

    def class_identity(self) -> str:
        """Return what tells this class from others, for checkpoints. Called by the executor."""
        return class_identity(type(self))

    def start_worker(self, setup: Setup, shipment: Shipment) -> Ready:
        """Take over the driver's surroundings, store the function, run the initializer.

        Called by the executor, once, before any block.
        """
        self._thread = threading.get_ident()
        extend_path(setup.paths)
        sys.argv[:] = setup.arguments
        # Ray blocks it, and what the calls start would inherit that, and could not be interrupted.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        if setup.directory is not None and os.path.isdir(setup.directory):
            os.chdir(setup.directory)
        multiprocessing.current_process().authkey = setup.authkey
        if setup.streams is not None:
            self._streams.take(setup.streams)
        error = None
        try:
            if (function := open_shipment(shipment)) is not None:
                self.set_func(load(function))
            if setup.initializer is not None:
                initializer, initargs = unpack(setup.initializer)
                initializer(*initargs)
        except BaseException as raised:
            error = pack_error(raised)
        return Ready(socket.gethostname(), os.getpid(), setup.node(), error)

    def store_function(self, shipment: Shipment) -> None:
        """Replace the stored function by one that is packed. Called by the executor."""
        if (function := open_shipment(shipment)) is not None:
            self.set_func(load(function))

    def run_block(self, sealed: bytes | Request, shipment: Packed | Shipment | None = None) -> Any:
        """Run the calls of a block, one after the other, and return a `Reply`. Called by the executor.

        If its value is to stay in the cluster, it is returned beside the reply, as an object of its own for Ray.

        What a call raises is its outcome. An error of this method itself, as for a function that the
        actor does not hold, is the outcome of all calls of the block.
        """
        request: Request = unseal(Request, sealed)
        block = RunningBlock(request, self._peak)
        with self._lock:
            sender, number = block.token
            self._begun[sender] = number
            if block.token in self._given_back:
                self._given_back.remove(block.token)
                block.surrender()  # so that none of it is run; but the function that it brings is kept
            elif self._retired:
                block.give_up()
            self._block = block
        try:
            self._run(block, self._function(request, shipment, block), request.largest)
        finally:
            with self._lock:
                self._block = None
        reply = seal(block.take())
        return (reply, block.kept) if request.keeps else reply

    def _run(self, block: RunningBlock, call: Callable[..., Any], largest: int | None) -> None:
        values, clock, size = block.values, time.perf_counter, 0
        run_next = next_call(call, block)
        since = block.begin()
        for _ in block.places:
            try:
                value = run_next()
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
            if now - since > LONG:
                block.note_long(now - since)
            block.since = since = now
            values.append(value)  # last: what `values` has is complete
            if largest is not None and size > largest:
                block.give_up()

    def surrender(self, token: Token) -> bytes | Reply | bool:
        """Hand over what there is of a block, and do not start the rest of it.

        Called by the executor, in the thread of the control group. If the block does not run: whether
        it did. One that did not never will.
        """
        with self._lock:
            block = self._block
            if block is None or block.token != token:
                sender, number = token
                if number <= self._begun.get(sender, 0):
                    return True
                self._given_back.add(token)
                return False
        return seal(block.surrender())

    def look(self, token: Token, with_stack: bool) -> Look | None:
        """Say which call of a block runs; None if the block does not. Called in the thread of the control group."""
        with self._lock:
            block = self._block
        if block is None or block.token != token or (since := block.since) is None:
            return None
        stack = None
        if with_stack and (frame := sys._current_frames().get(self._thread)) is not None:  # noqa: SLF001 (documented)
            frames = traceback.extract_stack(frame)
            ours = max((index for index, entry in enumerate(frames) if entry.filename == __file__), default=-1)
            stack = "".join(traceback.format_list(frames[ours + 1 :]))
        return Look(len(block.values), time.perf_counter() - since, resident(), stack)

    def watch(self, limit: int) -> Excess | None:
        """Wait until the process has more than `limit` bytes for itself, or the executor lets go of the actor.

        Called by the executor, in a thread of its own. It sees nothing while a call holds the interpreter lock.
        """
        while not self._dismissed.wait(LOOKS):
            if resident() > limit:
                with self._lock:
                    if (used := resident()) <= limit:  # as a block was over, and another began
                        continue
                    self._retired = True
                    block = self._block
                if block is None:
                    return Excess(None, 0, used)
                label = block.label
                block.give_up()
                return Excess(block.token, label, used)
        return None

    def end_worker(self, sender: bytes, keys: list[bytes]) -> None:
        """Let go of what is the executor's, which stops using the actor; others may go on to use it."""
        self._dismissed.set()
        with self._lock:
            self._begun.pop(sender, None)
        self._forget(keys)
        self._streams.give_back()

    def _forget(self, keys: list[bytes]) -> None:
        for key in keys:
            self._functions.pop(key, None)

    def _function(
        self, request: Request, shipment: Packed | Shipment | None, block: RunningBlock
    ) -> Callable[..., Any]:
        """Return what to call with the arguments of the block's calls."""
        if request.paths is not None:
            extend_path(request.paths)
        self._forget(request.forget)
        shipped = open_shipment(shipment)
        if request.key == STORED_KEY:
            if shipped is not None:
                self.set_func(load(shipped))
            function = self._stored(block)
        else:
            if shipped is not None:
                self._functions[request.key] = load_for_each_call(shipped)
            function = self._functions[request.key]
        call = function if block.plain else opening(function, request.writable)
        return keeping(call, block) if request.keeps else call

    def _stored(self, block: RunningBlock) -> Callable[..., Any]:
        if self._runs_plainly and self._func is not None:
            return self._func
        return lambda *args, **kwargs: self.run(block.label, *args, **kwargs)[1]


def class_identity(cls: type[LabelledActor]) -> str:
    """Return a digest of what a class adds to `LabelledActor`; nothing if calls return what the function does."""
    return "" if cls._runs_plainly else identify_class(cls, LabelledActor)
