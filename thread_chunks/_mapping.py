"""The consumer's side of a series, on the caller's thread: order, buffer, time-out, bar.

A *feed* is where the calls go in; its outbox is where their outcomes come out. `results` reads
the outbox, in whatever order they come, and yields the values in the order that was asked for.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Generator, Iterable
from concurrent import futures
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager
from itertools import islice
from queue import Empty
from typing import Any, Protocol

from ._blocks import Delivery, Outbox, Recorder, Series, SeriesEnd
from ._calls import UNLIMITED, Arguments, Function, Limits, Outcomes
from ._mailbox import Mailbox
from ._messages import Abandon, Inbox
from ._supply import Supply
from .progress import Bar


class Feed(Protocol):
    """Where the calls of a series go in."""

    outbox: Outbox
    admitted: int
    lazy: bool  # whether `refill` has anything to do

    def refill(self) -> None:
        """Let one more call in, if the input has one."""

    def add(self, args: Arguments) -> None:
        """Let a call in that is not of the input."""

    def abandon(self) -> None:
        """Cancel what has not started, and let go of everything."""


class SeriesFeed:
    """Feeds a `Series` to the dispatcher.

    Parameters
    ----------
    calls : iterable of tuple
        The arguments of the calls. A `Supply` is taken over as it is.
    chunksize : int or None
        Calls to a block.
    buffersize : int or None
        How far to run ahead of the consumer; None: let everything in now.
    owner : object
        The executor, if it is to be fed later on: until then it must not end by being dropped.
    recorder : Recorder or None
        Where values are kept.
    limits : Limits
        What the calls may take.
    """

    def __init__(
        self,
        inbox: Inbox,
        function: Function,
        calls: Iterable[Arguments],
        chunksize: int | None,
        buffersize: int | None,
        *,
        owner: object,
        recorder: Recorder | None = None,
        limits: Limits = UNLIMITED,
    ) -> None:
        self.outbox: Outbox = Mailbox()
        self.admitted = 0
        self.lazy = buffersize is not None
        self._owner = owner
        self._inbox = inbox
        self._rest = iter(()) if isinstance(calls, Supply) else iter(calls)
        self._series: Series | None = Series(function, weakref.ref(self.outbox), chunksize, recorder, limits)
        if isinstance(calls, Supply):
            self._series.calls = calls
            self.admitted = len(calls)
            if self.admitted:
                inbox.admit(self._series)
        else:
            try:
                for args in islice(self._rest, buffersize):
                    self.add(args)
            except BaseException:
                self.abandon()
                raise

    def refill(self) -> None:
        """Let one more call in, if the input has one."""
        for args in islice(self._rest, 1):
            self.add(args)

    def abandon(self) -> None:
        """Cancel what has not started, and let go of everything."""
        if self._series is not None:
            self._inbox.post(Abandon(self._series))
        self._owner, self._rest, self._series, self.outbox = None, iter(()), None, Mailbox()

    def add(self, args: Arguments) -> None:
        """Let a call in that is not of the input."""
        assert self._series is not None
        if self.admitted:
            self._inbox.feed(self._series, args)
        else:
            self._series.calls.append(args)
            self._inbox.admit(self._series)
        self.admitted += 1


class FutureFeed:
    """Feeds calls through a `submit` that a subclass or a client library put in the place of ours."""

    def __init__(
        self,
        submit: Callable[[Arguments], Future[Any]],
        calls: Iterable[Arguments],
        buffersize: int | None,
        recorder: Recorder | None = None,
    ) -> None:
        self.outbox: Outbox = Mailbox()
        self.admitted = 0
        self.lazy = buffersize is not None
        self._submit = submit
        self._rest = iter(calls)
        self._recorder = recorder
        self._futures: dict[int, Future[Any]] = {}
        try:
            for args in islice(self._rest, buffersize):
                self.add(args)
        except BaseException:
            self.abandon()
            raise

    def refill(self) -> None:
        """Let one more call in, if the input has one."""
        for args in islice(self._rest, 1):
            self.add(args)

    def abandon(self) -> None:
        """Cancel what has not started, and let go of everything."""
        self._submit, self._rest, self._recorder = _no_submit, iter(()), None
        for future in list(self._futures.values()):
            future.cancel()
        self.outbox = Mailbox()

    def add(self, args: Arguments) -> None:
        """Let a call in that is not of the input."""
        label = self.admitted
        future = self._futures[label] = self._submit(args)
        self.admitted += 1
        recorder = self._recorder  # which has to know of what finishes after nobody wants it any more
        future.add_done_callback(lambda done: self._done(label, args, done, recorder))

    def _done(self, label: int, args: Arguments, future: Future[Any], recorder: Recorder | None) -> None:
        self._futures.pop(label, None)
        if future.cancelled():
            outcomes = Outcomes.all_failed(1, CancelledError())
        elif (error := future.exception()) is not None:
            outcomes = Outcomes.all_failed(1, error)
        else:
            outcomes = Outcomes([future.result()])
        try:
            if recorder is not None:
                recorder.start(label, args)
                recorder.record(label, outcomes)
        finally:
            self.outbox.put(Delivery(label, outcomes))


def results(
    feed: Feed,
    *,
    unordered: bool,
    timeout: float | None,
    started: float,
    bar: Callable[[], AbstractContextManager[Bar]],
) -> Generator[Any, None, None]:
    """Yield the values of a feed's calls.

    A generator, so that closing it, dropping it, and any error cancel what has not started; but
    one that nobody ever asks for a value cancels nothing, as in the standard library.

    Parameters
    ----------
    unordered : bool
        In the order in which they come, not in the order of the calls.
    timeout : float or None
        Seconds from `started` after which to wait no more.
    started : float
        When the series was started, on `time.monotonic`'s clock.
    bar : callable
        Makes the bar that counts finished calls, when the first value is asked for.
    """
    reader = _Reader(feed.outbox, None if timeout is None else started + timeout)
    values: list[Any] = []  # of the present block, the next one last
    errors: dict[int, BaseException] = {}  # of the present block, by index
    read, lazy = 0, feed.lazy  # how many calls were in the blocks before
    try:
        with bar() as reader.bar:
            if lazy:
                feed.refill()
            while read < feed.admitted:
                outcomes = reader.read_any(read) if unordered else reader.read(read)
                values, errors = outcomes.values, outcomes.errors
                values.reverse()  # in place: whoever else holds the list lets go of a value too
                count = len(values)
                for index in range(count):
                    if index in errors:
                        raise errors.pop(index)
                    yield values.pop()  # popped, so that nothing here refers to a value any more
                    if lazy:  # the next value is asked for
                        feed.refill()
                read += count
    finally:
        # An error that the user keeps refers to all of these, which must not keep anything alive.
        feed.abandon()
        reader.close()
        values.clear()
        errors.clear()


def _no_submit(args: Arguments) -> Future[Any]:
    raise AssertionError("a feed that was abandoned is fed")


class _Reader:
    """Reads an outbox, block by block."""

    bar: Bar

    def __init__(self, outbox: Outbox, deadline: float | None) -> None:
        self._outbox = outbox
        self._deadline = deadline
        self._early: dict[int, Outcomes] = {}  # blocks that came before their turn, by first label
        self._end: SeriesEnd | None = None

    def close(self) -> None:
        """Let go of all that came, and of what is still to come."""
        self._early.clear()
        self._outbox = Mailbox()

    def read(self, label: int) -> Outcomes:
        """Wait for the block that begins with `label`."""
        while label not in self._early:
            delivery = self._receive(label)
            self._early[delivery.first] = delivery.outcomes
        return self._early.pop(label)

    def read_any(self, count: int) -> Outcomes:
        """Wait for any block, where `count` calls were in those that were read before."""
        return self._receive(count).outcomes

    def _receive(self, count: int) -> Delivery:
        # Calls up to the end's label get their outcomes, so before they came, nothing ends here.
        if self._end is not None and count >= self._end.first:
            raise self._end.error
        item = self._wait()
        if isinstance(item, SeriesEnd):
            self._end = item
            return self._receive(count)
        self.bar.update(len(item.outcomes.values))
        return item

    def _wait(self) -> Delivery | SeriesEnd:
        if self._deadline is None:
            return self._outbox.get()
        try:
            return self._outbox.get(timeout=max(0.0, self._deadline - time.monotonic()))
        except Empty:
            raise futures.TimeoutError from None  # not the builtin one before Python 3.11
