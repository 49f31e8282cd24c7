"""The dispatcher owns every call from its submission to its outcome.

::

   any thread           |            dispatcher thread (owns all scheduling state)     |  worker 1..size
                        |                                                              |
 ChunkExecutor.submit   |                  waiting: deque[Call | Series]               |
   Call(fn, args, fut) --admit-> inbox --> [c7][c8][series 12..900] ...                |
                        |        ^  ^           | take_block (how long: _sizing)       |
 map / starmap          |        |  |           v                                      |
   Series, then More ---admit----+  |      running: {worker: Block} ----- run ---------+-> run_block
   Abandon -------------post-----+  |      idle:    [worker]                           |    an outcome per call
 shutdown               |        |  |      starting: {worker} <----- start_worker -----+-> actor comes up
   StartAll, Store -----admit----+  |           |                                      |
   Close(cancel?) ------post-----+  +---- Started | Finished | Lost | Broken <---------+--- its answer
                        |                       v                                      |
 Future.result()  <-----+------- block.deliver: future.set_result                      |
 next(map(...))   <-----+------- block.deliver: series.outbox.put                      |

* The *inbox* is the only way in. `Inbox.admit` is the gate: work passes it or is refused, and what
  has passed gets an outcome. Everything else is posted, at any time, from any thread.
* The *dispatcher thread* blocks in one place, `Inbox.get`, and handles one message at a time.
* A *worker* is starting, idle, or running one block. It answers by posting, never by returning.

The dispatcher does not know Ray. It is plain data driven by messages: the tests drive it without
a thread.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import CancelledError

from ._calls import Block, Call, Outcomes, Series
from ._messages import (
    Abandon,
    Broken,
    Close,
    Cluster,
    Finished,
    Inbox,
    Inspect,
    Lost,
    Message,
    More,
    StartAll,
    Started,
    Store,
    Worker,
)
from ._sizing import block_length
from .errors import ExecutorBroken

_log = logging.getLogger("thread_chunks")

# After so many workers in a row that died before they were up, the executor is broken. Fewer, and
# a passing fault would end hours of work; more, and the user waits for an image that can't import.
_MAX_FAILED_STARTS = 3


class Dispatcher:
    """Gives idle workers the next block, and outcomes to whoever waits for them.

    Promises
    --------
    a. Every call that passed the gate gets an outcome, whatever fails: a worker, a pickle, the
       cluster, or this class itself (`_break`).
    b. At most `size` calls run at once, and none runs twice (`_assign`: a worker has at most one
       block, and a call leaves `_waiting` before it is sent).
    c. A call can be cancelled until it is put in a block (`_take_block`).
    d. No call waits behind one that runs while a worker is idle, but for those that the user's
       `chunksize` put into one block (`_assign`).
    e. Once a call is resolved, nothing here refers to its arguments, value or error.
    f. Nothing here refers to the executor.

    Parameters
    ----------
    cluster : Cluster
        Where workers come from.
    inbox : Inbox
        Where messages come from.
    size : int
        How many workers there may be.
    max_tasks : int or None
        How many calls a worker runs before it is replaced by a fresh one; None: any number.
    """

    def __init__(self, cluster: Cluster, inbox: Inbox, size: int, max_tasks: int | None = None) -> None:
        self.size = size
        self._max_tasks = max_tasks
        self._cluster = cluster
        self._inbox = inbox
        self._waiting: deque[Call | Series] = deque()
        self._starting: set[Worker] = set()
        self._idle: list[Worker] = []  # the last one is the warmest, and used first
        self._running: dict[Worker, Block] = {}
        self._tasks: Counter[Worker] = Counter()  # calls that each has run, if `_max_tasks` limits them
        self._failed_starts = 0  # in a row
        self._closing = False
        self._broken = False

    @property
    def workers(self) -> list[Worker]:
        """All workers: idle, running, starting."""
        return [*self._idle, *self._running, *self._starting]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do, now or later."""
        return self._broken or (self._closing and not self._waiting and not self._running)

    def run(self) -> None:
        """Handle messages until all is done. The body of the dispatcher thread."""
        try:
            while not self.finished:
                self.handle(self._inbox.get())
        except BaseException as error:
            _log.exception("the dispatcher failed")
            self._break(_broken("the executor itself failed", error))
        finally:
            self._inbox.close()  # it is open still if the executor was dropped
            for worker in self.workers:
                worker.dismiss()
            self._cluster.close()

    def handle(self, message: Message) -> None:
        """Take note of a message, deliver outcomes, and give out the next blocks."""
        match message:
            case Call():
                self._waiting.append(message)
            case Series():
                self._queue(message)
            case More(series):
                self._queue(series)
            case Abandon(series):
                series.calls.clear()
            case StartAll():
                self._start_workers(self.size)
            case Store(function):
                for worker in self.workers:
                    worker.store(function)
            case Started(worker):
                self._failed_starts = 0
                self._starting.discard(worker)
                self._idle.append(worker)
            case Finished(worker, collect):
                # One that was given up may answer all the same, and is not ours any more.
                if worker in self._running:
                    outcomes = collect()
                    block = self._running.pop(worker)
                    self._retire_or_reuse(worker, len(block.calls))
                    block.deliver(outcomes)
            case Lost(worker, error):
                self._lose(worker, error)
            case Broken(explain):
                self._break(explain())
            case Close(cancel, kill):
                self._close(cancel, kill)
            case Inspect():
                message.reply(self)
        if not self.finished:
            self._assign()

    def _assign(self) -> None:
        """Give idle workers the next blocks, and start workers if there is more work than that."""
        while self._idle and (block := self._take_block(self._tasks_left(self._idle[-1]))) is not None:
            worker = self._idle.pop()
            self._running[worker] = block
            worker.run(block)
        if self._head() is not None:
            self._start_workers(self._demand())

    def _tasks_left(self, worker: Worker) -> int | None:
        return None if self._max_tasks is None else self._max_tasks - self._tasks[worker]

    def _retire_or_reuse(self, worker: Worker, tasks: int) -> None:
        """Let go of a worker that has run all the calls it may; `_assign` replaces it if there is work."""
        if self._max_tasks is not None:
            self._tasks[worker] += tasks
            if self._tasks[worker] >= self._max_tasks:
                del self._tasks[worker]
                worker.dismiss()
                return
        self._idle.append(worker)

    def _take_block(self, longest: int | None) -> Block | None:
        """Take the next block off the queue, in the order of submission, of at most `longest` calls."""
        while (head := self._head()) is not None:
            if isinstance(head, Series):
                waiting = len(head.calls) if longest is None else min(len(head.calls), longest)
                return head.take(block_length(waiting, head.chunksize))
            self._waiting.popleft()
            if head.claim():
                return Block(head.function, head, 0, [head.given.args], [head.given.kwargs])
        return None

    def _head(self) -> Call | Series | None:
        """Return the first in the queue that has something to run, and drop what comes before it."""
        while self._waiting:
            head = self._waiting[0]
            if isinstance(head, Series):
                if head.calls:
                    return head
                self._waiting.popleft()
                self._unqueue(head)
            elif head.future.cancelled():
                self._waiting.popleft()
                head.claim()  # which tells `wait` and `as_completed`
            else:
                return head
        return None

    def _queue(self, series: Series) -> None:
        if series.calls and not series.queued:
            series.queued = True
            self._waiting.append(series)

    def _unqueue(self, series: Series) -> None:
        # The feeding thread appends a call, then reads `queued`; here it is written, then the calls
        # are read. So one of the two sees the other, and no call is left behind.
        series.queued = False
        self._queue(series)

    def _demand(self) -> int:
        """Return how many workers the waiting calls could use; at most `size`."""
        demand = 0
        for item in self._waiting:
            demand += 1 if isinstance(item, Call) else -(-len(item.calls) // (item.chunksize or 1))
            if demand >= self.size:
                return self.size
        return demand

    def _start_workers(self, wanted: int) -> None:
        """See to it that `wanted` workers are idle or starting, within `size`."""
        room = self.size - len(self.workers)
        for _ in range(min(room, wanted - len(self._idle) - len(self._starting))):
            try:
                worker = self._cluster.start_worker(self._inbox.post)
            except Exception as error:
                self._do_without("no worker can be started", error)
                return
            self._starting.add(worker)

    def _do_without(self, why: str, error: BaseException) -> None:
        """Start no more workers: go on with those that are up, and break if there are none."""
        self.size = len(self.workers)
        if self.size == 0:
            self._break(_broken(why, error))
        else:
            _log.warning("%s; going on with %d: %s", why, self.size, error)

    def _lose(self, worker: Worker, error: BaseException) -> None:
        self._tasks.pop(worker, None)
        if worker in self._starting:
            self._starting.discard(worker)
            self._failed_starts += 1
            _log.warning("a worker died before it was up: %s", error)
        elif worker in self._idle:
            self._idle.remove(worker)
        elif (block := self._running.pop(worker, None)) is not None:
            block.deliver(Outcomes.all_failed(len(block.calls), error))
        worker.dismiss()
        if not self._cluster.replaceable:
            self.size -= 1
            if self.size == 0:
                self._break(_broken("all actors that the executor was given are dead", error))
        elif self._failed_starts >= _MAX_FAILED_STARTS:
            self._do_without(f"{_MAX_FAILED_STARTS} workers in a row died before they were up", error)

    def _close(self, cancel: bool, kill: bool) -> None:
        self._closing = True
        if not self._cluster.alive:  # nothing will ever answer
            self._break(_broken("Ray was shut down while the executor had need of it"))
            return
        if cancel or kill:
            for item in self._take_waiting():
                if isinstance(item, Series):
                    item.end(CancelledError())
                else:
                    item.cancel()
        if kill:
            for worker in self.workers:
                worker.kill()  # `Lost` comes of it, and resolves what it ran

    def _break(self, error: ExecutorBroken) -> None:
        """Resolve every call with `error`, and refuse new ones."""
        if self._broken:
            return
        self._broken = True
        self._inbox.close(error)
        for message in self._inbox.drain():
            try:
                self.handle(message)
            except Exception:  # as of the message that broke it; what is running is resolved below
                _log.exception("lost a message")
        for worker, block in list(self._running.items()):
            del self._running[worker]
            self._idle.append(worker)
            block.deliver(Outcomes.all_failed(len(block.calls), error))
        for item in self._take_waiting():
            if isinstance(item, Series):
                item.end(error)
            elif item.claim():
                item.deliver(0, Outcomes.all_failed(1, error))

    def _take_waiting(self) -> Iterator[Call | Series]:
        """Yield all that waits, and wait for it no more."""
        while self._waiting:
            item = self._waiting.popleft()
            if isinstance(item, Series):
                item.queued = False
            yield item


def _broken(text: str, cause: BaseException | None = None) -> ExecutorBroken:
    error = ExecutorBroken(text if cause is None else f"{text}: {type(cause).__name__}: {cause}")
    error.__cause__ = cause
    return error
