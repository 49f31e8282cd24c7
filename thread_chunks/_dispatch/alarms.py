"""What is to be done about running blocks when their time comes."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count


class Alarm:
    """What is to be done; None when it rang, or is not to ring any more."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Let it never ring, and refer to nothing."""
        self.action = None


class Alarms:
    """A heap of alarms. Most are cancelled, by the end of a block; those are thrown out now and then."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._order = count()  # of alarms that are equal in time
        self._room = 64  # when the heap has more than this, those that were cancelled are thrown out

    def set(self, when: float, action: Callable[[], None]) -> Alarm:
        """Do `action` at `when`, on the dispatcher's clock, unless the alarm that is returned was cancelled by then."""
        alarm = Alarm(action)
        heappush(self._heap, (when, next(self._order), alarm))
        if len(self._heap) > self._room:
            self._heap = [item for item in self._heap if item[2].action is not None]
            heapify(self._heap)
            self._room = 64 + 2 * len(self._heap)
        return alarm

    def next(self) -> float | None:
        """Return when the next one rings."""
        while self._heap and self._heap[0][2].action is None:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def ring(self, now: float) -> bool:
        """Do what is due by `now`, and return whether there was anything."""
        due = []
        while (when := self.next()) is not None and when <= now:
            due.append(heappop(self._heap)[2])
        for alarm in due:
            if (action := alarm.action) is not None:  # one of the actions before may have ended the block
                alarm.cancel()
                action()
        return bool(due)
