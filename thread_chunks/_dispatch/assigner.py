"""Which worker gets which block, and what is taken back from a worker for others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

from .._calls.blocks import Block
from .alarms import Alarms
from .crew import Crew
from .endings import Endings
from .queue import Queue
from .worker import Worker

# So many blocks are sent, then what came meanwhile is handled. Fewer, and that costs time; more, and workers whose
# short calls are over wait until many others have got their first, when nobody knew yet how short they are.
_AT_ONCE = 8


class Assignment:
    """All belongs to the dispatcher's thread.

    Parameters
    ----------
    crew, waiting, alarms, endings
        The dispatcher's.
    home_of : callable
        Returns the node that has what a block needs, as `Cluster` does.
    clock : callable
        Tells the time.
    max_tasks : int or None
        As for the dispatcher.

    Attributes
    ----------
    unfinished : bool
        Whether there may be more blocks to give out as soon as there is time.
    """

    def __init__(
        self,
        crew: Crew,
        waiting: Queue,
        alarms: Alarms,
        endings: Endings,
        home_of: Callable[[Block], str],
        clock: Callable[[], float],
        max_tasks: int | None,
    ) -> None:
        self._crew = crew
        self._waiting = waiting
        self._alarms = alarms
        self._endings = endings
        self._home_of = home_of
        self._clock = clock
        self._max_tasks = max_tasks
        self._tasks: Counter[Worker] = Counter()  # that each has run, if `_max_tasks` limits them
        self._recalled: set[Block] = set()  # that are being taken back for workers that are idle
        self.unfinished = False

    def give_out(self, size: int) -> None:
        """Give the next blocks to idle workers, of `size` in all, then to those that can have one more.

        Give some, and be `unfinished`.
        """
        self.unfinished = all(self._give_out_one(size) for _ in range(_AT_ONCE))

    def _give_out_one(self, size: int) -> bool:
        """Give out a block; return whether there was one, and a worker for it."""
        crew, waiting = self._crew, self._waiting
        if crew.idle and (block := waiting.take(size, self._tasks_left(crew.idle[-1]))) is not None:
            self._send(self._nearest(block), block)
            return True
        if waiting.head() is None:
            self._recall()
        elif crew.followable and waiting.may_go_ahead and (block := waiting.take(size, None)) is not None:
            self._send(next(iter(crew.followable)), block)
            return True
        return False

    def count(self, worker: Worker, block: Block, calls: int) -> None:
        """Take note of calls that a worker has run; those of a block that the user made are one task together."""
        if self._max_tasks is not None and not block.fixed:
            self._tasks[worker] += calls

    def surrendered(self, block: Block) -> None:
        """Take note that a block was surrendered."""
        self._recalled.discard(block)

    def end(self, worker: Worker, block: Block) -> None:
        """Take note that a block is over: its worker begins the next one, or is free."""
        self._recalled.discard(block)
        if self._max_tasks is not None and block.fixed:
            self._tasks[worker] += 1
        following = self._crew.end(worker, block)
        if following is not None:
            self._begin(worker, following)
        elif worker in self._crew.busy or worker in self._crew.retired:
            pass  # it runs the block before this one, or is the dispatcher's to kill
        elif worker in self._crew.leaving or (self._max_tasks is not None and self._tasks[worker] >= self._max_tasks):
            self._dismiss(worker)
        else:
            self._crew.idle.append(worker)

    def leave(self, worker: Worker) -> None:
        """Give a worker no more blocks, and take back what it has not begun: its node is about to go."""
        crew = self._crew
        if worker in crew.leaving or worker in crew.retired:
            return
        if (blocks := crew.busy.get(worker)) is None:
            self._dismiss(worker)
            return
        crew.leaving.add(worker)
        self._take_back(worker, blocks)

    def remove(self, worker: Worker) -> list[Block]:
        """Forget a worker, which is lost; return what it had."""
        self._tasks.pop(worker, None)
        blocks = self._crew.remove(worker)
        self._recalled.difference_update(blocks)
        return blocks

    def _nearest(self, block: Block) -> Worker:
        """Take an idle worker for a block: one that is where its arguments are, if they are large, or else the last."""
        idle = self._crew.idle
        if home := self._home_of(block):
            for index in reversed(range(len(idle))):
                left = self._tasks_left(idle[index])
                if idle[index].node == home and (left is None or block.fixed or left >= len(block.calls)):
                    return idle.pop(index)
        return idle.pop()

    def _dismiss(self, worker: Worker) -> None:
        """Let go of a worker, which is replaced if there is work."""
        self.remove(worker)
        worker.dismiss()

    def _tasks_left(self, worker: Worker) -> int | None:
        return None if self._max_tasks is None else self._max_tasks - self._tasks[worker]

    def _send(self, worker: Worker, block: Block) -> None:
        first = self._crew.send(worker, block)
        block.receiver.start(block.first, block.calls)
        if first is block:
            self._begin(worker, block)
        elif len(first.calls) == 1:  # now there is something to be taken back, if it takes long
            self._time(worker, first)

    def _begin(self, worker: Worker, block: Block) -> None:
        """Take note that it is a block's turn."""
        block.began = self._clock()
        if len(block.calls) > 1 and not block.fixed:
            self._time(worker, block)
        is_brief = block.function.parcel.pace.brief and not block.fixed and not block.alone
        is_staying = worker not in self._crew.retired and worker not in self._crew.leaving
        if block.followable and is_brief and self._max_tasks is None and is_staying:
            self._crew.followable[worker] = None
        self._endings.begin(worker, block, is_exact=False)

    def _time(self, worker: Worker, block: Block) -> None:
        when = block.began + block.function.parcel.pace.overdue(len(block.calls))
        block.alarms.append(self._alarms.set(when, partial(self._hurry, worker, block)))

    def _hurry(self, worker: Worker, block: Block) -> None:
        """Take back what stands behind a call that takes longer than it should."""
        block.overdue = True
        self._take_back(worker, self._crew.busy[worker])

    def _take_back(self, worker: Worker, blocks: list[Block]) -> None:
        """Take back all that a worker has not begun of its blocks, and send it no other for now."""
        self._crew.followable.pop(worker, None)
        self._crew.followed.pop(worker, None)
        for index, block in enumerate(blocks):
            if len(block.calls) > 1 or index > 0:
                self._crew.surrender(worker, block)

    def _recall(self) -> None:
        """Take back what waits behind other blocks, for workers that have nothing to do."""
        crew = self._crew
        while crew.followed and len(self._recalled) < len(crew.idle):
            worker, _ = crew.followed.popitem()
            *_, block = crew.busy[worker]
            if block.function.parcel.pace.worth_moving(len(block.calls)):
                self._recalled.add(block)
                crew.surrender(worker, block)
