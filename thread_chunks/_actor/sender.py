"""An executor as its actor sees it: what it sends, in order, and what it gets."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from logging import LogRecord
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from .._wire.logs import Forwarder, Levels
from .._wire.page import no_slot
from .._wire.pickling import pack_error
from .._wire.protocol import (
    LARGEST_BY_CHANNEL,
    GivenBack,
    Leave,
    Logged,
    Looked,
    Question,
    Refused,
    Reply,
    Request,
    Surrender,
    decode,
    encode,
    fits_channel,
    seal,
)
from .._wire.records import pack_record
from .channel import Channel
from .control import Control

Order = Request | Leave


class Orders(Protocol):
    """What is to be done, in order. Any thread adds; the one that runs calls takes."""

    def __len__(self) -> int:
        """Return how many there are."""

    def add(self, order: Order | None) -> None:
        """Queue an order. None only wakes the thread that waits."""

    async def take(self, seconds: float) -> Order | None:
        """Return what is next; None if nothing comes within so many seconds, or another thread wakes this one."""


class ThreadsOrders:
    """For actors whose methods Ray calls in a thread: `take` blocks it."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Order | None] = SimpleQueue()

    def __len__(self) -> int:
        return self._queue.qsize()

    def add(self, order: Order | None) -> None:
        """Add an order, as `Orders` says."""
        self._queue.put(order)

    async def take(self, seconds: float) -> Order | None:
        """Return the next order, as `Orders` says."""
        with suppress(Empty):
            return self._queue.get(timeout=seconds)
        return None


class LoopsOrders:
    """For actors whose methods Ray calls in an event loop: `take` lets the loop go on.

    To be made in that loop.
    """

    def __init__(self) -> None:
        import asyncio  # only here, as in `runner`

        self._loop = asyncio.get_running_loop()
        self._queue: deque[Order | None] = deque()
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, order: Order | None) -> None:
        """Add an order, as `Orders` says."""
        self._queue.append(order)
        with suppress(RuntimeError):  # the loop is closed, and takes it no more
            self._loop.call_soon_threadsafe(self._some.set)

    async def take(self, seconds: float) -> Order | None:
        """Return the next order, as `Orders` says."""
        if not self._queue:
            import asyncio

            self._some.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._some.wait(), seconds)
        return self._queue.popleft() if self._queue else None


class Sender:
    """An executor that uses the actor: its channel, its orders, its functions.

    A thread reads the channel: it queues orders, and answers all other messages at once.

    Parameters
    ----------
    channel : Channel or None
        None if the executor can't be reached: Ray carries all.
    orders : Orders
        Where to put what is to be done.
    index : int
        The actor's number among the executor's workers.
    came : callable
        Called by the thread when an order has come.
    gone : callable
        Called by the thread when the executor has closed the channel, or has ended.
    """

    def __init__(
        self,
        channel: Channel | None,
        orders: Orders,
        index: int,
        came: Callable[[Sender], None],
        gone: Callable[[], None],
    ) -> None:
        self.control = Control()
        self.orders = orders
        self.index = index
        self.functions: dict[bytes, Callable[..., Any]] = {}  # those of series and `submit`, by key
        self.failure: tuple[int, Exception] | None = None  # of the last order whose shipment has not arrived
        self.page = no_slot() if channel is None else channel.page
        self.forwarder: Forwarder | None = None  # what takes log records there, if the executor wants them
        self._records: list[Logged] = []  # those that Ray is to carry
        self._channel = channel
        self._came = came
        self._gone = gone
        if channel is not None:
            threading.Thread(target=self._read, args=(channel,), name="thread_chunks-reader", daemon=True).start()

    @property
    def is_connected(self) -> bool:
        """Whether the executor can be reached."""
        return self._channel is not None

    def forward(self, forwarder: Forwarder, levels: Levels) -> None:
        """Send the log records that the executor wants, from now on."""
        self.forwarder = forwarder
        forwarder.begin(levels)
        forwarder.take = self.log

    def log(self, record: LogRecord) -> None:
        """Send a log record, at once or with the next reply."""
        logged = pack_record(record)
        if self._channel is None:
            self._records.append(logged)
        else:
            self.tell(logged)

    def take_records(self) -> list[Logged]:
        """Return the log records that Ray is to carry."""
        records, self._records = self._records, []
        return records

    def tell(self, message: Any) -> None:
        """Send a message to the executor, if it can be reached."""
        if self._channel is not None:
            self._channel.send(encode(message))

    def answer(self, reply: Reply, *, by_ray: bool) -> bytes | Reply | None:
        """Send the outcomes of a block to the executor. Returns them if they are Ray's to carry."""
        if by_ray or not fits_channel(reply):
            return seal(reply)
        payload = encode(reply)
        if len(payload) > LARGEST_BY_CHANNEL or self._channel is None:
            return payload
        self._channel.send(payload)
        return None

    def refuse(self, number: int, error: BaseException) -> None:
        """Say that an order could not be carried out."""
        self.tell(Refused(number, pack_error(error)))

    def watch(self, limit: int) -> None:
        """Look at the process's memory from now on, and tell the executor if it has more than `limit` bytes."""
        threading.Thread(target=self._watch, args=(limit,), name="thread_chunks-memory", daemon=True).start()

    def end(self) -> None:
        """Begin nothing of the executor's any more, and close the channel."""
        self.control.dismiss()
        if self._channel is not None:
            self._channel.close()

    def _watch(self, limit: int) -> None:
        if (excess := self.control.watch(limit)) is not None:
            if self._channel is None:  # and the driver cannot be reached: the machine is to be spared in any case
                os._exit(1)
            self.tell(excess)

    def _read(self, channel: Channel) -> None:
        try:
            for payload in channel.receive():
                self._take(decode(payload))
        finally:
            self.control.dismiss()
            channel.close()
            self.orders.add(Leave())
            self._gone()

    def _take(self, message: Any) -> None:
        match message:
            case Request() | Leave():
                self.orders.add(message)
                self._came(self)
            case Surrender(number):
                self.tell(GivenBack(number, self.control.surrender(number)))
            case Levels() if self.forwarder is not None:
                self.forwarder.begin(message)
            case Question(identity, number, with_stack):
                self.tell(Looked(identity, self.control.look(number, with_stack)))
