"""Who is at the other end of a Unix socket."""

from __future__ import annotations

import socket
import struct

_CREDENTIALS = struct.Struct("iII")  # process, user, group

# Whether the kernel tells. Without it, as on macOS, workers do not print where the driver prints: their output stays
# in Ray's files; and they reach the driver by TCP.
TELLS_PEERS = hasattr(socket, "SO_PEERCRED") and hasattr(socket, "AF_UNIX")


def passes_descriptors(connection: socket.socket) -> bool:
    """Return whether descriptors can be sent along: by Unix sockets, where Python can do it.

    Without it, all calls that a dead worker was sent count as begun.
    """
    return TELLS_PEERS and connection.family == socket.AF_UNIX and hasattr(socket, "recv_fds")


def user_of(connection: socket.socket) -> int | None:
    """Return the user at the other end, by the kernel's word; None where a system does not tell."""
    return _credentials(connection)[1] if TELLS_PEERS else None


def process_of(connection: socket.socket) -> int | None:
    """Return the process at the other end, by the kernel's word; None if it does not tell, or it can't be seen here."""
    if not (TELLS_PEERS and connection.family == socket.AF_UNIX):
        return None
    return _credentials(connection)[0] or None


def _credentials(connection: socket.socket) -> tuple[int, int, int]:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, group = _CREDENTIALS.unpack(credentials)
    return process, user, group
