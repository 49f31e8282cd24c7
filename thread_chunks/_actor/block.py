"""The block that an actor runs, which another thread may take over in the middle."""

from __future__ import annotations

import threading
import time
from typing import Any, TypeVar

from .._wire.arguments import unpack_plain
from .._wire.pickling import Packed
from .._wire.protocol import Reply, Request
from .memory import PeakMeter

_T = TypeVar("_T")

# Up to so many bytes of values a block hands over when it is surrendered. More are rare: a block ends much earlier.
_LARGEST_HANDED_OVER = 2**26

_LONG_ONES = (str, bytes)  # which values may be large, of those that are not packed


class RunningBlock:
    """The calls of a block that have not started, and what came of the others.

    Two threads share it: the one that runs the calls, and the control thread, which may `surrender`
    the block at any time. The first takes one call after the other, the second all that are left, so that
    each call goes to one of them, and what is given back are the last ones.

    Attributes
    ----------
    places : iterator of int
        The places in the block of the calls that have not begun. Whoever takes one has the call; to take all is one
        step.
    items : list
        What these calls are made with, the last one first: `width` arguments for each if they are `plain`, or the
        tuple of them where `width` is None; else a packed call.
    values, packed, errors
        As in `Reply`, from the first call on. Appended to by the thread that runs the calls, `values`
        last, so that a call that is in `values` is complete.
    since : float or None
        When the call that runs was begun; None before the first. Written by the thread that runs the calls.
    exits : bool
        Whether a call has raised `SystemExit`. If it was by `ray.actor.exit_actor`, Ray ends the actor when it hears of
        the outcomes. Written by the thread that runs the calls.
    awaited : coroutine or None
        What the call that runs is, if it is a coroutine. Written by the thread that runs the calls.
    """

    def __init__(self, request: Request, peak: PeakMeter) -> None:
        self._peak = peak
        self.number = request.number
        self.values: list[Any] = []
        self.packed: dict[int, Packed] = {}
        self.errors: dict[int, Packed] = {}
        self._first = request.first
        self.plain = isinstance(request.calls, bytes)
        self.width: int | None
        self.items: list[Any]
        self.width, self.items = unpack_plain(request.calls) if isinstance(request.calls, bytes) else (1, request.calls)
        request.calls = []  # the request lives on with its sender, and the arguments need not
        self.places = iter(range(len(self.items) // (self.width or 1)))
        self.items.reverse()
        self._lock = threading.Lock()
        self._taken = 0  # under the lock: outcomes that were handed over
        self._left = 0  # under the lock: calls that are given back, and were not handed over
        self.since: float | None = None
        self.awaited: Any = None
        self.exits = False
        self.kept: Any = None  # the value of the only call, if it is to stay in the cluster
        self._began = self._told = time.perf_counter()
        self._long: dict[int, tuple[float, int]] = {}  # what `note_long` noted, by call

    @property
    def label(self) -> int:
        """The label of the call that runs."""
        return self._first + len(self.values)

    def begin(self) -> float:
        """Start the clock, and return what it says: the function is there."""
        self._peak.take(time.perf_counter())
        self._began = self.since = self._told = time.perf_counter()
        return self._began

    def note_long(self, seconds: float) -> None:
        """Keep duration and memory of the call that has just run, and took long."""
        self._long[len(self.values)] = seconds, self._peak.take(time.perf_counter())

    def give_up(self) -> None:
        """Let no more calls be run, and give them back with the outcomes that are taken next."""
        with self._lock:
            left = len(list(self.places))
            del self.items[: left * (self.width or 1)]
            self._left += left

    def surrender(self) -> Reply:
        """Hand over what there is, and keep all other calls but the one that runs from being run.

        What is Ray's to carry comes with the answer of the block, and not here.
        """
        self.give_up()
        reply = self.take(hand_over=self._can_hand_over())
        if self.since is not None:
            reply.running = time.perf_counter() - self.since
        return reply

    def take(self, *, hand_over: bool = True) -> Reply:
        """Hand over the outcomes, and the calls that are given back, that were not yet; or only these calls."""
        with self._lock:
            left, self._left = self._left, 0
            start, stop = self._taken, len(self.values) if hand_over else self._taken
            self._taken = stop
            values, self.values[start:stop] = self.values[start:stop], [None] * (stop - start)
            packed, errors = _pop(self.packed, start, stop), _pop(self.errors, start, stop)
            long = _pop(self._long, start, stop)
            told, self._told = self._told, self.since or self._told
            short = max(0.0, self._told - told - sum(seconds for seconds, _ in long.values()))
        seconds = time.perf_counter() - self._began
        return Reply(self.number, values, packed, errors, start, seconds, left, short=short, long=long)

    def _can_hand_over(self) -> bool:
        """Return whether all outcomes can travel by the channel."""
        packed = [*list(self.packed.values()), *list(self.errors.values())]
        size = sum(each.size for each in packed) + sum(len(value) for value in self.values if type(value) in _LONG_ONES)
        return size <= _LARGEST_HANDED_OVER and not any(each.references for each in packed)


def _pop(column: dict[int, _T], start: int, stop: int) -> dict[int, _T]:
    return {index - start: column.pop(index) for index in list(column) if index < stop}
