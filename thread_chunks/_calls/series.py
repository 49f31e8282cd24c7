"""Series: many calls of one function, and what their consumer receives."""

from __future__ import annotations

import time
import weakref
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Protocol

from .blocks import Block
from .calls import UNLIMITED, Arguments, Limits, Outcomes
from .functions import Function
from .mailbox import Mailbox
from .pace import PROMPT, TARGET
from .supply import Supply


@dataclass(slots=True, eq=False)
class Delivery:
    """What a series' consumer receives: outcomes from label `first` on."""

    first: int
    outcomes: Outcomes


@dataclass(slots=True, eq=False)
class Checkpointed:
    """Stand for a value that is in the checkpoint, under the number of its outcome."""

    outcome: int


class Journal(Protocol):
    """Keep the values of a series, and know those that another process has kept."""

    def sent(self, label: int, args: Arguments) -> None:
        """Look at a call's arguments once more, as it is sent."""

    def record(self, first: int, outcomes: Outcomes) -> None:
        """Keep the values among these outcomes, from label `first` on."""

    def refresh(self) -> None:
        """Find out whether others have finished calls of the function by now."""

    def found(self, label: int) -> int | None:
        """Return the number of the outcome of a call that has not started, if another process has finished it."""

    def forget(self, label: int) -> None:
        """Expect no outcome of a call any more."""


@dataclass(slots=True, eq=False)
class SeriesEnd:
    """What a series' consumer receives when no call from label `first` on will be run."""

    first: int
    error: BaseException


Outbox = Mailbox[Delivery | SeriesEnd]


@dataclass(slots=True, eq=False)
class Series:
    """Many calls of one function, without a future each.

    The consumer holds `outbox` and the dispatcher only a weak reference to it: outcomes that
    cannot be asked for any more are dropped on arrival.
    """

    function: Function
    outbox: weakref.ref[Outbox]
    chunksize: int | None
    journal: Journal | None = None
    limits: Limits = UNLIMITED
    # Appended to by the thread that feeds the series, taken from by the dispatcher's.
    calls: Supply = field(default_factory=Supply)
    # Appended to by the same thread: for each call of the input that was left out, the label of the next one that was
    # not. Their order is that of the input.
    gaps: list[int] = field(default_factory=list)
    fed: float = field(default_factory=time.monotonic)  # feeding thread writes
    taken: int = 0  # dispatcher thread: calls up to this label are in blocks, or were
    queued: bool = False  # dispatcher thread writes, feeding thread reads: whether it stands in the queue
    abandoned: bool = False  # dispatcher thread: what has not started is not wanted any more

    @property
    def fixed(self) -> int | None:
        """How many calls a block has; None if the pace may choose.

        It may if each call is to travel alone, and so is a task of its own, unless it is more than the value that
        comes back: no one can tell whether calls that take microseconds travelled alone.
        """
        return None if self.chunksize == 1 and not self.function.keeps else self.chunksize

    @property
    def target(self) -> float:
        """What a block should take (s), if the pace may choose."""
        return TARGET if self.chunksize is None else PROMPT

    def add(self, args: Arguments) -> None:
        """Let a call wait behind the others; for the thread that feeds the series."""
        self.fed = time.monotonic()
        self.calls.append(args)

    def cut(self, length: int) -> Block | None:
        """Take the next `length` calls for running, or fewer, without those that another process has finished."""
        if self.journal is not None:
            length = self._pass_over(self.journal, length)
            if length == 0:
                return None
        calls = self.calls.take(length)
        first, self.taken = self.taken, self.taken + length
        return Block(self.function, self, first, calls, fixed=self.fixed is not None, limits=self.limits)

    def sent(self, first: int, calls: list[Arguments]) -> None:
        """Let the journal look at calls that are sent, the first of which has label `first`."""
        if self.journal is not None:
            for label, args in enumerate(calls, first):
                self.journal.sent(label, args)

    def index_of(self, label: int) -> int:
        """Return the place of a call in the input, where calls that need not run have no label."""
        return label + bisect_right(self.gaps, label)

    def _pass_over(self, journal: Journal, length: int) -> int:
        """Deliver the next calls as far as they are kept elsewhere, and return how many follow that are not."""
        journal.refresh()
        while self.calls and (outcome := journal.found(self.taken)) is not None:
            self.calls.take(1)
            journal.forget(self.taken)
            self._put(Delivery(self.taken, Outcomes([Checkpointed(outcome)])))
            self.taken += 1
        count = 0
        while count < min(length, len(self.calls)) and journal.found(self.taken + count) is None:
            count += 1
        return count

    def deliver(self, first: int, outcomes: Outcomes) -> None:
        """Hand outcomes to the consumer, also if they cannot be recorded."""
        try:
            if self.journal is not None:
                self.journal.record(first, outcomes)
        finally:
            outcomes.packed = {}  # else it would wait for the consumer too
            self._put(Delivery(first, outcomes))

    def fail(self, error: BaseException) -> None:
        """Give all calls that are not in a block one error."""
        self.calls.clear()
        self._put(SeriesEnd(self.taken, error))

    def _put(self, item: Delivery | SeriesEnd) -> None:
        outbox = self.outbox()
        if outbox is not None:
            outbox.put(item)
