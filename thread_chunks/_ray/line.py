"""Sends messages to an actor such that they arrive in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

# Sends a message, and returns what has its answer; None if it could not be sent.
Send = Callable[[], Future[Any] | None]


class Line:
    """Messages on their way to one actor.

    Where Ray does not keep their order, each waits until the one before it is answered. It is then sent from the
    thread in which Ray calls back. The lock guards all.
    """

    def __init__(self, *, is_ordered: bool) -> None:
        self._is_ordered = is_ordered
        self._lock = threading.Lock()
        self._waiting: deque[Send] = deque()
        self._is_empty = threading.Event()  # all was answered
        self._is_empty.set()

    def add(self, send: Send) -> bool:
        """Send a message when it is its turn. Return whether the next one may be sent before this is answered."""
        if self._is_ordered:
            return send() is not None
        with self._lock:
            self._waiting.append(send)
            is_first = self._is_empty.is_set()
            self._is_empty.clear()
        if is_first:
            self._send_next()
        return False

    def flush(self, timeout: float) -> None:
        """Wait until all is answered, where the order depends on it."""
        self._is_empty.wait(timeout)

    def _send_next(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_empty.set()
                    return
                send = self._waiting.popleft()
            if (future := send()) is not None:
                future.add_done_callback(lambda _: self._send_next())
                return
