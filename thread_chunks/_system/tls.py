"""TLS between machines, by the files that Ray uses: `RAY_USE_TLS` and what belongs to it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl


def wants_tls() -> bool:
    """Return whether Ray encrypts what it sends to other machines."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def tls_context(*, server: bool) -> ssl.SSLContext:
    """Return a context in which both ends show a certificate of Ray's authority.

    Raises
    ------
    OSError, KeyError
        If Ray's files cannot be read, or are not named.
    """
    import ssl  # only here: it takes long to import, and few need it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # nodes are known by their addresses; the key of the channel says who they are
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(os.environ["RAY_TLS_SERVER_CERT"], os.environ["RAY_TLS_SERVER_KEY"])
    context.load_verify_locations(os.environ["RAY_TLS_CA_CERT"])
    return context
