"""The consumer's side of a series, on the caller's thread: order, buffer, time-out, bar.

A *feed* is where the calls go in; its outbox is where their outcomes come out. `values_of` reads
the outbox, in whatever order they come, and yields the values in the order that was asked for.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator
from concurrent import futures
from contextlib import AbstractContextManager
from queue import Empty
from typing import Any

from .._calls.calls import row_of
from .._calls.mailbox import Mailbox
from .._calls.series import Delivery, Outbox, SeriesEnd
from .._dispatch.naming import shortened
from .._wire.pickling import describe
from ..errors import ExecutorBroken, RemoteTraceback
from ..progress import Bar
from .feeds import Feed
from .options import SeriesOptions

_log = logging.getLogger("thread_chunks")

# So much of an error's text (characters) is in the log; the error itself has all of it.
_LONGEST = 300


def values_of(
    feed: Feed,
    options: SeriesOptions,
    *,
    name: str,
    started: float,
    bar: Callable[[], AbstractContextManager[Bar]],
) -> Generator[Any, None, None]:
    """Yield the values of a feed's calls.

    A generator, so that closing it, dropping it, and any error cancel what has not started; but
    one that is never asked for a value cancels nothing, as in the standard library.

    Parameters
    ----------
    options : SeriesOptions
        In which order, how long to wait, and what to do about errors.
    name : str
        The function's, for the log.
    started : float
        When the series was started, on `time.monotonic`'s clock.
    bar : callable
        Makes the bar that counts finished calls, when the first value is asked for.
    """
    reader = _Reader(feed.outbox, None if options.timeout is None else started + options.timeout)
    read_next = reader.read_any if options.unordered else reader.read
    values: list[Any] = []  # of the present block, the next one last
    errors: dict[int, BaseException] = {}  # of the present block, by index
    failures = _Failures(name) if options.return_exceptions else None
    arguments = feed.arguments  # by label, if they are to be yielded, too
    read, lazy = 0, feed.lazy  # how many calls were in the blocks before
    try:
        with bar() as reader.bar:
            if lazy:
                feed.refill()
            while read < feed.admitted:
                delivery = read_next(read)
                values, errors = delivery.outcomes.values, delivery.outcomes.errors
                values.reverse()  # in place, so that other owners of the list drop each value, too
                count = len(values)
                for index in range(count):
                    if index in errors:
                        if failures is None or ends_series(errors[index]):
                            raise errors.pop(index)
                        failures.note(errors[index])
                        values[-1] = errors.pop(index)
                    # Popped, so that nothing here refers to a value any more.
                    if arguments is None:
                        yield values.pop()
                    else:
                        yield row_of(arguments.pop(delivery.first + index)), values.pop()
                    if lazy:  # the next value is asked for
                        feed.refill()
                read += count
    finally:
        # An error that the user keeps refers to all of these, which must not keep anything alive.
        feed.abandon()
        reader.close()
        values.clear()
        errors.clear()
        if failures is not None:
            failures.log(feed.admitted)


def ends_series(error: BaseException) -> bool:
    """Return whether an error ends the executor or the series, and is not the outcome of one call.

    The same kinds of error, raised by a call that has an executor of its own, have come with a remote traceback.
    """
    is_the_end = isinstance(error, (futures.CancelledError, ExecutorBroken))
    return is_the_end and not isinstance(error.__cause__, RemoteTraceback)


class _Failures:
    """Count the calls of a series that failed, and log their number at its end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0
        self._first = ""

    def note(self, error: BaseException) -> None:
        """Count an error."""
        self._count += 1
        self._first = self._first or shortened(describe(error), _LONGEST)

    def log(self, calls: int) -> None:
        """Say how many there were of so many calls, if there were any."""
        if self._count:
            text = "%d of %d calls of %s failed; the first one that was seen: %s"
            _log.warning(text, self._count, calls, self._name, self._first)


class _Reader:
    """Read an outbox, block by block."""

    bar: Bar

    def __init__(self, outbox: Outbox, deadline: float | None) -> None:
        self._outbox = outbox
        self._deadline = deadline
        self._early: dict[int, Delivery] = {}  # blocks that came before their turn, by first label
        self._end: SeriesEnd | None = None

    def close(self) -> None:
        """Drop all that came, and what is still to come."""
        self._early.clear()
        self._outbox = Mailbox()

    def read(self, label: int) -> Delivery:
        """Wait for the block that begins with `label`."""
        while label not in self._early:
            delivery = self._receive(label)
            self._early[delivery.first] = delivery
        return self._early.pop(label)

    def read_any(self, count: int) -> Delivery:
        """Wait for any block, where `count` calls were in those that were read before."""
        return self._receive(count)

    def _receive(self, count: int) -> Delivery:
        # Calls up to the end's label get their outcomes, so before they came, nothing ends here.
        if self._end is not None and count >= self._end.first:
            raise self._end.error
        item = self._wait()
        if isinstance(item, SeriesEnd):
            self._end = item
            return self._receive(count)
        self.bar.update(len(item.outcomes.values), len(item.outcomes.errors))
        return item

    def _wait(self) -> Delivery | SeriesEnd:
        while True:
            left = math.inf if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            pause = min(left, self.bar.pause)
            try:
                return self._outbox.get(timeout=None if pause == math.inf else pause)
            except Empty:
                if pause == left:
                    raise futures.TimeoutError from None  # not the builtin one before Python 3.11
                self.bar.refresh()
