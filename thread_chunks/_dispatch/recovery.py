"""Retry calls that their worker did not finish, or give them an error.

Errors are handed out by `Recovery.deliver`, and not before: the user's callbacks run then.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from concurrent.futures import CancelledError

from .._calls.blocks import Batch, Block
from .._calls.calls import Call, Outcomes
from .._calls.series import Series
from ..errors import CallTimeout, WorkerLost
from .naming import name_of_call, with_call
from .queue import Queue
from .record import Record

_log = logging.getLogger("thread_chunks")

_ENDED = "a worker ({}) was killed to end a call ({}), and did not say before which of several calls ran"


class Recovery:
    """Let calls wait again, or fail. All belongs to the dispatcher's thread.

    Parameters
    ----------
    waiting, record
        The dispatcher's.

    Attributes
    ----------
    cancelling, killing : bool
        Whether what has not begun is cancelled, as the executor ends; what has begun and was lost, too.
    """

    def __init__(self, waiting: Queue, record: Record) -> None:
        self._waiting = waiting
        self._record = record
        self._resolved: deque[tuple[Block, Outcomes]] = deque()  # that were not delivered yet
        self.cancelling = self.killing = False

    def wait_again(self, blocks: list[Block]) -> None:
        """Let blocks wait that were not run."""
        for block in reversed(blocks):
            self.cancel_unwanted(block)
            if self.killing or (self.cancelling and not isinstance(block.receiver, Batch)):
                self._resolve(block, block.failures(CancelledError()))
            else:
                for part in block.give_back():  # which are put in their order
                    self._waiting.put_back(part)

    def take_back(self, block: Block, count: int) -> None:
        """Let the last `count` calls of a block, which were not run, wait again."""
        if count:
            self.wait_again(block.give_back(len(block.calls) - count))

    def died(self, blocks: list[Block], begun: dict[Block, int], error: BaseException, size: int | None) -> None:
        """Go on with what a worker had that died, and write a line to the log about it.

        Of the blocks in `begun`, only so many calls had begun; the others run elsewhere, as if they were never sent.
        `size` is how many workers there were, if the worker was killed for memory.
        """
        for block in reversed(blocks):
            self.wait_again(block.give_back(begun.get(block, len(block.calls))))
        ran = {block: count - 1 for block, count in begun.items() if count}
        self.warn(blocks, error, ran, fits=None if size is None else size - 1)
        for block in reversed(blocks):
            self.lost(block, error, ran.get(block), counts=size is None or size == 1)

    def lost(self, block: Block, error: BaseException, ran: int | None = None, *, counts: bool = True) -> None:
        """Run the open calls of a block again, each by itself, or give them an error, as any of them may have run.

        Calls that are unwanted are cancelled instead. `ran` is the place of the call that ran, if it is known. If the
        loss does not count, it uses up no retry.
        """
        self.cancel_unwanted(block)
        if block.runs < block.limits.retries and not self.killing:
            self._record.retried(block, block.open_calls)
            self.wait_again(block.singly(block.runs + counts))
        else:
            self.fail(block, error, ran)

    def killed(self, place: str, blocks: list[Block], error: BaseException, *, nothing_begins: bool) -> None:
        """Go on with what a worker had that was killed to end a call of its first block.

        The error is for that call, a `CancelledError` if it is unwanted. `nothing_begins`: the worker has begun none of
        the other blocks.
        """
        running, *behind = blocks
        lost = WorkerLost(_ENDED.format(place, error))
        for block in reversed(behind):
            if nothing_begins:
                self.wait_again([block])
            else:
                self.lost(block, lost)
        self.cancel_unwanted(running)
        if isinstance(error, WorkerLost):
            self.lost(running, error)
        elif running.open_calls == 1 and not isinstance(error, CancelledError):
            self.fail(running, error)
        else:
            self.lost(running, lost)

    def failed(self, block: Block, error: BaseException, *, sent: bool) -> None:
        """Give the open calls of a block an error; try each by itself if it was not `sent`, because of one of them."""
        if sent or block.open_calls == 1:
            self.fail(block, error)
        else:
            self.wait_again(block.singly(block.runs))

    def fail(self, block: Block, error: BaseException, ran: int | None = None) -> None:
        """Give the open calls of a block an error. If it is of their worker, it names the call.

        That is the call that ran, if its place `ran` is known, or else each of them.
        """
        if count := block.open_calls:
            self._record.failed(block, count)
            named = _named(block, error, count, ran)
            outcomes = block.failures(error)
            # A worker that ends now was killed with all others, unless it was for memory.
            abandoned = self.killing and type(error) is WorkerLost
            for some in outcomes:
                some.abandoned = abandoned
                some.errors.update((place, named.get(some.offset + place, error)) for place in some.errors)
            self._resolve(block, outcomes)

    def cancel_unwanted(self, block: Block) -> None:
        """Give the open calls of a block that are unwanted the error of cancelled ones."""
        self._resolve(block, block.cancellations())

    def deliver(self) -> None:
        """Hand out what was resolved. Here the user's callbacks run, so all else has to be in its place."""
        while self._resolved:
            block, outcomes = self._resolved.popleft()
            block.deliver(outcomes)

    def give_up(self, items: Iterable[Call | Series | Block], error: BaseException) -> None:
        """Hand out what was resolved, and give all else an error, whatever fails on the way."""
        self._deliver_all()
        for item in items:
            if isinstance(item, Block):
                self._resolve(item, item.failures(error))
                self._deliver_all()
            elif isinstance(item, Series):
                item.fail(error)
            elif item.claim():
                item.resolve(None, error)

    def warn(
        self, blocks: list[Block], error: BaseException, ran: dict[Block, int] | None = None, fits: int | None = None
    ) -> None:
        """Write a line to the log about a worker that is lost with blocks, unless it is the executor's or user's wish.

        It names the call that ran, by its place in `ran`, or the first that may have. `fits` is how many
        calls there is memory for, if that was found out by it.
        """
        if self.killing or isinstance(error, CancelledError):
            return
        if block := next((block for block in blocks if block.open), None):
            others = sum(block.open_calls for block in blocks) - 1
            place = (ran or {}).get(block)
            which = block.open[0][0] if place is None else place
            error = with_call(error, name_of_call(block, which), others if place is None else 0)
        _log.warning("%s%s", error, "" if not fits else f". From now on {fits} at once: chunk_size={fits} would fit")

    def _deliver_all(self) -> None:
        while self._resolved:
            try:
                self.deliver()
            except Exception:  # as to record an outcome, which is handed out all the same
                _log.exception("what broke the executor has happened again")

    def _resolve(self, block: Block, outcomes: list[Outcomes]) -> None:
        self._resolved.extend((block, some) for some in outcomes)


def _named(block: Block, error: BaseException, count: int, ran: int | None) -> dict[int, BaseException]:
    """Return an error for each open call, by its place, if it is of those that name their call."""
    if not isinstance(error, (WorkerLost, CallTimeout)):
        return {}
    places = (place for start, stop in block.open for place in range(start, stop))
    return {
        place: with_call(error, name_of_call(block, place if ran is None else ran), count - 1 if ran is None else 0)
        for place in places
    }
