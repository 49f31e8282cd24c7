"""What is to be done about running blocks when their time comes."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

from ._blocks import Block


class Alarms:
    """A heap of alarms. Those of blocks that are over never ring, nobody waits for them, and few are kept."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Block, Callable[[], None]]] = []
        self._order = count()  # of alarms that are equal in time
        self._room = 64  # when the heap has more than this, those of blocks that are over are thrown out

    def set(self, when: float, block: Block, action: Callable[[], None]) -> None:
        """Do `action` at `when`, on `time.monotonic`'s clock, unless `block` is over by then."""
        heappush(self._heap, (when, next(self._order), block, action))
        if len(self._heap) > self._room:
            self._heap = [alarm for alarm in self._heap if not alarm[2].over]
            heapify(self._heap)
            self._room = 64 + 2 * len(self._heap)

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
