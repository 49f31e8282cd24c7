"""Lets the workers of this machine print where the driver prints, as child processes would.

Ray sends what actors print to files, and from there to the driver, with a prefix before each line
and without lines that it saw before. So the driver hands its standard output and its standard
error to each worker instead, which puts them in the place of its own. Only a process of this
machine can take them; workers elsewhere keep what Ray gave them.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from .._system.peers import user_of

# What a worker waits (s) for a driver that accepts its connection and then sends nothing, because it
# ends, say. It is answered within a millisecond otherwise.
_PATIENCE = 10


class Streams:
    """The worker's side: print where the driver prints, and where Ray lets actors print again."""

    def __init__(self) -> None:
        self._before: list[int] = []

    def take(self, address: str) -> None:
        """Put the driver's streams in the place of this process's, if the driver can be reached."""
        with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
            connection.settimeout(_PATIENCE)
            connection.connect(address)
            # The name is anybody's once the driver has ended: do not print into what a stranger holds.
            if user_of(connection) != os.getuid():
                return
            _, received, _, _ = socket.recv_fds(connection, 16, 2)
            if len(received) == 2:
                self._before = [os.dup(1), os.dup(2)]
                _replace(received)

    def give_back(self) -> None:
        """Hold the driver's streams no longer: somebody may wait for their end."""
        if self._before:
            before, self._before = self._before, []
            _replace(before)


def _replace(descriptors: list[int]) -> None:
    for number, descriptor in zip((1, 2), descriptors, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
