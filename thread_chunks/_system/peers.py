"""Who is at the other end of a Unix socket."""

from __future__ import annotations

import socket
import struct

_CREDENTIALS = struct.Struct("iII")  # process, user, group


def user_of(connection: socket.socket) -> int | None:
    """Return the user at the other end, by the kernel's word; None where a system does not tell, as macOS.

    Without it, workers do not print where the driver prints: their output stays in Ray's files.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(credentials)[1]
    return user
