"""Lets the workers of this machine print where the driver prints, as child processes would.

Ray sends what actors print to files, and from there to the driver, with a prefix before each line
and without lines that it saw before. So the driver hands its standard output and its standard
error to each worker instead, which puts them in the place of its own. Only a process of this
machine can take them; workers elsewhere keep what Ray gave them.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from contextlib import suppress
from uuid import uuid4

_STREAMS = [1, 2]  # standard output, standard error

# What a worker waits (s) for a driver that accepts its connection and then sends nothing, because it
# ends, say. It is answered within a millisecond otherwise.
_PATIENCE = 10

_CREDENTIALS = struct.Struct("3i")  # process, user, group


class Outlet:
    """The driver's side: hands out its streams to whoever asks at `address`, until it is closed.

    The thread ends when `close` is called, and blocks in `accept` until then.
    """

    def __init__(self) -> None:
        self.address = f"\0thread_chunks-{uuid4().hex}"  # no file: it goes away with this process
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.address)
        self._listener.listen()
        threading.Thread(target=self._serve, name="thread_chunks-outlet", daemon=True).start()

    def close(self) -> None:
        """Hand out nothing any more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # which wakes `accept`; closing alone does not
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            # A stream of the driver may be closed; a worker may have died since it connected.
            with connection, suppress(OSError):
                credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
                if _CREDENTIALS.unpack(credentials)[1] == os.getuid():
                    socket.send_fds(connection, [b"streams"], _STREAMS)


def take_streams(address: str) -> None:
    """Print where the driver prints, if it can be reached. The worker's side."""
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.settimeout(_PATIENCE)
        connection.connect(address)
        _, received, _, _ = socket.recv_fds(connection, 16, len(_STREAMS))
        for descriptor, stream in zip(received, _STREAMS, strict=False):  # none, if it ends just now
            os.dup2(descriptor, stream)
            os.close(descriptor)
