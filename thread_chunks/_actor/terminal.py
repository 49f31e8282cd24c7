"""Redirect the output of workers to where the driver prints, as that of child processes is.

Ray sends what actors print to files, and from there to the driver, with a prefix before each line
and without lines that it saw before. So the driver hands its standard output and its standard
error to each worker instead, which puts them in the place of its own. Only a process of this
machine can take them; workers elsewhere keep what Ray gave them.
"""

from __future__ import annotations

import io
import os
import socket
import sys
from contextlib import suppress
from typing import Any, cast

from .._system.peers import user_of
from .._system.users import user_id
from .lines import Lines

# What a worker waits (s) for a driver that accepts its connection and then sends nothing, because it
# ends, say. It is answered within a millisecond otherwise.
_PATIENCE = 10


class Streams:
    """The worker's side: print where the driver prints, and where Ray lets actors print again."""

    def __init__(self) -> None:
        self._before: list[int] = []
        self._lines: list[Lines] = []  # what Python's standard output and error write to

    def take(self, address: str) -> None:
        """Put the driver's streams in the place of this process's, if the driver can be reached."""
        with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
            connection.settimeout(_PATIENCE)
            connection.connect(address)
            # The name is anybody's once the driver has ended: do not print into what a stranger holds.
            if user_of(connection) != user_id():
                return
            _, received, _, _ = socket.recv_fds(connection, 16, 3)
            if len(received) >= 2:
                self._before = [os.dup(1), os.dup(2)]
                _replace(received[:2])
                self._write_in_lines(received[2] if len(received) > 2 else None)

    def _write_in_lines(self, lock: int | None) -> None:
        """Let what Python prints go out line by line, in place of Ray's streams, which write each piece by itself."""
        self._lines = [Lines(1, lock), Lines(2, lock)]
        for name, lines in zip(("stdout", "stderr"), self._lines, strict=True):
            old = getattr(sys, name)
            buffer = cast(Any, lines)  # which has all that is needed of one
            stream = io.TextIOWrapper(
                buffer, encoding=old.encoding, errors=old.errors, newline="\n", write_through=True
            )
            setattr(sys, name, stream)

    def flush(self) -> None:
        """Write what there is of lines that have no end yet."""
        for lines in self._lines:
            with suppress(OSError):  # who reads it has ended
                lines.flush()

    def give_back(self) -> None:
        """Release the driver's streams: their end may be waited for."""
        self.flush()
        if self._before:
            before, self._before = self._before, []
            _replace(before)


def _replace(descriptors: list[int]) -> None:
    for number, descriptor in zip((1, 2), descriptors, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
