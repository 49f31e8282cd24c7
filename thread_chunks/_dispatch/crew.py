"""Which workers there are, what is known of each, and which blocks each of them has."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from heapq import heappop, heappush
from typing import Any

from .._calls.blocks import Block
from .._calls.calls import Call
from ..errors import WorkerLost
from .assignment import PASSED, SENT, Assignment, Reason
from .worker import Worker


class State(IntEnum):
    """What a worker does, and so which set its record is in."""

    STARTING = 0  # it is not up yet
    IDLE = 1  # it has nothing to do
    BUSY = 2  # it has blocks, and gets no other for now
    FOLLOWABLE = 3  # it runs a block behind which another may be sent
    FOLLOWED = 4  # it has a second block, which is not being taken back
    RECALLED = 5  # it has a second block, which is being taken back for an idle worker
    REMOVED = 6  # it is of the crew no more


# Before Python 3.12 it takes some 0.1 us to get a member from its enumeration, and each block needs some twenty.
STARTING, IDLE, BUSY, FOLLOWABLE, FOLLOWED, RECALLED, REMOVED = State
_IN_ORDER = (IDLE, BUSY, FOLLOWABLE, FOLLOWED, RECALLED, STARTING)


@dataclass(slots=True, eq=False)
class Member:
    """The record of one worker.

    The crew alone writes `state` and `assignments`.

    Attributes
    ----------
    worker : Worker
        The worker.
    called : float
        When it was started, by the dispatcher's clock.
    index : int
        Its number: no other worker of the crew has it, and a lower one was not free.
    state : State
        What it does.
    assignments : list of Assignment
        Its blocks in flight: the first runs, the second, if there is one, waits behind it.
    proved : bool
        Whether it has brought a call to its end.
    kill_reason : WorkerLost or None
        Why it begins nothing any more, and is to be killed; None if it is not.
    draining : bool
        Whether it is killed as soon as it has handed over what is finished, as the executor ends.
    leaving : bool
        Whether it gets no more blocks, and is dismissed when it is idle, as its node is about to go.
    tasks : int
        How many tasks it has run.
    """

    worker: Worker
    called: float
    index: int = 0
    state: State = STARTING
    assignments: list[Assignment] = field(default_factory=list)
    proved: bool = False
    kill_reason: WorkerLost | None = None
    draining: bool = False
    leaving: bool = False
    tasks: int = 0


class Crew:
    """The workers' records. Each is in one set, by its state, and the crew alone moves it to another.

    All of it belongs to the dispatcher's thread.

    Attributes
    ----------
    starting, idle, followable, followed : KeysView of Member
        The records of these states, in the order in which they came into them. Of the idle workers, the last one is
        the warmest. They are views, which only the crew can change.
    """

    def __init__(self) -> None:
        self._members: dict[Worker, Member] = {}
        self._free: list[int] = []  # numbers of workers that are gone, as a heap
        self._unused = 0  # from here on, no number was given
        # By state, each in the order in which they came. A `dict` takes ever longer to find its first or last item when
        # those were deleted.
        self._sets: list[OrderedDict[Member, None]] = [OrderedDict() for _ in State]
        self.starting = self._sets[STARTING].keys()
        self.idle = self._sets[IDLE].keys()
        self.followable = self._sets[FOLLOWABLE].keys()
        self.followed = self._sets[FOLLOWED].keys()

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter([member for state in _IN_ORDER for member in self._sets[state]])

    @property
    def is_busy(self) -> bool:
        """Whether a worker has a block."""
        return len(self._members) > len(self.idle) + len(self.starting)

    @property
    def running(self) -> list[tuple[Worker, Assignment]]:
        """What the workers run."""
        return [(member.worker, member.assignments[0]) for member in self if member.assignments]

    @property
    def in_flight(self) -> list[tuple[Member, Assignment]]:
        """All blocks that workers have."""
        return [(member, assignment) for member in self for assignment in member.assignments]

    @property
    def wants_recall(self) -> bool:
        """Whether more workers are idle than blocks are being taken back for them, and there are others to take."""
        return bool(self.followed) and len(self._sets[RECALLED]) < len(self.idle)

    def count_busy(self) -> int:
        """Return how many workers have a block, each of which runs one call. Any thread may ask."""
        return max(0, len(self._members) - len(self.starting) - len(self.idle))

    def state_of(self, size: int) -> str:
        """Return how many of `size` workers are up, and how many are busy, in words. Any thread may ask."""
        up = max(0, len(self._members) - len(self.starting))
        return f"{up} of {size} workers up, {self.count_busy()} busy"

    def find(self, worker: Worker) -> Member | None:
        """Return the record of a worker; None if it was given up."""
        return self._members.get(worker)

    def find_assignment(self, worker: Worker, block: Block) -> tuple[Member, Assignment] | None:
        """Return what a worker knows a block as; None if the block was given up, though its worker may answer."""
        if (member := self._members.get(worker)) is not None:
            for assignment in member.assignments:
                if assignment.block is block:
                    return member, assignment
        return None

    def take_index(self) -> int:
        """Return the lowest number that no worker has, for one that is to be started."""
        if self._free:
            return heappop(self._free)
        self._unused += 1
        return self._unused - 1

    def give_back_index(self, index: int) -> None:
        """Let others have a number: its worker is gone, or was not started."""
        heappush(self._free, index)

    def find_call(self, future: Future[Any]) -> tuple[Member, Assignment, Call] | None:
        """Return the call of `submit` that a future is of, and where it is, if a worker has it."""
        for member, assignment in self.in_flight:
            if (call := assignment.block.find(future)) is not None:
                return member, assignment, call
        return None

    def add(self, worker: Worker, now: float, index: int) -> None:
        """Begin the record of a worker that is being started."""
        member = self._members[worker] = Member(worker, now, index)
        self._sets[STARTING][member] = None

    def came_up(self, worker: Worker) -> Member | None:
        """Let a worker that is up be idle, and return its record, unless it was given up before."""
        member = self._members.get(worker)
        if member is None or member.state is not STARTING:
            return None
        self._move(member, IDLE)
        return member

    def send(self, member: Member, block: Block) -> Assignment:
        """Send a block to a worker that is idle or followable."""
        assignment = Assignment(block)
        member.assignments.append(assignment)
        self._move(member, FOLLOWED if member.state is FOLLOWABLE else BUSY)
        assignment.followable = member.worker.run(block)
        return assignment

    def let_follow(self, member: Member) -> None:
        """Let another block be sent to a worker that has one, unless the worker is to go."""
        if member.kill_reason is None and not member.leaving:
            self._move(member, FOLLOWABLE)

    def hold(self, member: Member) -> None:
        """Let no other block be sent to a worker that has one, until it begins the next."""
        if member.assignments:
            self._move(member, BUSY)

    def ask_back(self, member: Member, assignment: Assignment, reason: Reason) -> None:
        """Ask a worker to surrender a block, unless nothing of it is open, or the answer is still to come."""
        self.hold(member)
        if not assignment.block.open:
            return
        if assignment.asked is None:
            assignment.asked = reason
            if reason is Reason.WANTED:
                self._move(member, RECALLED)
            member.worker.surrender(assignment.block)
        elif reason is Reason.OVERDUE:
            assignment.asked = reason

    def surrendered(self, member: Member, assignment: Assignment) -> Reason | None:
        """Return why a worker was asked to surrender a block, as it has answered."""
        reason, assignment.asked = assignment.asked, None
        if reason is Reason.WANTED:
            self.hold(member)
        return reason

    def begun(self, member: Member, assignment: Assignment) -> None:
        """Conclude that a worker which has begun a block has passed those before it, wherever their answers are."""
        for before in member.assignments:
            if before is assignment:
                return
            if before.progress is SENT:
                before.progress = PASSED

    def finish(self, member: Member, assignment: Assignment) -> Assignment | None:
        """Take a block that is over from a worker; return the one that the worker begins now, if there is one."""
        assignment.close()
        left = member.assignments
        is_first = left[0] is assignment
        left.remove(assignment)
        self._move(member, BUSY if left else IDLE)
        return left[0] if left and is_first else None

    def strip(self, member: Member) -> list[Block]:
        """Take all blocks from a worker, whatever it does with them; return them."""
        assignments, member.assignments = member.assignments, []
        for assignment in assignments:
            assignment.close()
        if assignments:
            self._move(member, IDLE)
        return [assignment.block for assignment in assignments]

    def remove(self, member: Member) -> list[Block]:
        """End the record of a worker; return what it had."""
        blocks = self.strip(member)
        self._move(member, REMOVED)
        del self._sets[REMOVED][member], self._members[member.worker]
        self.give_back_index(member.index)
        return blocks

    def _move(self, member: Member, state: State) -> None:
        del self._sets[member.state][member]
        member.state = state
        self._sets[state][member] = None
