"""The worker's end of its channel to the driver: one thread receives, any thread sends."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TypeVar

from .._system.peers import TELLS_PEERS, passes_descriptors, user_of
from .._system.tls import tls_context
from .._system.users import user_id
from .._wire.framing import CHALLENGE, NO_SLOT, READ, WELCOME, ChannelAddress, Frames, answer, frame, slot_in
from .._wire.page import no_slot, open_slot

_T = TypeVar("_T")

# How long to try to connect, and how long the driver may take to prove the key (s).
_PATIENCE = 10.0


class Channel:
    """A connection to the driver that both ends have proved.

    Attributes
    ----------
    page : memoryview
        Two words: the number of the block that runs, and the place of the call. The driver reads them if the worker
        dies.
    """

    def __init__(self, connection: socket.socket, page: memoryview, *, encrypted: bool) -> None:
        self.page = page
        self._socket = connection
        self._encrypted = encrypted
        self._unsent: deque[bytes] = deque()
        self._sending = threading.Lock()  # so that messages go out in one piece
        self._using = threading.Lock()  # for TLS: OpenSSL allows one thread at a time
        self._pid = os.getpid()

    def send(self, payload: bytes) -> None:
        """Send a payload; wait as long as the driver does not take it. Nothing happens if the driver is gone.

        If a thread is about to send, it sends this one, too: it may be this thread, which a signal handler has
        interrupted, and which cannot wait for itself.
        """
        self._unsent.append(frame(payload))
        while self._unsent:
            is_mine = False
            try:
                is_mine = self._sending.acquire(blocking=False)
                if not is_mine:
                    return
                with suppress(IndexError):  # another thread has sent it
                    self._send(self._unsent.popleft())
            finally:
                if is_mine:
                    self._sending.release()

    def receive(self) -> Iterator[bytes]:
        """Yield payloads as they come, until the driver has closed the channel, or is gone."""
        frames = Frames()
        with suppress(OSError, ValueError):
            while data := self._read():
                yield from frames.feed(data)

    def close(self) -> None:
        """Close the connection, which ends `receive`."""
        if os.getpid() == self._pid:  # not in a child that a call has forked
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _send(self, data: bytes) -> None:
        with suppress(OSError):
            if not self._encrypted:
                self._socket.sendall(data)
                return
            view = memoryview(data)
            while view:
                view = view[self._try(partial(self._socket.send, view)) :]

    def _read(self) -> bytes:
        if self._encrypted:
            return self._try(partial(self._socket.recv, READ))
        return self._socket.recv(READ)

    def _try(self, action: Callable[[], _T]) -> _T:
        """Return what `action` does, as soon as it does not have to wait."""
        import ssl  # only here, as in `tls`

        while True:
            readable: list[socket.socket] = []
            writable: list[socket.socket] = []
            with self._using:
                try:
                    return action()
                except ssl.SSLWantReadError:
                    readable = [self._socket]
                except ssl.SSLWantWriteError:
                    writable = [self._socket]
            select.select(readable, writable, [])


def connect(address: ChannelAddress, identity: bytes) -> Channel | None:
    """Connect to the driver as the worker of an identity; None if that cannot be done."""
    for attempt in (_connect_here, _connect_there):
        with suppress(OSError, KeyError):
            if (connection := attempt(address)) is not None:
                return _prove(connection, address, identity)
    return None


def _connect_here(address: ChannelAddress) -> socket.socket | None:
    """Connect on this machine. On another one, no socket has that name."""
    if address.unix is None or not TELLS_PEERS:
        return None
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(_PATIENCE)
        connection.connect(address.unix)
        if user_of(connection) != user_id():
            raise PermissionError("the driver's socket belongs to another user")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_there(address: ChannelAddress) -> socket.socket | None:
    if address.host is None or address.port is None:
        return None
    connection = socket.create_connection((address.host, address.port), _PATIENCE)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return tls_context(server=False).wrap_socket(connection) if address.encrypted else connection
    except BaseException:
        connection.close()
        raise


def _prove(connection: socket.socket, address: ChannelAddress, identity: bytes) -> Channel | None:
    key, encrypted = address.key, hasattr(connection, "do_handshake")
    try:
        connection.settimeout(_PATIENCE)
        challenge, _ = _receive(connection, CHALLENGE)
        answered = answer(key, challenge, identity)
        connection.sendall(answered)
        welcomed, descriptors = _receive(connection, WELCOME)
        try:
            slot = slot_in(key, challenge, answered, welcomed)
            if slot is None:
                raise PermissionError("the driver does not know the key")
            page = no_slot() if slot == NO_SLOT or not descriptors else open_slot(descriptors[0], slot)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        connection.settimeout(0.0 if encrypted else None)
        return Channel(connection, page, encrypted=encrypted)
    except BaseException:
        connection.close()
        raise


def _receive(connection: socket.socket, count: int) -> tuple[bytes, list[int]]:
    """Return so many bytes, and the descriptors that came along."""
    received, descriptors = b"", []
    while len(received) < count:
        if passes_descriptors(connection):
            more, some, _, _ = socket.recv_fds(connection, count - len(received), 1)
            descriptors += some
        else:
            more = connection.recv(count - len(received))
        if not more:
            raise ConnectionError("the driver has closed the connection")
        received += more
    return received, descriptors
