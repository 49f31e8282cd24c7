"""Ends calls that run: those that take too long, and those that are cancelled.

Only the end of its process ends a call, so all else that the process has is brought to safety first: the
worker is asked for what is finished, and to give back what has not begun. A worker that does not answer, because
the call holds the interpreter lock, is ended all the same, after `GRACE`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from functools import partial

from ._alarms import Alarms
from ._blocks import Batch, Block
from ._calls import Call
from ._crew import Crew
from ._messages import Worker
from ._queue import Queue
from .errors import CallTimeout

# For how long a worker may take to give back the rest of a block before its process is ended (s). Less, and a
# worker of a busy machine loses short calls without need; more, and who cancelled waits.
GRACE = 0.5


@dataclass(slots=True)
class Ending:
    """The wish that a call ends, with `error`: the one that is left of a block, or `call`."""

    error: BaseException
    call: Call | None = None


class Endings:
    """All belongs to the dispatcher's thread.

    Parameters
    ----------
    crew, alarms, waiting
        The dispatcher's.
    clock : callable
        Tells the time.
    kill : callable
        Ends a worker, and resolves a block of it with an error.
    """

    def __init__(
        self,
        crew: Crew,
        alarms: Alarms,
        waiting: Queue,
        clock: Callable[[], float],
        kill: Callable[[Worker, Block, BaseException], None],
    ) -> None:
        self._crew = crew
        self._alarms = alarms
        self._waiting = waiting
        self._clock = clock
        self._kill = kill
        self._wanted: dict[Block, Ending] = {}

    def begin(self, worker: Worker, block: Block, *, is_exact: bool = False) -> None:
        """Take note of when the call that runs was begun: at `block.began`, or later if that is not `is_exact`."""
        if block.limits.timeout is not None:
            action = self._out_of_time if is_exact else self._ask
            self._alarms.set(block.began + block.limits.timeout, block, partial(action, worker, block))

    def forget(self, block: Block) -> None:
        """Take note that a block is over."""
        if (ending := self._wanted.pop(block, None)) is not None and ending.call is not None:
            self._waiting.cancel(ending.call.future)  # if it was given back, and nothing is left of its block

    def cancel(self, future: Future[object]) -> bool:
        """End a call of `submit`, whether it waits or runs. Return whether there is one to end."""
        if future.done():
            return False
        if self._waiting.cancel(future):
            return True
        for worker, blocks in self._crew.busy.items():
            for block in blocks:
                if isinstance(block.receiver, Batch) and (found := block.receiver.find(future)) is not None:
                    label, call = found
                    if block.first <= label < block.first + len(block.calls):
                        self._end(worker, block, Ending(CancelledError(), call))
                        return True
        return False

    def settle(self, worker: Worker) -> None:
        """Carry out what is wanted of a worker's block, if nothing but the call that runs would be lost."""
        blocks = self._crew.busy.get(worker, [])
        for block in [block for block in blocks if block in self._wanted]:
            if sum(other.open_calls for other in blocks) - block.open_calls == 0 and block.open_calls <= 1:
                self._carry_out(worker, block)

    def _ask(self, worker: Worker, block: Block) -> None:
        """Find out which call runs, and since when; no answer is an answer, too."""
        self._crew.surrender(worker, block)
        began = block.began

        def no_answer() -> None:
            if block.began == began:
                self._out_of_time(worker, block)

        self._alarms.set(self._clock() + GRACE, block, no_answer)

    def _out_of_time(self, worker: Worker, block: Block) -> None:
        error = CallTimeout(
            f"a call of {block.function.name} took longer than its call_timeout of {block.limits.timeout:g} s, "
            f"and its worker ({worker.place}) was killed"
        )
        self._end(worker, block, Ending(error))

    def _end(self, worker: Worker, block: Block, ending: Ending) -> None:
        if block in self._wanted:
            return
        self._wanted[block] = ending
        for other in self._crew.busy[worker]:
            if other is not block or block.open_calls > 1:
                self._crew.surrender(worker, other)
        self._alarms.set(self._clock() + GRACE, block, partial(self._carry_out, worker, block))
        self.settle(worker)

    def _carry_out(self, worker: Worker, block: Block) -> None:
        if (ending := self._wanted.pop(block, None)) is None:
            return
        call = ending.call
        if call is not None:
            if call.future.done() or self._waiting.cancel(call.future):
                return  # it has come to its end meanwhile, or was given back
            block.cancel(call.future)  # by itself, since others may be open if the worker did not answer
        self._kill(worker, block, ending.error)
