"""The consumer's side of a series, on the caller's thread: order, buffer, time-out, bar.

A *feed* is where the calls go in; its outbox is where their outcomes come out. `values_of` reads
the outbox, in whatever order they come, and yields the values in the order that was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from concurrent import futures
from contextlib import AbstractContextManager
from queue import Empty
from typing import Any

from .._calls.calls import Outcomes
from .._calls.mailbox import Mailbox
from .._calls.series import Delivery, Outbox, SeriesEnd
from ..progress import Bar
from .feeds import Feed


def values_of(
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
