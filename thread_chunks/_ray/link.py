"""How orders reach an actor, and in order: by the channel, or by Ray's calls."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from ray.exceptions import RayTaskError

from .._wire.protocol import Leave, encode


class Carrier(Protocol):
    """What orders and control travel by: a `Channel`."""

    def send(self, payload: bytes) -> None:
        """Send, and wait for nothing."""

    def close(self) -> None:
        """Close the connection."""


@dataclass(slots=True, eq=False)
class Order:
    """Something that a worker is to do, and to answer.

    Attributes
    ----------
    number : int
        What the answer names, if it comes by the channel.
    payload : bytes or None
        What the channel takes; None if it is Ray's to carry.
    call : callable
        Sends it by Ray to the actor that it is given; returns what has the answer, or None if it could not be sent.
    """

    number: int
    payload: bytes | None
    call: Callable[[Any], Future[Any] | None]


class Link:
    """The way to one actor, from its start on, which is a call of Ray's.

    By the channel, orders go as they come. What Ray carries is sent when all before it is answered that went by the
    channel, and nothing goes by the channel until it is answered: neither knows of the other's order. Ray itself keeps
    the order of its calls, but not where it runs an actor in an event loop: there one follows the other's answer.

    The worker takes what comes by the channel while it is *attached*: in a call of Ray's, `thread_chunks_attach`. It
    *leaves* when there was nothing to do for a while, and says so; what was sent meanwhile lies there until it is
    attached again.

    Any thread may call. The lock guards all, and is not held while Ray is called.

    Parameters
    ----------
    handle : actor handle
    identity : bytes
        What the worker is known by.
    channel : Carrier or None
    is_ordered : bool
        Whether Ray keeps the order of calls to the actor.
    is_alive : callable
        Returns whether Ray is up.
    returned : callable
        Takes what a call of `thread_chunks_attach` returned: the number of an order, and its answer.
    lost : callable
        Takes the error by which Ray says that the actor is dead.
    """

    def __init__(
        self,
        handle: Any,
        identity: bytes,
        channel: Carrier | None,
        is_ordered: bool,
        is_alive: Callable[[], bool],
        returned: Callable[[int, Any], None],
        lost: Callable[[BaseException], None],
    ) -> None:
        self._handle = handle
        self._identity = identity
        self._channel = channel
        self._is_ordered = is_ordered
        self._is_alive = is_alive
        self._returned = returned
        self._lost = lost
        self._lock = threading.Lock()
        self._waiting: deque[Order] = deque()
        self._unanswered: set[int] = set()  # of what went by the channel
        self._rays_calls = 1  # so many are to be answered; the first one is that which starts the worker
        self._is_starting = True  # whether it is not known yet if the channel can be used
        self._is_connected = False  # whether it can
        self._stays = 0  # how many calls of `thread_chunks_attach` were made by which the worker has not left
        self._leaving = False  # whether it was asked to leave the last of them
        self._closing = False
        self._drained: threading.Event | None = None  # what a thread waits for

    @property
    def handle(self) -> Any:
        """The actor's handle; None when it is used no more."""
        return self._handle

    @property
    def is_connected(self) -> bool:
        """Whether the worker can be asked while it runs something."""
        with self._lock:
            return self._is_connected

    def ready(self, *, connected: bool) -> None:
        """Begin to send: the worker is up."""
        with self._lock:
            self._is_connected, self._is_starting = connected, False
        self._rays_call_is_over()

    def send(self, order: Order) -> None:
        """Send an order when it is its turn."""
        with self._lock:
            self._waiting.append(order)
        self._go_on()

    def ask(self, payload: bytes) -> bool:
        """Send what is not an order, at once, if there is a channel. Return whether there is."""
        with self._lock:
            if self._is_connected and self._channel is not None:
                self._channel.send(payload)
                return True
            return False

    def answered(self, number: int) -> None:
        """Record that an order that went by the channel is carried out."""
        with self._lock:
            self._unanswered.discard(number)
            if self._unanswered or not (self._waiting or self._closing or self._drained):
                return  # nothing depends on it
        self._go_on()

    def left(self) -> None:
        """Record that the worker has left; attach it again if it has something to do."""
        with self._lock:
            self._stays -= 1
            if self._stays or not self._unanswered:
                return
            self._leaving = False
            self._stays = 1
        self._attach()

    def find_out(self) -> None:
        """Ask Ray what has become of the actor: the answer is an error."""
        self._attach()

    def settle(self, timeout: float) -> None:
        """Wait until all is answered."""
        drained = threading.Event()
        with self._lock:
            self._drained = drained
        self._go_on()
        drained.wait(timeout)

    def close(self, *, at_once: bool) -> None:
        """Use the actor no more: from now on, or when all is answered."""
        with self._lock:
            self._closing = True
            if at_once:
                self._waiting.clear()
                self._unanswered.clear()
                self._rays_calls = 0
        self._go_on()

    def _go_on(self) -> None:
        while True:
            with self._lock:
                action = self._next()
            if action is None:
                return
            action()

    def _next(self) -> Callable[[], None] | None:
        """Send what the channel can take; return what is to be done next without the lock."""
        while self._waiting:
            order = self._waiting[0]
            if order.payload is not None and (self._is_connected or self._is_starting):
                if self._rays_calls or self._channel is None:
                    return None
                self._waiting.popleft()
                self._unanswered.add(order.number)
                self._channel.send(order.payload)
                if self._stays == 0 or self._leaving:
                    self._leaving = False
                    self._stays += 1
                    return self._attach
                continue
            if self._unanswered or (self._rays_calls and not self._is_ordered):
                return None
            self._waiting.popleft()
            self._rays_calls += 1
            self._tell_to_leave()
            return partial(self._call, order)
        if self._unanswered or self._rays_calls:
            return None
        if self._drained is not None:
            self._drained.set()
        if self._closing and self._handle is not None:
            return self._close
        return None

    def _tell_to_leave(self) -> None:
        if self._stays and not self._leaving and self._channel is not None:
            self._leaving = True
            self._channel.send(encode(Leave()))

    def _attach(self) -> None:
        with suppress(Exception):  # Ray is gone, which others find out
            if self._is_alive() and (handle := self._handle) is not None:
                future: Future[Any] = handle.thread_chunks_attach.remote(self._identity).future()
                future.add_done_callback(self._stay_is_over)

    def _stay_is_over(self, future: Future[Any]) -> None:
        if (error := future.exception()) is None:
            if (result := future.result()) is not None:
                self._returned(*result)
        elif not isinstance(error, RayTaskError):  # else the worker was interrupted, and has said that it left
            self._lost(error)

    def _call(self, order: Order) -> None:
        if (future := order.call(self._handle)) is None:
            self._rays_call_is_over()
        else:
            future.add_done_callback(lambda _: self._rays_call_is_over())

    def _rays_call_is_over(self) -> None:
        with self._lock:
            self._rays_calls = max(0, self._rays_calls - 1)  # it was set to 0 if the actor was released at once
        self._go_on()

    def _close(self) -> None:
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is None:
            return
        if self._channel is not None:
            self._channel.close()
        if not self.is_connected:
            with suppress(Exception):  # Ray is gone
                if self._is_alive():
                    handle.thread_chunks_end.remote(self._identity)
