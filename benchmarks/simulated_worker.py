"""A worker without a process, which runs blocks and answers by a simulated clock.

It does nothing by itself. In `simulation` a clock drives it, and in the tests of the dispatcher each test does. They
differ in how messages travel, and in what calls return.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from thread_chunks._calls.blocks import Block
from thread_chunks._calls.calls import Outcomes
from thread_chunks._calls.functions import Function
from thread_chunks._dispatch.messages import Finished, Message, Surrendered


@dataclass(eq=False, slots=True)
class Run:
    """A block at a worker."""

    block: Block
    calls: Sequence[Any]  # as the worker has them
    stop: int  # the first call that is given back, and not run
    values: list[Any] = field(default_factory=list)  # of the calls that were run and not handed over
    handed: int = 0  # how many values were handed over
    left: int = 0  # how many calls are given back with the next answer

    @property
    def done(self) -> int:
        """How many calls were run."""
        return self.handed + len(self.values)

    def give_up(self, keep: int = 0) -> None:
        """Give back the calls that have not been run, except for the first `keep` of them."""
        stop = min(self.stop, self.done + keep)
        self.left += self.stop - stop
        self.stop = stop

    def answer(self) -> tuple[Outcomes, int]:
        """Return what was not yet handed over, and how many calls are given back."""
        outcomes, left = Outcomes(self.values, offset=self.handed), self.left
        self.handed, self.values, self.left = self.done, [], 0
        return outcomes, left


class SimulatedWorker(ABC):
    """Has blocks, the first of which runs: `thread_chunks._dispatch.worker.Worker`.

    Parameters
    ----------
    post : callable
        Sends a message to the dispatcher.
    """

    handle: Any = None
    host, pid, node, place = "simulated", 0, "", "simulated"
    interruptible = True

    def __init__(self, post: Callable[[Message], None]) -> None:
        self._post = post
        self.runs: list[Run] = []

    @abstractmethod
    def run(self, block: Block) -> bool:
        """Send a block; `receive` is called when it arrives."""

    @abstractmethod
    def surrender(self, block: Block) -> None:
        """Ask for the finished calls of a block; `give_back` is called when the message arrives."""

    @abstractmethod
    def compute(self, calls: Sequence[Any]) -> list[Any]:
        """Return the values of calls."""

    @abstractmethod
    def replace_function(self, function: Function) -> None:
        """Replace the stored function."""

    @abstractmethod
    def dismiss(self) -> None:
        """Get no more blocks."""

    @abstractmethod
    def kill(self) -> None:
        """End at once."""

    def look(self, block: Block, with_stack: bool) -> None:
        """Have nothing to say."""
        return

    def receive(self, block: Block, calls: Sequence[Any]) -> None:
        """Put a block behind the others; `calls` is what the worker gets to know of its calls."""
        self.runs.append(Run(block, calls, len(calls)))
        if len(self.runs) == 1:
            self.begin()

    @abstractmethod
    def begin(self) -> None:
        """Begin the first block."""

    def run_up_to(self, stop: int) -> None:
        """Run calls of the first block until so many of it were run."""
        run = self.runs[0]
        run.values += self.compute(run.calls[run.done : stop])

    def give_back(self, block: Block, keep: int, running: float = 0.0) -> bool:
        """Hand over what is finished of a block, and keep of the rest the first `keep` calls if the block has begun.

        Return whether the worker had the block. `running` is since when a call runs (s).
        """
        run = next((run for run in self.runs if run.block is block), None)
        if run is None:
            return False
        run.give_up(keep if run is self.runs[0] else 0)
        outcomes, left = self._answer(run)
        if run is self.runs[0] and run.done < run.stop:
            outcomes.running = running
        self._post(Surrendered(self, block, lambda: outcomes, left))
        return True

    def end(self) -> None:
        """Answer for the first block, and begin the next."""
        run = self.runs.pop(0)
        outcomes, left = self._answer(run)
        self._post(Finished(self, run.block, lambda: outcomes, left))
        if self.runs:
            self.begin()

    def _answer(self, run: Run) -> tuple[Outcomes, int]:
        outcomes, left = run.answer()
        outcomes.seconds = self.seconds(run)
        return outcomes, left

    def seconds(self, run: Run) -> float:
        """Return how long the calls of a block that were run took together (s)."""
        return 0.0
