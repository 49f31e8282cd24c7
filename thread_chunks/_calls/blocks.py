"""Blocks: calls that travel together, and the delivery of their outcomes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from .calls import UNLIMITED, Arguments, Call, KeptCall, Limits, Outcomes
from .functions import Function
from .pace import TARGET


class Receiver(Protocol):
    """Receive the outcomes of a block."""

    abandoned: bool  # dispatcher thread: what has not started is not wanted any more
    fed: float  # when the last of its calls came, or later (by `time.monotonic`)

    @property
    def target(self) -> float:
        """What a block should take (s), unless the user chose its length."""

    def sent(self, first: int, calls: list[Arguments]) -> None: ...

    def deliver(self, first: int, outcomes: Outcomes) -> None: ...

    def index_of(self, label: int) -> int | None: ...


@dataclass(slots=True, eq=False)
class Batch:
    """Calls from `submit` that travel together. They are dropped one by one, as they are resolved."""

    calls: list[Call | None]
    abandoned = False  # its rest is always wanted
    target = TARGET
    fed: float = field(default_factory=time.monotonic)
    _places: dict[Future[Any], int] | None = None

    def sent(self, first: int, calls: list[Arguments]) -> None:
        """Do nothing: arguments of `submit` are not looked at again."""

    def index_of(self, label: int) -> int | None:
        """Return None: it is no series."""
        return None

    def place(self, future: Future[Any]) -> int:
        """Return which of the calls a future is of; -1 if none is."""
        if self._places is None:
            self._places = {call.future: place for place, call in enumerate(self.calls) if call is not None}
        return self._places.get(future, -1)

    def deliver(self, first: int, outcomes: Outcomes) -> None:
        """Resolve the futures of the calls from `first` on."""
        values, errors = outcomes.values, outcomes.errors
        for index in range(len(values)):
            call, self.calls[first + index] = self.calls[first + index], None
            value, values[index] = values[index], None
            assert call is not None
            call.resolve(value, errors.pop(index, None))


@dataclass(slots=True, eq=False)
class KeptBatch(Batch):
    """Calls from `submit` whose values are kept."""

    def sent(self, first: int, calls: list[Arguments]) -> None:
        """Let the arguments be looked at once more."""
        for place, args in enumerate(calls, first):
            if isinstance(call := self.calls[place], KeptCall):
                call.keeper.sent(args)

    def deliver(self, first: int, outcomes: Outcomes) -> None:
        """Keep the values before the futures are resolved, as the user may change one; resolve these in any case."""
        try:
            for index, value in enumerate(outcomes.values):
                if isinstance(call := self.calls[first + index], KeptCall):
                    errors = {0: outcomes.errors[index]} if index in outcomes.errors else {}
                    packed = {0: outcomes.packed[index]} if index in outcomes.packed else {}
                    long = {0: outcomes.long[index]} if index in outcomes.long else {}
                    kept = Outcomes([value], errors, packed=packed, long=long, abandoned=outcomes.abandoned)
                    call.keeper.record(kept)
        finally:
            Batch.deliver(self, first, outcomes)


@dataclass(slots=True, eq=False)
class Block:
    """The calls that go to a worker in one message; the first has label `first`.

    `fixed` is whether the pace has no say in its length: the user chose it, or its only call was lost, or
    failed to be sent, and is sent alone. `runs` is how often its call was run already and lost with a worker. All
    belongs to the dispatcher's thread.
    """

    function: Function
    receiver: Receiver
    first: int
    calls: list[Arguments]
    fixed: bool = False
    limits: Limits = UNLIMITED
    runs: int = 0
    # Spans of the calls that have no outcome yet, and were not given back.
    open: list[tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        self.open = [(0, len(self.calls))]

    def settle(self, start: int, stop: int) -> None:
        """Close the calls from `start` to before `stop`, which are no longer open, and drop them."""
        for index, (first, last) in enumerate(self.open):
            if first <= start < stop <= last:
                self.open[index : index + 1] = [span for span in ((first, start), (stop, last)) if span[0] < span[1]]
        self.calls[start:stop] = [()] * (stop - start)

    def deliver(self, outcomes: Outcomes) -> None:
        """Deliver outcomes to the receiver."""
        self.receiver.deliver(self.first + outcomes.offset, outcomes)

    def fail(self, error: BaseException) -> None:
        """Give all open calls one error."""
        for outcomes in self.failures(error):
            self.deliver(outcomes)

    def failures(self, error: BaseException) -> list[Outcomes]:
        """Return the outcomes of all open calls if they are one error. They are no longer open."""
        spans = list(self.open)
        for start, stop in spans:
            self.settle(start, stop)
        return [Outcomes.all_failed(stop - start, error, start) for start, stop in spans]

    def give_back(self, start: int = 0) -> list[Block]:
        """Return the open calls from the `start`-th on, which were not run, as blocks of their own."""
        parts = []
        for first, stop in list(self.open):
            if stop > start:
                parts.append(self._part(max(first, start), stop))
                self.settle(max(first, start), stop)
        return parts

    @property
    def open_calls(self) -> int:
        """How many calls have no outcome yet, and were not given back."""
        return sum(stop - start for start, stop in self.open)

    def singly(self, runs: int) -> list[Block]:
        """Return a block for each of the open calls, which have been run and lost `runs` times."""
        singles = []
        for start, stop in list(self.open):
            singles += [self._part(index, index + 1) for index in range(start, stop)]
            self.settle(start, stop)
        for single in singles:
            single.fixed, single.runs = True, runs
        return singles

    def find(self, future: Future[Any]) -> Call | None:
        """Return the open call of `submit` that a future is of."""
        if not isinstance(self.receiver, Batch):
            return None
        place = self.receiver.place(future)
        is_open = any(start <= place - self.first < stop for start, stop in self.open)
        return self.receiver.calls[place] if is_open else None

    @property
    def is_whole(self) -> bool:
        """Whether all of its calls are open."""
        return self.open == [(0, len(self.calls))]

    @property
    def futures(self) -> list[Future[Any]]:
        """The futures of its open calls, if they are of `submit`."""
        return [call.future for _, call in self._open_calls_of_submit()]

    def cancel(self, future: Future[Any]) -> None:
        """Give the open call of a future the error of cancelled ones. It is no longer open."""
        assert isinstance(self.receiver, Batch)
        index = self.receiver.place(future) - self.first
        self.settle(index, index + 1)
        self.deliver(Outcomes.all_failed(1, CancelledError(), index))

    @property
    def has_unwanted(self) -> bool:
        """Whether an open call is to be cancelled."""
        return any(call.unwanted for _, call in self._open_calls_of_submit())

    def cancellations(self) -> list[Outcomes]:
        """Return the outcomes of the open calls that are to be cancelled. They are no longer open."""
        unwanted = [index for index, call in self._open_calls_of_submit() if call.unwanted]
        for index in unwanted:
            self.settle(index, index + 1)
        return [Outcomes.all_failed(1, CancelledError(), index) for index in unwanted]

    def _open_calls_of_submit(self) -> Iterator[tuple[int, Call]]:
        if isinstance(self.receiver, Batch):
            for start, stop in self.open:
                for index in range(start, stop):
                    call = self.receiver.calls[self.first + index]
                    assert call is not None, "open, and resolved"
                    yield index, call

    def cut(self, length: int) -> Block:
        """Take the first `length` calls off the block, which waits; return them as a block of their own."""
        first = self._part(0, length)
        del self.calls[:length]
        self.first += length
        self.open = [(0, len(self.calls))]
        return first

    def _part(self, start: int, stop: int) -> Block:
        return Block(
            self.function,
            self.receiver,
            self.first + start,
            self.calls[start:stop],
            self.fixed,
            self.limits,
            self.runs,
        )
