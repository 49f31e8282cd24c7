"""The thread that serves the driver's ends of all channels, and waits for none of them."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count

_log = logging.getLogger("thread_chunks")

# How long `Loop.close` waits for the thread (s). A call of Ray's that came too late, as the user has shut Ray down, may
# never return. Less, and on a busy machine Ray is stopped while the thread uses it; more, and the program ends later.
_PATIENCE = 10.0


class Loop:
    """Calls what is to be called when sockets are ready, when it is time, or when another thread asks for it.

    All but `do`, `start` and `close` belongs to its thread, or to whoever makes it until `start` is called.

    Parameters
    ----------
    name : str
        Of the thread.
    at_end : callable
        Called last by the thread.
    """

    def __init__(self, name: str, at_end: Callable[[], None]) -> None:
        self._at_end = at_end
        self._open = True
        self._actions: deque[Callable[[], None]] = deque()  # what other threads want to have done
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._selector = selectors.DefaultSelector()
        self._waker, self._wakened = socket.socketpair()
        for end in (self._waker, self._wakened):
            end.setblocking(False)
        self.watch(self._wakened, selectors.EVENT_READ, self._drain)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread.

        Raises
        ------
        RuntimeError
            If there can be no more threads.
        """
        self._thread.start()

    def close(self) -> None:
        """End the thread; wait for that, not for ever, unless it is the thread that asks, or it was never started."""
        self.do(self._stop)
        if not self._thread.ident:
            self._end()
        elif threading.current_thread() is not self._thread:
            self._thread.join(_PATIENCE)

    def do(self, action: Callable[[], None]) -> None:
        """Let the thread do something soon. Any thread may ask."""
        self._actions.append(action)
        with suppress(OSError):  # it is full of wakes already, or closed
            self._waker.send(b".")

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in so many seconds."""
        heappush(self._timers, (time.monotonic() + seconds, next(self._order), action))

    def watch(self, what: socket.socket | int, events: int, serve: Callable[[int], None]) -> None:
        """Call `serve` with the events of a socket or a descriptor, as they come."""
        try:
            self._selector.modify(what, events, serve)
        except KeyError:
            self._selector.register(what, events, serve)

    def unwatch(self, what: socket.socket | int) -> None:
        """Call nothing for it any more."""
        with suppress(KeyError, ValueError):
            self._selector.unregister(what)

    def _stop(self) -> None:
        self._open = False

    def _run(self) -> None:
        try:
            while self._open:
                for key, events in self._selector.select(self._patience()):
                    self._call(key.data, events)
                while self._timers and self._timers[0][0] <= time.monotonic():
                    self._call(heappop(self._timers)[2])
                while self._actions:
                    self._call(self._actions.popleft())
        finally:
            self._end()

    def _call(self, action: Callable[..., None], *args: int) -> None:
        try:
            action(*args)
        except Exception:  # of one channel; the others go on
            _log.exception("a message of a worker was lost")

    def _patience(self) -> float | None:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _drain(self, _: int) -> None:
        with suppress(BlockingIOError, InterruptedError):
            while self._wakened.recv(4096):
                pass

    def _end(self) -> None:
        self._at_end()
        self._waker.close()
        self._wakened.close()
        self._selector.close()
