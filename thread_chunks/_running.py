"""The block that an actor runs, which another thread may take over in the middle."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from ._calls import Arguments
from ._wire import Packed, Reply, Request, unpack


class RunningBlock:
    """The calls of a block that have not started, and what came of the others.

    Two threads share it: the one that runs the calls, and the control thread, which may `surrender`
    the block at any time. The first takes calls from the front, the second from the back, so that
    each call goes to one of them, and what is given back are the last ones.

    Attributes
    ----------
    waiting : deque of tuple
        What is still to be run: arguments if `plain`, else a packed call.
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
        self.waiting: deque[Arguments] = deque(calls)
        self._lock = threading.Lock()
        self._taken = 0  # under the lock: outcomes that were handed over
        self._left = 0  # thread that runs the calls: calls that it gives back itself
        self._began = time.perf_counter()

    @property
    def label(self) -> int:
        """The label of the call that runs."""
        return self._first + len(self.values)

    def begin(self) -> None:
        """Start the clock: the function is there."""
        self._began = time.perf_counter()

    def give_up(self) -> None:
        """Run no more calls, and give them back with the outcomes."""
        self._left = self._drain()

    def take(self) -> Reply:
        """Hand over the outcomes that were not yet, at the end."""
        return self._take(self._left)

    def surrender(self) -> Reply:
        """Hand over the outcomes that there are, and keep all other calls but the one that runs from being run."""
        return self._take(self._drain())

    def _drain(self) -> int:
        count = 0
        try:
            while True:
                self.waiting.pop()
                count += 1
        except IndexError:
            return count

    def _take(self, left: int) -> Reply:
        with self._lock:
            start, stop = self._taken, len(self.values)
            self._taken = stop
            values, self.values[start:stop] = self.values[start:stop], [None] * (stop - start)
            packed, errors = _pop(self.packed, start, stop), _pop(self.errors, start, stop)
        return Reply(values, packed, errors, start, time.perf_counter() - self._began, left)


def _pop(column: dict[int, Packed], start: int, stop: int) -> dict[int, Packed]:
    return {index - start: column.pop(index) for index in list(column) if index < stop}
