"""What was sent of a block, and what came of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from ray import ObjectRef

from .._calls.blocks import Block
from .._calls.calls import Outcomes
from .._wire.pickling import unpack, unpack_error
from .._wire.protocol import Reply
from ..errors import PicklingFailed, UnpicklingFailed
from .large import Seen


@dataclass(slots=True, eq=False)
class Sent:
    """A block that was sent: what of it could not be, and the reference to its value if that stays in the cluster.

    It took `seconds` to find out that some calls could not be sent. `large` keeps copies of its large buffers,
    until the dispatcher has the outcomes, and has sent the next block, which may need them.
    """

    block: Block
    number: int
    failures: dict[int, PicklingFailed]
    seconds: float
    large: list[Seen]
    kept: ObjectRef[Any] | None = None


class SentBlocks:
    """The blocks that a worker has, by number. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: dict[int, Sent] = {}
        self._asked_back: dict[int, Sent] = {}  # the answer may come when the block is answered

    def __len__(self) -> int:
        """Return how many have no answer yet."""
        with self._lock:
            return len(self._sent)

    def add(self, sent: Sent) -> None:
        """Record a block that is to be sent."""
        with self._lock:
            self._sent[sent.number] = sent

    def clear(self) -> None:
        """Expect no answers any more."""
        with self._lock:
            self._sent.clear()
            self._asked_back.clear()

    def get(self, number: int | None) -> Sent | None:
        """Return what was sent under a number, unless it was answered."""
        with self._lock:
            return None if number is None else self._sent.get(number)

    def pop(self, number: int) -> Sent | None:
        """Return what was sent under a number, which is answered now; None if it was before."""
        with self._lock:
            return self._sent.pop(number, None)

    def find(self, block: Block) -> Sent | None:
        """Return what a block was sent as, unless it was answered."""
        with self._lock:
            return next((sent for sent in self._sent.values() if sent.block is block), None)

    def ask_back(self, block: Block) -> Sent | None:
        """Return what a block was sent as, unless it was answered; it is to be surrendered."""
        if (sent := self.find(block)) is not None:
            with self._lock:
                self._asked_back[sent.number] = sent
        return sent

    def given_back(self, number: int) -> Sent | None:
        """Return what was asked back under a number, as the worker has answered."""
        with self._lock:
            return self._asked_back.pop(number, None)

    def begun(self, progress: tuple[int, int] | None) -> dict[Block, int]:
        """Return of which blocks of a dead worker only so many calls had begun, as far as known.

        `progress` has the number of the block that it began last, and the place of the call; None if it could not say.
        """
        if progress is None:
            return {}
        number, place = progress
        with self._lock:
            return {
                sent.block: place + 1 if sent.number == number else 0
                for sent in self._sent.values()
                if sent.number >= number
            }


def outcomes(reply: Reply, sent: Sent, seconds: float, writable: bool) -> Outcomes:
    """Rebuild outcomes; it took `seconds` to find out that some calls could not be sent."""
    values = reply.values if sent.kept is None else [sent.kept] * len(reply.values)
    errors: dict[int, BaseException] = {index: unpack_error(packed) for index, packed in reply.errors.items()}
    for index, packed in reply.packed.items():
        try:
            values[index] = unpack(packed, writable=writable)
        except UnpicklingFailed as error:
            errors[index] = error
    for index, failure in sent.failures.items():
        if 0 <= index - reply.offset < len(values):
            errors[index - reply.offset] = failure
    return Outcomes(
        values,
        errors,
        reply.offset,
        seconds + reply.seconds,
        reply.packed,
        reply.running,
        reply.short,
        reply.long,
    )
