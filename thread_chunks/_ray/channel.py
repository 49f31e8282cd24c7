"""The driver's end of the channel to one worker. Any thread may send; what comes is read by the thread of the loop."""

from __future__ import annotations

import logging
import os
import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Protocol

from .._wire.framing import READ, Frames, frame
from .loop import Loop

_log = logging.getLogger("thread_chunks")

# How long after the end of its connection a process may end (s). Less, and a death is taken for a fault of the
# connection where the machine is busy; more, and such faults are found later.
_MOMENT = 0.1

# What a socket says that has nothing for now, or takes nothing.
NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Owner(Protocol):
    """Whose channel it is. All is called by the thread of the loop."""

    def received(self, payload: bytes) -> None:
        """Take what came."""

    def broke(self) -> None:
        """Learn that the connection has ended, and not the process at its other end, as far as is known."""

    def died(self) -> None:
        """Learn that the process at the other end has ended; nothing else is called after this."""


class Channel:
    """One worker's channel. It never waits for the worker: what that does not read is kept, and holds up no other.

    Parameters
    ----------
    loop : Loop
        What reads.
    owner : Owner
        Who is called, until `close` is.
    forgotten : callable
        Called last of all.
    """

    def __init__(self, loop: Loop, owner: Owner, forgotten: Callable[[], None]) -> None:
        self._loop = loop
        self._owner: Owner | None = owner
        self._forgotten = forgotten
        self._frames = Frames()
        self._process: int | None = None  # a descriptor that becomes readable when the process at the other end ends
        # Under the lock, which is also held for each use of the socket: OpenSSL allows one thread at a time.
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._unsent = bytearray()
        self._over = False

    @property
    def is_new(self) -> bool:
        """Whether no worker has connected yet."""
        with self._lock:
            return self._socket is None and not self._over

    def send(self, payload: bytes) -> None:
        """Send a payload, in the order of the calls, as soon as the worker takes it. Never waits, and never fails."""
        data = frame(payload)
        with self._lock:
            if self._over:
                return
            if self._socket is not None and not self._unsent:
                sent = self._try_to_send(data)
                if sent == len(data):
                    return
                data = data[sent:]
            self._unsent += data
        self._loop.do(self._watch)

    def close(self) -> None:
        """Close the connection; what comes after this is not received."""
        self._loop.do(self.forget)

    # All that follows is called by the thread of the loop.

    def connect(self, connection: socket.socket, process: int | None) -> None:
        """Use a connection whose other end has proved that it is the worker.

        `process` is a descriptor that becomes readable when that process ends.
        """
        with self._lock:
            self._socket = connection
        self._process = process
        if process is not None:
            self._loop.watch(process, selectors.EVENT_READ, lambda _: self._die())
        self._watch()

    def forget(self) -> None:
        """Close the connection, and call no listener any more."""
        self._owner = None
        self._disconnect()
        if self._process is not None:
            self._loop.unwatch(self._process)
            os.close(self._process)
            self._process = None
        forgotten, self._forgotten = self._forgotten, _do_nothing
        forgotten()

    def _disconnect(self) -> None:
        with self._lock:
            self._over = True
            connection, self._socket = self._socket, None
            self._unsent.clear()
        if connection is not None:
            self._loop.unwatch(connection)
            connection.close()

    def _watch(self) -> None:
        if self._socket is not None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
            self._loop.watch(self._socket, events, self._serve)

    def _serve(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            with self._lock:
                del self._unsent[: self._try_to_send(self._unsent)]
            self._watch()
        if events & selectors.EVENT_READ:
            self._read()

    def _read(self) -> None:
        while self._socket is not None:
            with self._lock:
                try:
                    data = self._socket.recv(READ)
                except NOT_NOW:
                    return
                except OSError:
                    data = b""
            if not data:
                self._break()
                return
            try:
                for payload in self._frames.feed(data):
                    if self._owner is not None:
                        self._owner.received(payload)
            except Exception:  # what comes makes no sense: nothing after it can
                _log.exception("a worker's message cannot be read; its channel is closed")
                self._break()
                return
            if len(data) < READ and not isinstance(self._socket, ssl.SSLSocket):
                return

    def _try_to_send(self, data: bytes | bytearray) -> int:
        """Return how many bytes were sent; all of them if the other end is gone, which `_read` finds out."""
        assert self._socket is not None
        try:
            return self._socket.send(data) if data else 0
        except NOT_NOW:
            return 0
        except OSError:
            return len(data)

    def _break(self) -> None:
        """Stop sending and receiving. If the process is about to end, the kernel says so in a moment."""
        self._disconnect()
        self._loop.later(_MOMENT, self._tell_that_it_broke)

    def _tell_that_it_broke(self) -> None:
        if self._owner is not None:
            self._owner.broke()

    def _die(self) -> None:
        if self._socket is not None:
            self._read()  # what it said last; there may be no end of it, if it has left children
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.died()
        self.forget()


def _do_nothing() -> None:
    pass
