"""A queue that a time-out can be relied on with."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from queue import Empty
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Mailbox(Generic[_T]):
    """A queue from any threads to one reader.

    `queue.SimpleQueue`, except for its time-outs: before Python 3.13 its `get(timeout=...)` waits for ever if a
    signal handler takes longer than what is left of the time-out; in 3.10, if a microsecond passes.
    Like it, `put` may be called by a finalizer in the middle of another `put`, which `queue.Queue` does not allow.
    """

    def __init__(self) -> None:
        self._items: deque[_T] = deque()
        self._arrival = threading.Lock()  # released by `put`, taken by `get`
        self._arrival.acquire()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: _T) -> None:
        """Add an item."""
        self._items.append(item)
        if self._arrival.locked():
            with suppress(RuntimeError):  # another `put` was quicker
                self._arrival.release()

    def get(self, timeout: float | None = None) -> _T:
        """Take the next item, and wait for it at most `timeout` seconds.

        Raises
        ------
        queue.Empty
            If none comes in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._items:
            # One release may stand for several items, and so be left when they are all taken.
            left = -1 if deadline is None else min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)
            if not self._arrival.acquire(timeout=left):
                raise Empty
        return self._items.popleft()
