"""The driver's side of printing: hand standard output and error to the workers of this machine."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO
from uuid import uuid4

_CREDENTIALS = struct.Struct("iII")  # process, user, group


class Outlet:
    """The driver's side: hands out its streams to whoever asks at `address`, until it is closed.

    The thread ends when `close` is called, and blocks in `accept` until then.

    Raises
    ------
    OSError, RuntimeError
        If there is no descriptor or no thread left for it.
    """

    def __init__(self) -> None:
        self.address = f"\0thread_chunks-{uuid4().hex}"  # no file: it goes away with this process
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.bind(self.address)
            self._listener.listen()
            self._thread = threading.Thread(target=self._serve, name="thread_chunks-outlet", daemon=True)
            self._thread.start()
        except BaseException:
            self._listener.close()
            raise

    def close(self) -> None:
        """Hand out nothing any more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # which wakes `accept`; closing alone does not
        self._thread.join()

    def _serve(self) -> None:
        with self._listener:
            while True:
                try:
                    connection, _ = self._listener.accept()
                except OSError:  # it was closed, or there is no descriptor left; later workers are refused at once
                    return
                with connection, suppress(OSError):  # the worker may have died since it connected
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(credentials)[1] == os.getuid():
            with _streams() as descriptors:
                socket.send_fds(connection, [b"streams"], descriptors)


@contextmanager
def _streams() -> Iterator[list[int]]:
    """Provide the descriptors of this process's standard output and error, or of nothing where it has none."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        yield [stream if stream is not None else nothing for stream in map(_descriptor, (1, 2), _OWN)]
    finally:
        os.close(nothing)


# Python's own, from its start: None if the program was started without. What has their descriptors then
# is something else by now.
_OWN = (sys.__stdout__, sys.__stderr__)


def _descriptor(number: int, stream: TextIO | None) -> int | None:
    with suppress(OSError, ValueError, AttributeError):  # it was closed
        if stream is not None and stream.fileno() == number and os.fstat(number):
            return number
    return None
