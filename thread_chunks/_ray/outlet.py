"""The driver's side of printing: hand standard output and error to the workers of this machine."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
from contextlib import suppress
from typing import TextIO
from uuid import uuid4

from .._system.peers import user_of
from .._system.users import user_id

# How long to wait (s) when there is no descriptor left for a worker that asks. Shorter, and it takes time from the
# program; longer, and the worker gives up, or its first call waits.
_PAUSE = 0.05


class Outlet:
    """The driver's side: hand out its streams to processes that ask at `address`, until it is closed.

    The thread ends when `close` is called, and blocks in `accept` until then.

    Raises
    ------
    OSError, RuntimeError
        If there is no descriptor or no thread left for it, or the system has no such sockets: Windows has none,
        and macOS none without a file. Workers then print into Ray's files.
    """

    def __init__(self) -> None:
        if not (hasattr(socket, "AF_UNIX") and hasattr(socket, "SO_PEERCRED") and hasattr(socket, "send_fds")):
            raise OSError("this system has no sockets that pass file descriptors and identify the user")
        self.address = f"\0thread_chunks-{uuid4().hex}"  # no file: it goes away with this process
        self._over = threading.Event()
        self._nothing = os.open(os.devnull, os.O_WRONLY)  # now: later there may be no descriptor left for it
        self._locks: list[int] = []
        with suppress(OSError):  # without it, lines mix that are longer than a pipe takes at once
            descriptor, path = tempfile.mkstemp()
            self._locks.append(descriptor)
            os.unlink(path)
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.bind(self.address)
            self._listener.listen()
            self._thread = threading.Thread(target=self._serve, name="thread_chunks-outlet", daemon=True)
            self._thread.start()
        except BaseException:
            self._listener.close()
            self._close_files()
            raise

    def close(self) -> None:
        """Hand out nothing any more."""
        self._over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # which wakes `accept`; closing alone does not
        self._thread.join()
        self._close_files()

    def _close_files(self) -> None:
        for descriptor in (self._nothing, *self._locks):
            os.close(descriptor)

    def _serve(self) -> None:
        with self._listener:
            while True:
                try:
                    connection, _ = self._listener.accept()
                except OSError:
                    # Closed, or no descriptor is left just now. The worker that connects waits longer than this.
                    if self._over.wait(_PAUSE):
                        return
                    continue
                with connection, suppress(OSError):  # the worker may have died since it connected
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        if user_of(connection) == user_id() is not None:
            # Where this process has no such stream, the worker gets one that goes nowhere.
            streams = [stream if stream is not None else self._nothing for stream in map(_descriptor, (1, 2), _OWN)]
            # The last one is locked by the worker that writes.
            socket.send_fds(connection, [b"streams"], [*streams, *self._locks])


# Python's own, from its start: None if the program was started without. What has their descriptors then
# is something else by now.
_OWN = (sys.__stdout__, sys.__stderr__)


def _descriptor(number: int, stream: TextIO | None) -> int | None:
    with suppress(OSError, ValueError, AttributeError):  # it was closed
        if stream is not None and stream.fileno() == number and os.fstat(number):
            return number
    return None
