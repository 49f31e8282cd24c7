"""What is to be done about running blocks when their time comes."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from ._blocks import Block


class Alarms:
    """A heap of alarms. Those of blocks that are over never ring, and nobody waits for them."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Block, Callable[[], None]]] = []
        self._order = count()  # of alarms that are equal in time

    def set(self, when: float, block: Block, action: Callable[[], None]) -> None:
        """Do `action` at `when`, on `time.monotonic`'s clock, unless `block` is over by then."""
        heappush(self._heap, (when, next(self._order), block, action))

    def next(self) -> float | None:
        """Return when the next one rings."""
        while self._heap and self._heap[0][2].over:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def ring(self, now: float) -> bool:
        """Do what is due by `now`, and return whether there was anything."""
        due = []
        while (when := self.next()) is not None and when <= now:
            due.append(heappop(self._heap))
        for _, _, block, action in due:
            if not block.over:  # one of the actions before may have ended it
                action()
        return bool(due)
