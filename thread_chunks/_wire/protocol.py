"""The messages between the driver and a worker."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from itertools import chain
from operator import attrgetter
from typing import Any, TypeVar

from .pickling import Packed

# The key of the function that a worker was started with.
STORED_KEY = b"stored"

# The key of whatever may change between two calls of it: it travels as the first argument of each.
CARRIED_KEY = b"carried"

# Identifies a block: who sent it, and the number of those that it sent to this actor, from 1 on.
Token = tuple[bytes, int]


@dataclass(slots=True)
class Request:
    """A block on its way to an actor.

    `calls` is one pickle (bytes, see `unpack_plain`) if all arguments are plain, or, for each call, its
    ``(args, kwargs, seed)``, None where that could not be packed; the first has label `first`. `token` identifies the
    block. The function comes along, beside this, when the actor does not hold it under `key` yet; `forget` names
    those that it will not be asked for again. `paths` is the driver's ``sys.path``, if it changed.
    `writable` is whether the arguments' large buffers may be written to. After so many bytes of values as
    `largest` says, the rest of the calls is given back. `keeps`: the value of its only call is to stay in the cluster.
    """

    token: Token
    first: int
    key: bytes
    calls: bytes | list[Packed | None]
    forget: list[bytes]
    paths: list[str] | None
    writable: bool
    largest: int | None = None
    keeps: bool = False

    @property
    def size(self) -> int:
        """How many bytes of arguments it has."""
        if isinstance(self.calls, bytes):
            return len(self.calls)
        return sum(call.size for call in self.calls if call is not None)


@dataclass(slots=True)
class Reply:
    """Outcomes on their way back: those from the `offset`-th call of the block on.

    `values` has an item for each call; None where `packed` or `errors` has one. The block has taken
    `seconds` so far. The last `left` calls of the block are given back, and will not be run. One call has
    been running for `running` seconds, if any does. `long` has duration (s) and peak memory (bytes) of the calls
    that took long, the others took `short` seconds together.
    """

    values: list[Any]
    packed: dict[int, Packed]
    errors: dict[int, Packed]
    offset: int
    seconds: float
    left: int = 0
    running: float = 0.0
    short: float = 0.0
    long: list[tuple[float, int]] = field(default_factory=list)


_Message = TypeVar("_Message", "Request", "Reply")

# To pickle a message's fields takes a tenth of the time that it takes to pickle the message itself.
_FIELDS = {kind: attrgetter(*(f.name for f in fields(kind))) for kind in (Request, Reply)}


def seal(message: _Message) -> bytes | _Message:
    """Pickle a message, if there is nothing in it that is Ray's to move; Ray carries bytes faster than objects."""
    parts: Iterable[Packed | None]
    if isinstance(message, Reply):
        parts = chain(message.packed.values(), message.errors.values())
    else:
        parts = () if isinstance(message.calls, bytes) else message.calls
    for packed in parts:
        if packed is not None and (packed.buffers or packed.references or type(packed.data) is not bytes):
            return message
    return pickle.dumps(_FIELDS[type(message)](message), 5)


def unseal(kind: type[_Message], message: Any) -> Any:
    """Return the message of a kind that was sealed; anything else as it is."""
    return kind(*pickle.loads(message)) if type(message) is bytes else message


@dataclass(slots=True)
class Setup:
    """What a worker takes over from the driver, as a child of `ProcessPoolExecutor` would."""

    paths: list[str]
    arguments: list[str]  # of the command line
    directory: str | None
    authkey: bytes  # else the queues and locks of the driver's `multiprocessing.Manager` refuse it
    streams: str | None  # where the driver hands out its standard output and error
    node: Callable[[], str]  # returns the node of the cluster that the process is on
    initializer: Packed | None
    process: bytes  # the driver's, see `_actor.here`
    sender: bytes  # who sends blocks, as in their tokens
    index: int  # of the worker, among those of the sender's executor


@dataclass(slots=True)
class Look:
    """What a worker does now: the call that runs, by its place in the block."""

    index: int
    seconds: float
    memory: int
    stack: str | None


@dataclass(slots=True)
class Excess:
    """A worker has more memory than it may: which block ran, if one did, which call of it, and how many bytes.

    Nothing else will begin there.
    """

    token: Token | None
    label: int
    memory: int


@dataclass(slots=True)
class Ready:
    """How the start went, and where: `error` is what the initializer raised."""

    host: str
    pid: int
    node: str  # of the cluster, or empty
    error: Packed | None
