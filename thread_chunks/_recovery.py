"""What becomes of calls that their worker did not bring to an end: they wait again, or get an error."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import CancelledError

from ._blocks import Batch, Block
from ._queue import Queue
from .report import Tally


class Recovery:
    """All belongs to the dispatcher's thread.

    Parameters
    ----------
    waiting, tallies
        The dispatcher's.

    Attributes
    ----------
    cancelling, killing : bool
        Whether what has not begun is cancelled, as the executor ends; what has begun and was lost, too.
    """

    def __init__(self, waiting: Queue, tallies: defaultdict[str, Tally]) -> None:
        self._waiting = waiting
        self._tallies = tallies
        self.cancelling = self.killing = False

    def wait_again(self, blocks: list[Block]) -> None:
        """Let blocks wait that were not run."""
        for block in reversed(blocks):
            self.cancel_unwanted(block)
            if self.killing or (self.cancelling and not isinstance(block.receiver, Batch)):
                block.fail(CancelledError())
            else:
                for part in reversed(block.give_back()):
                    self._waiting.put_back(part)

    def lost(self, block: Block, error: BaseException, *, counts: bool = True) -> None:
        """Run the open calls of a block again, each by itself, or give them an error, as any of them may have run.

        Calls that are unwanted are cancelled instead. If the loss does not count, it uses up no retry.
        """
        self.cancel_unwanted(block)
        if block.runs < block.limits.retries and not self.killing:
            self._tallies[block.function.name].retries += block.open_calls
            self.wait_again(block.singly(block.runs + counts))
        else:
            self.fail(block, error)

    def fail(self, block: Block, error: BaseException) -> None:
        """Give the open calls of a block an error."""
        if count := block.open_calls:
            self._count_failures(block, count)
            block.fail(error)

    def cancel_unwanted(self, block: Block) -> None:
        """Give the open calls of a block that are unwanted the error of cancelled ones."""
        if count := block.cancel_unwanted():
            self._count_failures(block, count)

    def _count_failures(self, block: Block, count: int) -> None:
        self._tallies[block.function.name].add(count, count, 0.0, ())
