"""Look whether the cluster is still there, which of its nodes are about to go, and which workers wait for room."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ExecutorBroken
from .assigner import Assigner
from .cluster import GONE, Cluster, executor_broken
from .crew import Crew
from .starts import Starts

# How often to look, while something is expected of the cluster (s). Less costs wake-ups, of some milliseconds; more,
# and calls wait longer for what will never answer.
_LOOKS = 2.0


class Lookout:
    """Look at the cluster now and then. All belongs to the dispatcher's thread.

    Parameters
    ----------
    crew, cluster, assigner, starts
        The dispatcher's.
    clock : callable
        Tells the time.
    give_up : callable
        Breaks the executor.
    """

    def __init__(
        self,
        crew: Crew,
        cluster: Cluster,
        assigner: Assigner,
        starts: Starts,
        clock: Callable[[], float],
        give_up: Callable[[ExecutorBroken], None],
    ) -> None:
        self._crew = crew
        self._cluster = cluster
        self._assigner = assigner
        self._starts = starts
        self._clock = clock
        self._give_up = give_up
        self._next = 0.0

    @property
    def next(self) -> float | None:
        """When to look next; None if nothing is expected of the cluster."""
        return self._next if len(self._crew) > len(self._crew.idle) else None

    def look_if_due(self, now: float) -> bool:
        """Look, if it is time. Returns whether it was."""
        if self.next is None:
            self._next = now + _LOOKS
        if now < self._next:
            return False
        is_there = self._cluster.reachable()
        self._next = self._clock() + _LOOKS  # to look may have taken seconds
        if not is_there:
            self._give_up(executor_broken(GONE))
            return True
        leaving = self._cluster.leaving
        for member in self._crew if leaving else ():
            if member.worker.node in leaving:
                self._assigner.vacate(member)
        self._starts.warn_of_late(now)
        return True
