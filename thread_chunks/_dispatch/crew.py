"""Which workers there are, and which blocks each of them has."""

from __future__ import annotations

from .._calls.blocks import Block
from ..errors import WorkerLost
from .worker import Worker

# After so many attempts in a row to have workers that were lost before they ran anything, no more are started.
# Fewer, and a passing fault would end hours of work; more, and the user waits for an image that can't import.
MAX_FAILED_STARTS = 5

# How long to wait before the next one is started (s), after the first that failed; twice as long after each other.
_BACK_OFF = 0.5


class Crew:
    """Workers: starting, idle, or busy with one block, behind which another may wait for its turn.

    All of it belongs to the dispatcher's thread.

    Attributes
    ----------
    starting : set of Worker
        Those that are not up yet.
    idle : list of Worker
        Those that have nothing to do. The last one is the warmest, and used first.
    busy : dict of Worker to list of Block
        What the others have: the first block runs, the second, if there is one, waits behind it.
    fresh : dict of Worker to float
        Those that have not brought a call to its end yet, and when they were called, by the dispatcher's clock.
    retired : dict of Worker to WorkerLost
        Those that begin nothing any more, and are to be killed, for this reason.
    leaving : set of Worker
        Those that get no more blocks, and are let go of when they are idle, as their node is about to go.
    followable : dict of Worker to None
        Those that run a block behind which another may be sent. The first has run its block for longest.
    followed : dict of Worker to None
        Those that have a second block, but for those from which it is being taken back. The last one got it last.
    failed_starts : int
        How many attempts in a row failed: workers were lost, and not a single call came to an end.
    failure : WorkerLost or None
        Why the last one was.
    next_start : float
        When the next one may be started, by the dispatcher's clock.
    """

    def __init__(self) -> None:
        self.starting: set[Worker] = set()
        self.idle: list[Worker] = []
        self.busy: dict[Worker, list[Block]] = {}
        self.fresh: dict[Worker, float] = {}
        self.retired: dict[Worker, WorkerLost] = {}
        self.leaving: set[Worker] = set()
        self.followable: dict[Worker, None] = {}
        self.followed: dict[Worker, None] = {}
        self.failed_starts = 0
        self.failure: WorkerLost | None = None
        self.next_start = 0.0
        self._failed_at = -1.0

    def __len__(self) -> int:
        return len(self.idle) + len(self.busy) + len(self.starting)

    @property
    def workers(self) -> list[Worker]:
        """All workers."""
        return [*self.idle, *self.busy, *self.starting]

    @property
    def running(self) -> list[tuple[Worker, Block]]:
        """The blocks that run, with their workers."""
        return [(worker, blocks[0]) for worker, blocks in self.busy.items()]

    def knows(self, worker: Worker) -> bool:
        """Whether a worker is of the crew, and was not given up."""
        return worker in self.busy or worker in self.starting or worker in self.idle

    def call(self, worker: Worker, now: float) -> None:
        """Take note that a worker is being started."""
        self.starting.add(worker)
        self.fresh[worker] = now

    def started(self, worker: Worker) -> None:
        """Take note that a worker is up, unless it was given up before."""
        if worker in self.starting:
            self.starting.remove(worker)
            self.idle.append(worker)

    def proved(self, worker: Worker) -> None:
        """Take note that a worker brought a call to its end."""
        self.fresh.pop(worker, None)
        self.failed_starts = 0

    def failed_to_start(self, called: float, error: WorkerLost, now: float) -> None:
        """Take note that a worker that was called then is of no use, so that the next one is started later."""
        self.failure = error
        if called > self._failed_at:  # else it is of an attempt that has failed already
            self._failed_at = now
            self.next_start = now + _BACK_OFF * 2**self.failed_starts
            self.failed_starts += 1

    def has(self, worker: Worker, block: Block) -> bool:
        """Whether a worker has a block. One that was given up may answer all the same, and is not ours any more."""
        return block in self.busy.get(worker, ())

    def begun(self, worker: Worker, block: Block) -> None:
        """Take note that a worker has begun a block, and so has passed those before it, wherever their answers are."""
        for before in self.busy[worker]:
            if before is block:
                return
            before.passed = True

    def send(self, worker: Worker, block: Block) -> Block:
        """Send a block to a worker that is idle or followable; return the one that it runs."""
        blocks = self.busy.setdefault(worker, [])
        blocks.append(block)
        block.followable = worker.run(block)
        if self.followable.pop(worker, self) is None:
            self.followed[worker] = None
        return blocks[0]

    def surrender(self, worker: Worker, block: Block) -> None:
        """Ask a worker to surrender a block, unless there is nothing to surrender, or the answer is still to come."""
        if block.open and not block.asked:
            block.asked = True
            worker.surrender(block)

    def end(self, worker: Worker, block: Block) -> Block | None:
        """Take a block from a worker; return the one that it begins now, if there is one."""
        block.end()
        blocks = self.busy[worker]
        is_next = len(blocks) > 1 and blocks[0] is block
        blocks.remove(block)
        self.followable.pop(worker, None)
        self.followed.pop(worker, None)
        if not blocks:
            del self.busy[worker]
        return blocks[0] if is_next else None

    def remove(self, worker: Worker) -> list[Block]:
        """Forget a worker, which is lost; return what it had."""
        self.starting.discard(worker)
        self.retired.pop(worker, None)
        self.leaving.discard(worker)
        self.fresh.pop(worker, None)
        if worker in self.idle:
            self.idle.remove(worker)
        self.followable.pop(worker, None)
        self.followed.pop(worker, None)
        blocks = self.busy.pop(worker, [])
        for block in blocks:
            block.end()
        return blocks
