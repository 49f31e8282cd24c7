"""End running calls: those that take too long or too much memory, those that are cancelled, or all.

Only the end of its process ends a call, so all else that the process has is brought to safety first: the
worker is asked for what is finished, and to give back what has not begun. A worker that does not answer, because
the call holds the interpreter lock, is ended all the same, after `GRACE`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any

from ..errors import CallTimeout
from .alarms import Alarms
from .assignment import PASSED, SENT, Assignment, Reason
from .crew import REMOVED, Crew, Member

# For how long a worker may take to give back the rest of a block before its process is ended (s). Less, and a
# worker of a busy machine loses short calls without need; more, and who cancelled waits.
GRACE = 0.5

_CANCELLED = CancelledError("it was cancelled")  # for messages only: calls get one of their own


class Endings:
    """End running calls. All belongs to the dispatcher's thread.

    Only a call of the block that its worker runs is ended; a block that waits behind it is asked back, and if it
    begins before it is given back, it is its turn.

    Parameters
    ----------
    crew, alarms
        The dispatcher's.
    clock : callable
        Tells the time.
    kill : callable
        Kills a worker because of the block that it runs: of its calls the one that runs gets the error, or those
        that are unwanted are cancelled if the error is a `CancelledError`.
    """

    def __init__(
        self,
        crew: Crew,
        alarms: Alarms,
        clock: Callable[[], float],
        kill: Callable[[Member, BaseException], None],
    ) -> None:
        self._crew = crew
        self._alarms = alarms
        self._clock = clock
        self._kill = kill

    def time_call(self, member: Member, assignment: Assignment, *, is_exact: bool) -> None:
        """See to the time-out of a call that was begun at `assignment.began`, in the block that its worker runs.

        If that is not `is_exact`, it may have been begun later, and may not be the one that runs.
        """
        block = assignment.block
        timeout = block.limits.timeout
        if timeout is not None and block.open:
            is_late = self._clock() >= assignment.began + timeout
            if is_exact and isinstance(assignment.end_error, CallTimeout) and not is_late:
                # It was taken to be late, as there was no answer.
                assignment.end_error = _CANCELLED if block.has_unwanted else None
            action = self._out_of_time if is_exact else self._ask
            self._unless_another_begins(assignment.began + timeout, member, assignment, action)
        if assignment.end_error is not None:
            self._press(member, assignment)

    def kill_all(self) -> None:
        """Kill all workers: of `Lost`, which comes of it, calls get their errors, if their outcomes do not come before.

        Those that have several calls, and can be asked, hand over first what they have.
        """
        for member in self._crew:
            open_calls = sum(assignment.block.open_calls for assignment in member.assignments)
            if member.worker.interruptible and open_calls > 1:
                member.draining = True
                for assignment in member.assignments:
                    self._crew.ask_back(member, assignment, Reason.ENDING)
                    assignment.ring_at(self._alarms, self._clock() + GRACE, member.worker.kill)
            else:
                member.worker.kill()

    def end_call(self, member: Member, assignment: Assignment, error: BaseException = _CANCELLED) -> None:
        """End the call of a block that runs, with an error, or what is unwanted of the block."""
        is_pressed = assignment.end_error is not None
        assignment.end_with(error)
        if is_pressed:
            self.kill_if_safe(member)
        else:
            self._press(member, assignment)

    def cancel(self, future: Future[Any]) -> None:
        """Cancel a call of `submit`, if a worker has it."""
        if (found := self._crew.find_call(future)) is not None:
            member, assignment, call = found
            call.unwanted = True
            self.end_call(member, assignment)

    def kill_if_safe(self, member: Member) -> None:
        """Kill a worker whose call is to end, if nothing but that call would be lost."""
        if member.assignments and member.assignments[0].end_error is not None:
            first, *behind = member.assignments
            if (first.block.open_calls <= 1 or first.asked is None) and all(other.asked is None for other in behind):
                self._carry_out(member, first)
        is_drained = all(a.asked is None or a.progress is PASSED for a in member.assignments)
        if member.draining and is_drained and member.state is not REMOVED:
            member.worker.kill()

    def _press(self, member: Member, assignment: Assignment) -> None:
        """Ask a worker for all that it has, so that it can be killed."""
        running, *behind = member.assignments
        self._crew.hold(member)  # what is sent there might be lost
        for other in behind:
            self._crew.ask_back(member, other, Reason.ENDING)
        if running.block.open_calls > 1:
            self._crew.ask_back(member, running, Reason.ENDING)
        if assignment is running:
            when = self._clock() + GRACE
            assignment.ring_at(self._alarms, when, partial(self._carry_out, member, assignment))
        self.kill_if_safe(member)

    def _unless_another_begins(
        self, when: float, member: Member, assignment: Assignment, action: Callable[[Member, Assignment], None]
    ) -> None:
        """Do `action` at a time, unless another call was begun by then."""
        began = assignment.began

        def act() -> None:
            if assignment.began == began:
                action(member, assignment)

        assignment.ring_at(self._alarms, when, act)

    def _ask(self, member: Member, assignment: Assignment) -> None:
        """Find out which call runs, and since when.

        No answer is an answer, too: all the time one call has held the interpreter lock. It may have begun just
        before, if there are others.
        """
        timeout = assignment.block.limits.timeout or 0.0
        patience = GRACE if assignment.block.open_calls == 1 else max(GRACE, timeout)
        self._crew.ask_back(member, assignment, Reason.ENDING)
        self._unless_another_begins(self._clock() + patience, member, assignment, self._out_of_time)

    def _out_of_time(self, member: Member, assignment: Assignment) -> None:
        block = assignment.block
        text = (
            f"a call of {block.function.name} took longer than its call_timeout of {block.limits.timeout:g} s, "
            f"and its worker ({member.worker.place}) was killed"
        )
        self.end_call(member, assignment, CallTimeout(text))

    def _carry_out(self, member: Member, assignment: Assignment) -> None:
        if assignment.end_error is not None and assignment.progress is SENT:  # else its outcomes are coming
            error, assignment.end_error = assignment.end_error, None
            if assignment.block.open and (error is not _CANCELLED or assignment.block.has_unwanted):
                self._kill(member, error)
