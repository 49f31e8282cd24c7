"""Ends calls that run: those that take too long or have too much memory, those that are cancelled, or all.

Only the end of its process ends a call, so all else that the process has is brought to safety first: the
worker is asked for what is finished, and to give back what has not begun. A worker that does not answer, because
the call holds the interpreter lock, is ended all the same, after `GRACE`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .._calls.blocks import Block
from ..errors import CallTimeout, WorkerLost
from .alarms import Alarms
from .crew import Crew
from .worker import Worker

# For how long a worker may take to give back the rest of a block before its process is ended (s). Less, and a
# worker of a busy machine loses short calls without need; more, and who cancelled waits.
GRACE = 0.5


class Endings:
    """Which calls that run are to end. All belongs to the dispatcher's thread.

    Only a call of the block that its worker runs is ended; a block that waits behind it is asked back, and if it
    begins before it is given back, it is its turn.

    Parameters
    ----------
    crew, alarms
        The dispatcher's.
    clock : callable
        Tells the time.
    kill : callable
        Ends a worker, for the sake of the block that it runs: of its calls the one that runs gets an error, if there
        is one, and those that are unwanted are cancelled.
    """

    def __init__(
        self,
        crew: Crew,
        alarms: Alarms,
        clock: Callable[[], float],
        kill: Callable[[Worker, BaseException | None], None],
    ) -> None:
        self._crew = crew
        self._alarms = alarms
        self._clock = clock
        self._kill = kill
        self._errors: dict[Block, BaseException | None] = {}  # what the call that runs gets; None: it is unwanted
        self._doomed: set[Worker] = set()  # those that are killed when they have handed over what they have

    def begin(self, worker: Worker, block: Block, *, is_exact: bool) -> None:
        """Take note of a block that is its worker's first: a call of it was begun at `block.began`.

        If that is not `is_exact`, it may have been begun later, and may not be the one that runs.
        """
        timeout = block.limits.timeout
        if timeout is not None and block.open:
            if is_exact and isinstance(self._errors.get(block), CallTimeout) and self._clock() < block.began + timeout:
                del self._errors[block]  # it was taken to be late, for want of an answer
                if block.has_unwanted:
                    self._errors[block] = None
            action = self._out_of_time if is_exact else self._ask
            self._when(block.began + timeout, worker, block, action)
        if block in self._errors:
            self._press(worker, block)

    def end_all(self, *, interruptible: bool) -> None:
        """Kill all workers: of `Lost`, which comes of it, calls get their errors, if their outcomes do not come before.

        Those that have several calls, and can be asked, hand over first what they have.
        """
        for worker in self._crew.workers:
            blocks = self._crew.busy.get(worker, [])
            if interruptible and sum(block.open_calls for block in blocks) > 1:
                self._doomed.add(worker)
                for block in blocks:
                    self._crew.surrender(worker, block)
                    block.alarms.append(self._alarms.set(self._clock() + GRACE, worker.kill))
            else:
                worker.kill()

    def forget(self, block: Block) -> None:
        """Take note that a block is over."""
        self._errors.pop(block, None)

    def end(self, worker: Worker, block: Block, error: BaseException | None = None) -> None:
        """End the call of a block that runs, with an error, or what is unwanted of the block."""
        is_pressed, known = block in self._errors, self._errors.get(block)
        self._errors[block] = known if isinstance(known, WorkerLost) else error or known  # time-outs are presumed
        if is_pressed:
            self.settle(worker)
        else:
            self._press(worker, block)

    def settle(self, worker: Worker) -> None:
        """Carry out what is wanted, if nothing but the call that runs would be lost."""
        blocks = self._crew.busy.get(worker)
        if blocks and blocks[0] in self._errors:
            block, *behind = blocks
            if (block.open_calls <= 1 or not block.asked) and not any(other.asked for other in behind):
                self._carry_out(worker, block)
        if worker in self._doomed and not any(block.asked and not block.passed for block in blocks or ()):
            worker.kill()

    def _press(self, worker: Worker, block: Block) -> None:
        running, *behind = self._crew.busy[worker]
        self._crew.followable.pop(worker, None)  # what is sent there might be lost
        for other in behind:
            self._crew.surrender(worker, other)
        if running.open_calls > 1:
            self._crew.surrender(worker, running)
        if block is running:
            block.alarms.append(self._alarms.set(self._clock() + GRACE, partial(self._carry_out, worker, block)))
        self.settle(worker)

    def _when(self, when: float, worker: Worker, block: Block, action: Callable[[Worker, Block], None]) -> None:
        """Do `action` at a time, unless another call was begun by then."""
        began = block.began

        def act() -> None:
            if block.began == began:
                action(worker, block)

        block.alarms.append(self._alarms.set(when, act))

    def _ask(self, worker: Worker, block: Block) -> None:
        """Find out which call runs, and since when.

        No answer is an answer, too: all the time one call has held the interpreter lock. It may have begun just
        before, if there are others.
        """
        timeout = block.limits.timeout or 0.0
        patience = GRACE if block.open_calls == 1 else max(GRACE, timeout)
        self._crew.surrender(worker, block)
        self._when(self._clock() + patience, worker, block, self._out_of_time)

    def _out_of_time(self, worker: Worker, block: Block) -> None:
        text = (
            f"a call of {block.function.name} took longer than its call_timeout of {block.limits.timeout:g} s, "
            f"and its worker ({worker.place}) was killed"
        )
        self.end(worker, block, CallTimeout(text))

    def _carry_out(self, worker: Worker, block: Block) -> None:
        if block in self._errors and not (block.passed or block.answered):  # else its outcomes are on their way
            error = self._errors.pop(block)
            if block.open and (error is not None or block.has_unwanted):
                self._kill(worker, error)
