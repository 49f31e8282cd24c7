"""The block that an actor runs, which another thread may take over in the middle."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from ._calls import Arguments
from ._wire import Packed, Reply, Request, unpack

# Where a block's calls end.
_END: Any = object()


class RunningBlock:
    """The calls of a block that have not started, and what came of the others.

    Two threads share it: the one that runs the calls, and the control thread, which may `surrender`
    the block at any time. A call leaves the list by one `pop`, and so for one of the two.

    Attributes
    ----------
    calls : iterator of tuple
        What is still to be run, for the thread that runs it: arguments if `plain`, else a packed call.
    values, packed, errors
        As in `Reply`, from the first call on. Appended to by the thread that runs the calls, `values`
        last, so that a call that is in `values` is complete.
    """

    def __init__(self, request: Request) -> None:
        self.token = request.token
        self.values: list[Any] = []
        self.packed: dict[int, Packed] = {}
        self.errors: dict[int, Packed] = {}
        self._first = request.first
        self.plain = isinstance(request.calls, Packed)
        calls = unpack(request.calls) if isinstance(request.calls, Packed) else [(call,) for call in request.calls]
        request.calls = []  # Ray keeps the request until the block is over; the arguments need not stay so long
        calls.append(_END)
        calls.reverse()
        self._waiting: list[Arguments] = calls  # the next one last
        self.calls: Iterator[Arguments] = iter(calls.pop, _END)
        self._lock = threading.Lock()
        self._taken = 0  # under the lock: outcomes that were handed over
        self._since = time.perf_counter()  # under the lock: when the last were, or the block began

    @property
    def label(self) -> int:
        """The label of the call that runs."""
        return self._first + len(self.values)

    def take(self, left: int = 0) -> Reply:
        """Hand over the outcomes that were not yet."""
        with self._lock:
            start, stop = self._taken, len(self.values)
            values, self.values[start:stop] = self.values[start:stop], [None] * (stop - start)
            packed, errors = _take(self.packed, start, stop), _take(self.errors, start, stop)
            self._taken = stop
            before, self._since = self._since, time.perf_counter()
            return Reply(values, packed, errors, start, self._since - before, left)

    def surrender(self) -> Reply:
        """Hand over the outcomes that there are, and keep all other calls but the one that runs from being run."""
        left = 0
        try:
            while self._waiting.pop() is not _END:
                left += 1
            self._waiting.append(_END)  # for the other thread
        except IndexError:  # which has found it
            pass
        return self.take(left)


def _take(column: dict[int, Packed], start: int, stop: int) -> dict[int, Packed]:
    return {index - start: column.pop(index) for index in list(column) if index < stop}
