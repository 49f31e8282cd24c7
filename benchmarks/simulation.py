"""The dispatcher on simulated workers, without Ray and without threads."""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from thread_chunks._blocks import Block, Series
from thread_chunks._calls import Function, Outcomes, Parcel
from thread_chunks._dispatcher import Dispatcher
from thread_chunks._mailbox import Mailbox
from thread_chunks._messages import Finished, Inbox, Message, StartAll, Started


class SimulatedWorker:
    """Finishes each block when its turn comes."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.handle: Any = self
        self.host, self.pid, self.node = "simulated", 0, ""
        self.place = "simulated"
        self._cluster = cluster

    def run(self, block: Block) -> bool:
        """Take a block."""
        self._cluster.sent.append((self, block))
        return True

    def surrender(self, block: Block) -> None:
        """Have nothing to give back."""

    def look(self, block: Block, with_stack: bool) -> None:
        """Have nothing to say."""

    def store(self, function: Function) -> None:
        """Keep nothing."""

    def dismiss(self) -> None:
        """End."""

    def kill(self) -> None:
        """End."""


class SimulatedCluster:
    """Workers that are up at once."""

    replaceable = True
    interruptible = True
    alive = True
    leaving = ()
    needs = "nothing"

    def __init__(self) -> None:
        self.sent: deque[tuple[SimulatedWorker, Block]] = deque()
        self.workers: list[SimulatedWorker] = []

    def start_worker(self, post: Callable[[Message], None]) -> SimulatedWorker:
        """Make a worker."""
        self.workers.append(SimulatedWorker(self))
        return self.workers[-1]

    def reachable(self) -> bool:
        """Say that it is there."""
        return True

    def home_of(self, block: Block) -> str:
        """Have nothing in particular."""
        return ""

    def close(self) -> None:
        """End."""


def time_per_block(workers: int, blocks: int) -> float:
    """Return what one block costs the dispatcher (us), with so many workers that are always busy."""
    cluster, inbox = SimulatedCluster(), Inbox()
    dispatcher = Dispatcher(cluster, inbox, workers)
    dispatcher.handle([StartAll()])
    dispatcher.handle([Started(worker) for worker in cluster.workers])
    outbox: Any = Mailbox()
    series = Series(Function(None, Parcel(b"")), weakref.ref(outbox), None)
    series.calls.extend((x,) for x in range(blocks + workers))
    dispatcher.handle([series])
    start = time.perf_counter()
    for _ in range(blocks):
        worker, block = cluster.sent.popleft()
        # Slow calls, so that each block is one call.
        outcomes = Outcomes([None] * len(block.calls), seconds=1.0)
        dispatcher.handle([Finished(worker, block, lambda outcomes=outcomes: outcomes)])  # type: ignore[misc]
        dispatcher.ring(0.0)
    return (time.perf_counter() - start) / blocks * 1e6
