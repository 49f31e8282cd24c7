"""The messages between the driver and a worker."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from itertools import chain
from operator import attrgetter
from typing import Any, TypeVar

from .framing import ChannelAddress
from .images import Shipment
from .interpreter import Interpreter
from .logs import Levels
from .mapped import Probe
from .pickling import Packed

# The key of the function that a worker was started with.
STORED_KEY = b"stored"

# The key of whatever may change between two calls of it: it travels as the first argument of each.
CARRIED_KEY = b"carried"

# So many bytes of arguments or values a message may have that travels by the channel. What is larger is Ray's to
# move: a channel copies it several times, and shared memory does not.
LARGEST_BY_CHANNEL = 2**20


@dataclass(slots=True)
class Request:
    """A block on its way to an actor.

    `calls` is one pickle (bytes, see `unpack_plain`) if all arguments are plain, or, for each call, its
    ``(args, kwargs, seed)``, None where that could not be packed; the first has label `first`. `number` identifies the
    block: those that an executor sends to a worker are numbered, from 1 on. `forget` names functions that the actor
    will not be asked for again. `paths` is the driver's ``sys.path``, if it changed. `writable` is whether the
    arguments' large buffers may be written to. After so many bytes of values as `largest` says, the rest of the calls
    is given back. `keeps`: the value of its only call is to stay in the cluster. `relies_on` is the number of the last
    block that had a shipment: if that one could not be carried out, neither can this one. `shipment` is the function,
    if the actor does not hold it under `key` yet, and what has to be there for it; where Ray carries the request, it
    travels beside this.
    """

    number: int
    first: int
    key: bytes
    calls: bytes | list[Packed | None]
    forget: list[bytes]
    paths: list[str] | None
    writable: bool
    largest: int | None = None
    keeps: bool = False
    relies_on: int = 0
    shipment: Any = None  # `Packed`, a reference to it, or a `Shipment`

    @property
    def size(self) -> int:
        """How many bytes of arguments it has."""
        if isinstance(self.calls, bytes):
            return len(self.calls)
        return sum(call.size for call in self.calls if call is not None)


@dataclass(slots=True)
class Leave:
    """The worker is to stop waiting for messages: something comes by Ray."""


@dataclass(slots=True)
class Surrender:
    """A worker is to hand over what it has of a block, and not to begin the rest. The answer is `GivenBack`."""

    number: int


@dataclass(slots=True)
class Question:
    """Which call of a block runs? The answer is `Looked`, with the same `identity`."""

    identity: int
    number: int
    with_stack: bool


@dataclass(slots=True)
class Logged:
    """A log record on its way to the driver.

    `fields` are its attributes that are plain. `message` is the message with its arguments, as they were given, if
    these are not plain and can be pickled; `fields` has the text. `extras` are attributes that are not plain, and
    `error` is the exception.
    """

    fields: dict[str, Any]
    message: Packed | None = None
    extras: dict[str, Packed] = field(default_factory=dict)
    error: Packed | None = None


@dataclass(slots=True)
class Reply:
    """Outcomes on their way back: those from the `offset`-th call of the block on.

    `values` has an item for each call; None where `packed` or `errors` has one. The block has taken
    `seconds` so far. The last `left` calls of the block are given back, and will not be run. One call has
    been running for `running` seconds, if any does. `long` has duration (s) and peak memory (bytes) of the calls
    that took long, by index; the others took `short` seconds together. `records` is what was logged, where there is no
    channel.
    """

    number: int
    values: list[Any]
    packed: dict[int, Packed]
    errors: dict[int, Packed]
    offset: int
    seconds: float
    left: int = 0
    running: float = 0.0
    short: float = 0.0
    long: dict[int, tuple[float, int]] = field(default_factory=dict)
    records: list[Logged] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many bytes of values it has that are not plain."""
        return sum(packed.size for packed in chain(self.packed.values(), self.errors.values()))


@dataclass(slots=True)
class Refused:
    """A message could not be carried out; `error` says why."""

    number: int
    error: Packed


@dataclass(slots=True)
class GivenBack:
    """What a worker has of a block that it was asked to surrender.

    If the block does not run, `reply` is whether it did. One that did not never will.
    """

    number: int
    reply: Reply | bool


@dataclass(slots=True)
class Look:
    """What a worker does now: the call that runs, by its place in the block."""

    index: int
    seconds: float
    memory: int
    stack: str | None


@dataclass(slots=True)
class Looked:
    """The answer to a `Question`: None if the block does not run."""

    identity: int
    look: Look | None


@dataclass(slots=True)
class Excess:
    """A worker has more memory than it may: which block ran, if one did, which call of it, and how many bytes.

    Nothing else will begin there.
    """

    number: int | None
    label: int
    memory: int


@dataclass(slots=True)
class Left:
    """The worker has stopped waiting for messages, which lie there until the driver attaches it again."""


_KINDS = (
    *(Request, Leave, Surrender, Question, Levels),
    *(Reply, Refused, GivenBack, Looked, Excess, Left, Logged),
)
_CODES = {kind: code for code, kind in enumerate(_KINDS)}
_CODE = struct.Struct("B")


def _getter(kind: type) -> Callable[[Any], tuple[Any, ...]]:
    names = [f.name for f in fields(kind)]
    if len(names) > 1:
        return attrgetter(*names)
    return lambda message: tuple(getattr(message, name) for name in names)


# To pickle a message's fields takes a tenth of the time that it takes to pickle the message itself.
_FIELDS = {kind: _getter(kind) for kind in _KINDS}


def encode(message: Any) -> bytes:
    """Return a message as it travels by the channel."""
    kind = type(message)
    return _CODE.pack(_CODES[kind]) + pickle.dumps(_FIELDS[kind](message), 5)


def decode(payload: bytes) -> Any:
    """Return the message that came by the channel."""
    return _KINDS[payload[0]](*pickle.loads(memoryview(payload)[1:]))


def fits_channel(message: Request | Reply) -> bool:
    """Return whether a message can travel by the channel: it is small, and nothing in it is Ray's to count."""
    packed: Iterable[Packed | None]
    if isinstance(message, Reply):
        packed = chain(message.packed.values(), message.errors.values())
    else:
        if message.keeps or not _is_plain(message.shipment):
            return False
        packed = () if isinstance(message.calls, bytes) else message.calls
    return message.size <= LARGEST_BY_CHANNEL and not any(each is not None and each.references for each in packed)


def _is_plain(shipment: Any) -> bool:
    if isinstance(shipment, Shipment):
        bundles = [] if shipment.update is None else [shipped for shipped, _ in shipment.update.bundles]
        return all(map(_is_plain, (shipment.function, *bundles)))
    return shipment is None or (
        isinstance(shipment, Packed) and not shipment.references and shipment.size <= LARGEST_BY_CHANNEL
    )


_Message = TypeVar("_Message", "Request", "Reply")


def seal(message: _Message) -> bytes | _Message:
    """Return a message as Ray carries it: pickled, if there is nothing in it that is Ray's to move.

    Ray carries bytes faster than objects.
    """
    parts: Iterable[Packed | None]
    if isinstance(message, Reply):
        parts = chain(message.packed.values(), message.errors.values())
    else:
        parts = () if isinstance(message.calls, bytes) else message.calls
    for packed in parts:
        if packed is not None and (packed.buffers or packed.references or type(packed.data) is not bytes):
            return message
    return encode(message)


def unseal(message: Any) -> Any:
    """Return a message that was sealed; anything else as it is."""
    return decode(message) if type(message) is bytes else message


@dataclass(slots=True)
class Setup:
    """What a worker takes over from the driver, as a child of `ProcessPoolExecutor` would, and how it reaches it."""

    paths: list[str]
    arguments: list[str]  # of the command line
    directory: str | None
    interpreter: Interpreter
    authkey: bytes  # else the queues and locks of the driver's `multiprocessing.Manager` refuse it
    streams: str | None  # where the driver hands out its standard output and error
    node: Callable[[], str]  # returns the node of the cluster that the process is on
    initializer: Packed | None
    process: bytes  # the driver's, see `_actor.here`
    index: int  # of the worker, among those of its executor
    identity: bytes  # what the worker is known by to the executor
    channel: ChannelAddress | None  # where it connects; None: the driver can't be reached
    memory_limit: int | None  # how many bytes it may have for itself
    levels: Levels | None  # which log records the driver wants; None: no record is sent
    probe: Probe | None  # of the driver's files, if there are any


@dataclass(slots=True)
class Ready:
    """How the start went, and where: `error` is what the initializer raised."""

    host: str
    pid: int
    node: str  # of the cluster, or empty
    connected: bool  # whether there is a channel
    reaches_files: bool  # of the driver
    error: Packed | None
    records: list[Logged]  # what was logged, where there is no channel
