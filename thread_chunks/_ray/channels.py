"""Where workers connect to this process, and prove that they are what they say.

Who connects and does not prove the key within seconds is dropped, and holds up no other.
"""

from __future__ import annotations

import os
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from typing import TypeVar
from uuid import uuid4

from .._system.peers import TELLS_PEERS, passes_descriptors, process_of, user_of
from .._system.users import user_id
from .._wire.framing import ANSWER, NO_SLOT, ChannelAddress, identity_in, new_challenge, new_key, welcome
from .._wire.page import Page
from .channel import NOT_NOW, Channel, Owner
from .loop import Loop

# The default of `patience` (s). A worker takes a millisecond, and more where its machine is overtaxed.
_PATIENCE = 5.0

# So many may be about to prove it. Of more, the first one is dropped: a thousand workers that start at once connect
# within a second or two, and each needs a millisecond.
_MOST_STRANGERS = 512

# For how long to accept no connection when no descriptor is left (s).
_PAUSE = 0.5

_T = TypeVar("_T")

_Steps = Generator[int, None, None]  # yields the event of the selector that it waits for


class Channels:
    """Listens, and has the loop that serves all channels of this process.

    Parameters
    ----------
    host : str or None
        The address of this machine at which to listen for workers of other machines; None for none.
    context : ssl.SSLContext or None
        What connections from other machines are encrypted with; None for nothing.

    patience : float
        How long a process that connects may take to prove that it knows the key (s).

    Raises
    ------
    OSError, RuntimeError
        If there is no descriptor, no port or no thread left for it.
    """

    def __init__(
        self, host: str | None = None, context: ssl.SSLContext | None = None, patience: float = _PATIENCE
    ) -> None:
        self._context = context
        self._patience = patience
        self._key = new_key()
        self._expected: dict[bytes, Channel] = {}  # by identity: those that have not connected, and those that have
        self._slots: dict[bytes, int] = {}  # by identity
        self._strangers: dict[socket.socket, float] = {}  # who has not proved the key, and till when they may
        self._listeners: list[socket.socket] = []
        self._page: Page | None = None
        if hasattr(os, "memfd_create"):
            with suppress(OSError):
                self._page = Page()
        self._loop = Loop("thread_chunks-channels", self._end)
        try:
            self.address = self._listen(host)
            self._loop.start()
        except BaseException:
            self._loop.close()
            raise

    def expect(self, identity: bytes, owner: Owner) -> Channel:
        """Return the channel to the worker that will connect under an identity of 16 bytes."""
        channel = Channel(self._loop, owner, lambda: self._forgotten(identity))
        self._expected[identity] = channel
        return channel

    def progress_of(self, identity: bytes) -> tuple[int, int] | None:
        """Return which block a worker began last, and the place of the call; None if that is not known.

        To be asked by the thread of the loop, before the worker is forgotten.
        """
        slot = self._slots.get(identity)
        return None if slot is None or self._page is None else self._page.read(slot)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in so many seconds, in the thread of the loop; 0: as soon as it can."""
        self._loop.do(action if seconds == 0 else lambda: self._loop.later(seconds, action))

    def close(self) -> None:
        """Close all channels, and wait for the thread to end, unless it is the thread that asks."""
        self._loop.close()

    # All that follows is called by the thread of the loop.

    def _forgotten(self, identity: bytes) -> None:
        self._expected.pop(identity, None)
        slot = self._slots.pop(identity, None)
        if slot is not None and self._page is not None:
            self._page.give_back(slot)

    def _end(self) -> None:
        for channel in list(self._expected.values()):
            channel.forget()
        for each in [*self._listeners, *self._strangers]:
            each.close()
        self._strangers.clear()
        if self._page is not None:
            self._page.close()
            self._page = None

    def _listen(self, host: str | None) -> ChannelAddress:
        unix = port = None
        if TELLS_PEERS:  # a name that needs no file, and that tells who connects
            unix = f"\0thread_chunks-{uuid4().hex}"
            self._begin_to_listen(socket.socket(socket.AF_UNIX), unix)
        elif host is None:
            host = "127.0.0.1"
        if host is not None:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            port = self._begin_to_listen(socket.socket(family), (host, 0)).getsockname()[1]
        return ChannelAddress(self._key, unix, host, port, encrypted=self._context is not None)

    def _begin_to_listen(self, listener: socket.socket, address: str | tuple[str, int]) -> socket.socket:
        self._listeners.append(listener)
        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
        listener.setblocking(False)
        self._accept_at(listener)
        return listener

    def _accept_at(self, listener: socket.socket) -> None:
        self._loop.watch(listener, selectors.EVENT_READ, lambda _: self._accept(listener))

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except NOT_NOW:
            return
        except OSError:  # no descriptor is left, or the other end has gone
            self._loop.unwatch(listener)
            self._loop.later(_PAUSE, lambda: self._accept_at(listener))
            return
        connection.setblocking(False)
        if TELLS_PEERS and connection.family == socket.AF_UNIX:
            if user_of(connection) != user_id():
                connection.close()
                return
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        if len(self._strangers) >= _MOST_STRANGERS:
            self._drop(next(iter(self._strangers)))
        self._strangers[connection] = deadline = time.monotonic() + self._patience
        self._loop.later(self._patience, lambda: self._drop_late_one(connection, deadline))
        self._go_on(connection, self._ask_for_proof(connection))

    def _go_on(self, connection: socket.socket, steps: _Steps) -> None:
        if connection not in self._strangers:
            return
        try:
            event = next(steps)
        except StopIteration:
            if connection in self._strangers:  # it is not one that was expected
                self._drop(connection)
        except (OSError, ValueError):
            self._drop(connection)
        else:
            self._loop.watch(connection, event, lambda _: self._go_on(connection, steps))

    def _drop_late_one(self, connection: socket.socket, deadline: float) -> None:
        if self._strangers.get(connection) == deadline:
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        del self._strangers[connection]
        self._loop.unwatch(connection)
        connection.close()

    def _ask_for_proof(self, connection: socket.socket) -> _Steps:
        if isinstance(connection, ssl.SSLSocket):
            yield from _when_ready(connection.do_handshake)
        challenge = new_challenge()
        yield from _when_ready(partial(connection.send, challenge))  # it fits into the buffer of a new connection
        answered = bytearray()
        while len(answered) < ANSWER:
            received = yield from _when_ready(partial(connection.recv, ANSWER - len(answered)))
            if not received:
                return
            answered += received
        identity = identity_in(self._key, challenge, bytes(answered))
        channel = None if identity is None else self._expected.get(identity)
        if identity is None or channel is None or not channel.is_new:
            return
        slot = None
        if self._page is not None and passes_descriptors(connection) and identity not in self._slots:
            slot = self._page.take()
        if slot is not None:
            self._slots[identity] = slot
        last = welcome(self._key, challenge, bytes(answered), NO_SLOT if slot is None else slot)
        if slot is None or self._page is None:
            yield from _when_ready(partial(connection.send, last))
        else:
            page = self._page.descriptor
            yield from _when_ready(lambda: socket.send_fds(connection, [last], [page]))
        if not channel.is_new:  # another process was it meanwhile
            return
        del self._strangers[connection]
        self._loop.unwatch(connection)
        channel.connect(connection, _watched(process_of(connection)))


def _when_ready(action: Callable[[], _T]) -> Generator[int, None, _T]:
    """Return what `action` does, as soon as it does not have to wait."""
    while True:
        try:
            return action()
        except ssl.SSLWantWriteError:
            yield selectors.EVENT_WRITE
        except NOT_NOW:
            yield selectors.EVENT_READ


def _watched(process: int | None) -> int | None:
    """Return a descriptor that becomes readable when a process ends; None where there is no such thing."""
    if process and hasattr(os, "pidfd_open"):
        with suppress(OSError):
            return os.pidfd_open(process)
    return None
