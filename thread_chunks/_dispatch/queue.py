"""What waits for a worker, in the order of submission, and how blocks are cut from it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

from .._calls.blocks import Batch, Block, KeptBatch
from .._calls.calls import Call, KeptCall
from .._calls.functions import Function
from .._calls.pace import TARGET
from .._calls.series import Series


class Queue:
    """Calls, series, and blocks that were given back. All but `Series.calls` belongs to one thread."""

    def __init__(self) -> None:
        self._items: deque[Call | Series | Block] = deque()
        # The block of each call of `submit` that was given back, and can't be cancelled by its future any more.
        self._given_back: dict[Future[Any], Block] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Call | Series | Block]:
        return iter(self._items)

    def add(self, item: Call | Series) -> None:
        """Let a call, or the calls of a series, wait behind all others."""
        if isinstance(item, Call):
            self._items.append(item)
        elif item.calls and not item.queued:
            item.queued = True
            self._items.append(item)

    def put_back(self, block: Block) -> None:
        """Let the calls of a block, which have waited before, wait before all but those that come before them.

        Else whoever wants the values in the order of the calls would have to hold all that are out of turn.
        """
        place = 0
        for item in self._items:
            if not (isinstance(item, Block) and item.receiver is block.receiver and item.first < block.first):
                break
            place += 1
        self._items.insert(place, block)
        self._note(block)

    def next_block(self, workers: int, longest: int | None) -> Block | None:
        """Take the next block off the queue, for one of `workers`, of at most `longest` calls, unless it is fixed."""
        while (head := self.head()) is not None:
            if isinstance(head, Series):
                waiting = len(head.calls)
                if head.fixed is not None:
                    length = min(waiting, head.fixed)
                else:
                    length = self._length(head.function, waiting, head.target, workers, longest)
                if (block := head.cut(length)) is None:
                    continue
                return block
            if isinstance(head, Block):
                length = self._length(head.function, len(head.calls), head.receiver.target, workers, longest)
                if length == len(head.calls):
                    self._items.popleft()
                    self._forget(head)
                    return head
                self._forget(part := head.cut(length))
                return part
            self._items.popleft()
            waiting = 1 + len(self._items)
            length = self._length(head.function, waiting, TARGET, workers, longest)
            if (batch := self._batch(head, length)) is not None:
                return batch
        return None

    def head(self) -> Call | Series | Block | None:
        """Return the first in the queue that has something to run, and drop what comes before it."""
        while self._items:
            head = self._items[0]
            if isinstance(head, Block):
                if head.is_whole and not head.receiver.abandoned:
                    return head
                self._items.popleft()
                if not head.receiver.abandoned:  # some of its calls were cancelled
                    for part in reversed(head.give_back()):
                        self._items.appendleft(part)
                        self._note(part)
            elif isinstance(head, Series):
                if head.calls:
                    return head
                self._items.popleft()
                self._unqueue(head)
            elif head.future.cancelled():
                self._items.popleft()
                head.claim()  # which tells `wait` and `as_completed`
            else:
                return head
        return None

    @property
    def may_go_ahead(self) -> bool:
        """Whether the next block may wait behind one that runs, and can be taken back from there at any time."""
        head = self.head()
        if head is None or not head.function.parcel.pace.brief:
            return False
        if isinstance(head, Series):
            return head.fixed is None
        return not (isinstance(head, Block) and head.fixed)

    def demand(self, limit: int) -> int:
        """Return how many workers the waiting calls could use; at most `limit`."""
        if len(self._items) >= limit:
            return limit
        demand = 0
        for item in self._items:
            if isinstance(item, Series):
                demand += -(-len(item.calls) // (item.chunksize or 1))
            else:
                demand += 1 if isinstance(item, Call) else item.open_calls
            if demand >= limit:
                return limit
        return demand

    def has_given_back(self, future: Future[Any]) -> bool:
        """Return whether the call of a future was given back, and waits again."""
        return future in self._given_back

    def cancel(self, future: Future[Any]) -> bool:
        """Cancel a call that was given back: it counts as running, and can't be cancelled by its future."""
        if (block := self._given_back.pop(future, None)) is None:
            return False
        block.cancel(future)  # which leaves a gap in the block, until it is the first
        return True

    def cancel_all(self, *, started: bool) -> None:
        """Cancel all that waits; what was given back and counts as started only if `started` says so."""
        kept = []
        for item in self.drain():
            if isinstance(item, Series):
                item.fail(CancelledError())
            elif isinstance(item, Call):
                item.cancel()
            elif started or not isinstance(item.receiver, Batch):
                item.fail(CancelledError())
            else:
                kept.append(item)  # their futures are running, and can't be cancelled any more
        for block in kept:
            self._items.append(block)
            self._note(block)

    def drain(self) -> Iterator[Call | Series | Block]:
        """Yield all that waits, and wait for it no more."""
        while self._items:
            item = self._items.popleft()
            if isinstance(item, Series):
                item.queued = False
            elif isinstance(item, Block):
                self._forget(item)
            yield item

    def _length(self, function: Function, waiting: int, target: float, workers: int, longest: int | None) -> int:
        length = function.parcel.pace.block_length(waiting, workers, target)
        return length if longest is None else min(length, longest)

    def _note(self, block: Block) -> None:
        self._given_back.update(dict.fromkeys(block.futures, block))

    def _forget(self, block: Block) -> None:
        for future in block.futures:
            self._given_back.pop(future, None)

    def _batch(self, call: Call, length: int) -> Block | None:
        """Return a block of `call` and the calls of its function that come next in the queue."""
        calls = [call] if call.claim() else []
        while len(calls) < length and self._items:
            following = self._items[0]
            if not isinstance(following, Call) or not following.travels_with(call):
                break
            self._items.popleft()
            if following.claim():
                calls.append(following)
        if not calls:
            return None
        receiver = KeptBatch if type(call) is KeptCall else Batch
        return Block(call.function, receiver([*calls]), 0, [c.given.args for c in calls], limits=call.limits)

    def _unqueue(self, series: Series) -> None:
        # The feeding thread appends a call, then reads `queued`; here it is written, then the calls
        # are read. So one of the two sees the other, and no call is left behind.
        series.queued = False
        self.add(series)
