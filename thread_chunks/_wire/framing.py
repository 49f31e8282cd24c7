"""What both ends of a channel agree on: frames of bytes, and the proof that each end knows the key.

`multiprocessing.connection` has both, but only for connections that block and know no TLS; the driver's end may do
neither. A frame is its length (4 bytes, big-endian) and so many bytes.

The proof comes before the first frame, and nothing is unpickled before it:

1. the driver sends a *challenge* of 32 random bytes;
2. the worker sends the 16 bytes that it is known by, a challenge of its own, and its digest of all three;
3. the driver sends its digest of the same, which differs as each end puts its role in front, and a *slot*.

The slot is the worker's place on the page that both share (see `page`).
"""

from __future__ import annotations

import hmac
import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_LENGTH = struct.Struct("!I")
_SLOT = struct.Struct("!i")

# The longest frame (bytes). What is longer is Ray's to move; a peer that announces more has lost its way.
LONGEST = 2**28

# How much is read at once (bytes). Less, and large messages take more reads; more than 128 KiB, and each read may take
# memory from the system and give it back, for 12 us.
READ = 2**16

KEY = 32
IDENTITY = 16
CHALLENGE = 32
_DIGEST = 32
ANSWER = IDENTITY + CHALLENGE + _DIGEST  # how long the worker's part is
WELCOME = _DIGEST + _SLOT.size  # how long the driver's last part is
NO_SLOT = -1


@dataclass(slots=True, frozen=True)
class ChannelAddress:
    """Where a worker connects, and the key that it has to prove. Travels with one of Ray's own calls.

    `unix` is for workers of the driver's machine, `host` and `port` are for the others; either may be missing.
    `encrypted` says whether the latter use TLS.
    """

    key: bytes
    unix: str | None
    host: str | None
    port: int | None
    encrypted: bool = False


def frame(payload: bytes) -> bytes:
    """Return a payload as it travels."""
    return _LENGTH.pack(len(payload)) + payload


class Frames:
    """Cut a stream of bytes into payloads."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take the next bytes of the stream; yield the payloads that are complete by now.

        Raises
        ------
        ValueError
            If a payload is announced that is longer than any can be.
        """
        self._data += data
        start = 0
        try:
            while len(self._data) - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._data, start)
                if length > LONGEST:
                    raise ValueError(f"a message of {length} bytes is announced")
                stop = start + _LENGTH.size + length
                if len(self._data) < stop:
                    break
                payload = bytes(memoryview(self._data)[start + _LENGTH.size : stop])
                start = stop
                yield payload
        finally:
            del self._data[:start]


def new_key() -> bytes:
    """Return a random key."""
    return secrets.token_bytes(KEY)


def new_challenge() -> bytes:
    """Return the first bytes of a proof, from the driver."""
    return secrets.token_bytes(CHALLENGE)


def answer(key: bytes, challenge: bytes, identity: bytes) -> bytes:
    """Return the worker's answer to the driver's challenge."""
    own = secrets.token_bytes(CHALLENGE)
    return identity + own + _digest(key, b"worker", challenge, identity + own)


def identity_in(key: bytes, challenge: bytes, answered: bytes) -> bytes | None:
    """Return the worker's identity if its answer shows that it knows the key; None if it does not."""
    said, digest = answered[:-_DIGEST], answered[-_DIGEST:]
    return said[:IDENTITY] if hmac.compare_digest(digest, _digest(key, b"worker", challenge, said)) else None


def welcome(key: bytes, challenge: bytes, answered: bytes, slot: int) -> bytes:
    """Return the driver's last part, for a worker that knows the key."""
    return _digest(key, b"driver", challenge, answered[:-_DIGEST]) + _SLOT.pack(slot)


def slot_in(key: bytes, challenge: bytes, answered: bytes, welcomed: bytes) -> int | None:
    """Return the slot if the driver's last part shows that it knows the key; None if it does not."""
    digest, slot = welcomed[:_DIGEST], welcomed[_DIGEST:]
    if not hmac.compare_digest(digest, _digest(key, b"driver", challenge, answered[:-_DIGEST])):
        return None
    return int(_SLOT.unpack(slot)[0])


def _digest(key: bytes, role: bytes, challenge: bytes, said: bytes) -> bytes:
    return hmac.digest(key, role + challenge + said, "sha256")
