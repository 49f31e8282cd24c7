"""Choose which worker gets which block, and what is taken back from a worker for others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .._calls.blocks import Block
from .alarms import Alarms
from .assignment import Assignment, Reason
from .crew import IDLE, STARTING, Crew, Member
from .endings import Endings
from .queue import Queue

# So many blocks are sent, then what came meanwhile is handled. Fewer, and that costs time; more, and workers whose
# short calls are over wait until many others have got their first, before it was known how short they are.
_AT_ONCE = 8

# Who leaves first if there are too many workers. Those that have a call leave last.
_RELUCTANCE = {STARTING: 0, IDLE: 1}


class Assigner:
    """Give blocks to workers, and take them back. All belongs to the dispatcher's thread.

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
        self.unfinished = False

    def give_out(self, size: int) -> None:
        """Give the next blocks to idle workers, of `size` in all, then to those that can have one more.

        Give some, and be `unfinished`.
        """
        self.unfinished = all(self._give_out_one(size) for _ in range(_AT_ONCE))

    def occupy(self, size: int) -> None:
        """Give each idle worker a block, as far as there are blocks, however long that takes."""
        while self._crew.idle and self._give_out_one(size):
            pass

    def _give_out_one(self, size: int) -> bool:
        """Give out a block; return whether there was one, and a worker for it."""
        crew, waiting = self._crew, self._waiting
        if crew.idle and (block := waiting.next_block(size, self._longest(next(reversed(crew.idle))))) is not None:
            self._send(self._nearest(block), block)
            return True
        if waiting.head() is None:
            self._recall()
        elif crew.followable and waiting.may_go_ahead and (block := waiting.next_block(size, None)) is not None:
            self._send(next(iter(crew.followable)), block)
            return True
        return False

    def finish(self, member: Member, assignment: Assignment) -> None:
        """Let a worker whose block is over begin the next one, or be free, or go."""
        member.tasks += assignment.block.fixed
        following = self._crew.finish(member, assignment)
        is_spent = self._max_tasks is not None and member.tasks >= self._max_tasks
        if following is not None:
            self._begin(member, following)
        elif (is_spent or member.leaving) and member.state is IDLE and member.kill_reason is None:
            self._dismiss(member)  # if there is a reason to kill it, the dispatcher does

    def vacate(self, member: Member) -> None:
        """Give a worker no more blocks, and take back what it has not begun: it is to go, or its node is."""
        if member.leaving or member.kill_reason is not None:
            return
        member.leaving = True
        if member.assignments:
            self._take_back(member)
        else:
            self._dismiss(member)

    def vacate_all_but(self, size: int) -> None:
        """Let workers leave that are too many: those that run nothing now, and others as their call ends."""
        staying = [member for member in self._crew if not member.leaving and member.kill_reason is None]
        staying.sort(key=lambda member: (_RELUCTANCE.get(member.state, 2), -member.index))
        for member in staying[: max(0, len(staying) - size)]:
            self.vacate(member)

    def _nearest(self, block: Block) -> Member:
        """Return an idle worker for a block: one that is where its arguments are, if they are large, or the last."""
        if home := self._home_of(block):
            for member in reversed(self._crew.idle):
                longest = self._longest(member)
                if member.worker.node == home and (longest is None or block.fixed or longest >= len(block.calls)):
                    return member
        return next(reversed(self._crew.idle))

    def _dismiss(self, member: Member) -> None:
        """Dismiss a worker, which is replaced if there is work."""
        self._crew.remove(member)
        member.worker.dismiss()

    def _longest(self, member: Member) -> int | None:
        """Return how many calls a block for a worker may have, unless it is fixed; None for any number."""
        if not member.worker.interruptible:  # what is behind a long call could not be taken back
            return 1
        return None if self._max_tasks is None else self._max_tasks - member.tasks

    def _send(self, member: Member, block: Block) -> None:
        assignment = self._crew.send(member, block)
        block.receiver.sent(block.first, block.calls)
        first = member.assignments[0]
        if first is assignment:
            self._begin(member, assignment)
        elif len(first.block.calls) == 1:  # now there is something to be taken back, if it takes long
            self._time(member, first)

    def _begin(self, member: Member, assignment: Assignment) -> None:
        """Time a block whose turn it is, and let another follow it if its calls are short."""
        assignment.began = self._clock()
        block = assignment.block
        if len(block.calls) > 1 and not block.fixed:
            self._time(member, assignment)
        if assignment.followable and block.function.parcel.pace.brief and not block.fixed and self._max_tasks is None:
            self._crew.let_follow(member)
        self._endings.time_call(member, assignment, is_exact=False)

    def _time(self, member: Member, assignment: Assignment) -> None:
        pace, calls = assignment.block.function.parcel.pace, len(assignment.block.calls)
        assignment.ring_at(self._alarms, assignment.began + pace.overdue(calls), partial(self._take_back, member, True))

    def _take_back(self, member: Member, is_overdue: bool = False) -> None:
        """Take back all that a worker has not begun of its blocks, and send it no other for now.

        `is_overdue`: the one that it runs takes longer than it should.
        """
        self._crew.hold(member)
        first, *behind = member.assignments
        if len(first.block.calls) > 1:
            self._crew.ask_back(member, first, Reason.OVERDUE if is_overdue else Reason.BLOCKED)
        for assignment in behind:
            self._crew.ask_back(member, assignment, Reason.BLOCKED)

    def _recall(self) -> None:
        """Take back what waits behind other blocks, for workers that have nothing to do."""
        crew = self._crew
        while crew.wants_recall:
            member = next(reversed(crew.followed))
            crew.hold(member)
            block = member.assignments[-1].block
            if block.function.parcel.pace.worth_moving(len(block.calls)):
                crew.ask_back(member, member.assignments[-1], Reason.WANTED)
