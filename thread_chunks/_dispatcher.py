"""The dispatcher owns every call from its submission to its outcome.

::

   any thread           |            dispatcher thread (owns all scheduling state)     |  worker 1..size
                        |                                                              |
 ChunkExecutor.submit   |                  waiting: Queue of Call | Series             |
   Call(fn, args, fut) --admit-> inbox --> [c7][c8][series 12..900] ...                |
                        |        ^  ^           | take a block (how long: _sizing)     |
 map / starmap          |        |  |           v                                      |
   Series, then More ---admit----+  |      running: {worker: Block} ----- run ---------+-> run_block
   Abandon -------------post-----+  |      idle:    [worker]                           |    an outcome per call
 shutdown               |        |  |      starting: {worker} <----- start_worker -----+-> actor comes up
   StartAll, Store -----admit----+  |           |                                      |
   Close(cancel?) ------post-----+  +--- Started | Finished | Failed | Lost | Broken <-+--- its answer
                        |           |           |                                      |
                        |           |           | overdue: surrender ------------------+-> (control group)
                        |           +---- Surrendered | NotBegun <---------------------+--- what it has so far
                        |                       v                                      |
 Future.result()  <-----+------- block.deliver: future.set_result                      |
 next(map(...))   <-----+------- block.deliver: series.outbox.put                      |

* The *inbox* is the only way in. `Inbox.admit` is the gate: work passes it or is refused, and what
  has passed gets an outcome. Everything else is posted, at any time, from any thread.
* The *dispatcher thread* blocks in one place, `Inbox.get`, and takes note of one message at a time.
* A *worker* is starting, idle, or running one block. It answers by posting, never by returning.
* A block that is *overdue* is surrendered: the worker hands over what is finished and gives back what
  has not started, though a call still runs, and the rest goes to the front of the queue.

A series with a checkpoint has a recorder: it sees the calls as they are sent, and the values before the
consumer does.

The dispatcher does not know Ray. It is plain data driven by messages: the tests drive it without
a thread.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import CancelledError
from heapq import heappop, heappush
from itertools import count

from ._calls import Batch, Block, Call, Outcomes, Series
from ._messages import (
    Abandon,
    Broken,
    Close,
    Cluster,
    Failed,
    Finished,
    Inbox,
    Inspect,
    Lost,
    Message,
    More,
    NotBegun,
    StartAll,
    Started,
    Store,
    Surrendered,
    Work,
    Worker,
)
from ._queue import Queue
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
    c. A call can be cancelled until it is put in a block (`Queue.take`).
    d. No call waits behind one that runs while a worker is idle, or not for long
       (`surrender_overdue`), but for those that the user's `chunksize` put into one block, and as
       long as the one that runs holds the interpreter lock of its process.
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
        How many tasks a worker runs before it is replaced by a fresh one; None: any number. A task is
        what the standard library counts: a call, or a block whose length the user chose.
    """

    def __init__(self, cluster: Cluster, inbox: Inbox, size: int, max_tasks: int | None = None) -> None:
        self.size = size
        self._max_tasks = max_tasks
        self._cluster = cluster
        self._inbox = inbox
        self._waiting = Queue(adaptive=cluster.interruptible)
        self._starting: set[Worker] = set()
        self._idle: list[Worker] = []  # the last one is the warmest, and used first
        self._running: dict[Worker, Block] = {}
        self._timed: list[tuple[float, int, Worker, Block]] = []  # a heap: when running blocks will be overdue
        self._order = count()  # of the entries of the heap that are equal in time
        self._tasks: Counter[Worker] = Counter()  # that each has run, if `_max_tasks` limits them
        self._failed_starts = 0  # in a row
        self._closing = self._cancelling = self._killing = False
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
                self.handle(self._inbox.get(self._patience()))
                self.surrender_overdue(time.monotonic())
        except BaseException as error:
            _log.exception("the dispatcher failed")
            self._break(_broken("the executor itself failed", error))
        finally:
            self._inbox.close()  # it is open still if the executor was dropped
            for worker in self.workers:
                worker.dismiss()
            self._cluster.close()

    def handle(self, messages: Iterable[Message]) -> None:
        """Take note of messages, deliver outcomes, and give out the next blocks."""
        for message in messages:
            self._note(message)
            if not isinstance(message, Work) and not self.finished:
                self._assign()  # at once: a worker may be free, and what comes next may take its time
        if not self.finished:
            self._assign()

    def _note(self, message: Message) -> None:
        match message:
            case Call() | Series():
                self._waiting.add(message)
            case More(series):
                self._waiting.add(series)
            case Abandon(series):
                series.calls.clear()
                series.abandoned = True
            case StartAll():
                self._start_workers(self.size)
            case Store(function):
                for worker in self.workers:
                    worker.store(function)
            case Started(worker):
                self._failed_starts = 0
                self._starting.discard(worker)
                self._idle.append(worker)
            case Finished(worker, collect, left):
                # One that was given up may answer all the same, and is not ours any more.
                if (block := self._running.get(worker)) is not None:
                    outcomes = collect()
                    block.answered = True
                    self._take_back(block, left)
                    if outcomes.values and outcomes.seconds:  # 0 if no call could be sent
                        block.function.parcel.pace.observe(len(outcomes.values), outcomes.seconds)
                    self._settle(worker, block, outcomes)
            case Surrendered(worker, block, collect, left):
                if self._running.get(worker) is block:
                    self._take_back(block, left)
                    block.function.parcel.pace.doubt()
                    self._settle(worker, block, collect())
            case NotBegun(worker, block):
                if self._running.get(worker) is block:
                    self._time(worker, block)
            case Failed(worker, error):
                if (block := self._running.pop(worker, None)) is not None:
                    self._idle.append(worker)
                    block.fail(error)
            case Lost(worker, error):
                self._lose(worker, error)
            case Broken(explain):
                self._break(explain())
            case Close(cancel, kill):
                self._close(cancel, kill)
            case Inspect():
                message.reply(self)

    def surrender_overdue(self, now: float) -> None:
        """Ask the workers whose blocks are overdue for what they have not started."""
        while self._timed:
            when, _, worker, block = self._timed[0]
            is_running = self._running.get(worker) is block
            if is_running and when > now:
                return
            heappop(self._timed)
            if is_running:
                worker.surrender(block)

    def _patience(self) -> float | None:
        """Return for how long nothing can be overdue (s)."""
        return None if not self._timed else max(0.0, self._timed[0][0] - time.monotonic())

    def _assign(self) -> None:
        """Give idle workers the next blocks, and start workers if there is more work than that."""
        while self._idle and (block := self._waiting.take(self.size, self._tasks_left(self._idle[-1]))) is not None:
            worker = self._idle.pop()
            self._running[worker] = block
            block.receiver.start(block.first, block.calls)
            worker.run(block)
            if len(block.calls) > 1 and not block.fixed:
                self._time(worker, block)
        room = self.size - len(self._idle) - len(self._running) - len(self._starting)
        if self._waiting.head() is not None and room > 0:
            self._start_workers(self._waiting.demand(self.size))

    def _time(self, worker: Worker, block: Block) -> None:
        when = time.monotonic() + block.function.parcel.pace.overdue(len(block.calls))
        heappush(self._timed, (when, next(self._order), worker, block))

    def _take_back(self, block: Block, count: int) -> None:
        """Let the last `count` calls of a block, which were not run, wait again."""
        if count:
            rest = block.give_back(count)
            if self._killing or (self._cancelling and not isinstance(rest.receiver, Batch)):
                rest.fail(CancelledError())
            else:
                self._waiting.put_back(rest)

    def _tasks_left(self, worker: Worker) -> int | None:
        return None if self._max_tasks is None else self._max_tasks - self._tasks[worker]

    def _settle(self, worker: Worker, block: Block, outcomes: Outcomes) -> None:
        """Take in some outcomes of a block; when it is over, the worker is free again."""
        count = len(outcomes.values)
        block.settle(outcomes.offset, outcomes.offset + count)
        if self._max_tasks is not None:
            self._tasks[worker] += 1 if block.fixed else count
        if block.answered and not block.open:
            del self._running[worker]
            if self._tasks_left(worker) == 0:
                del self._tasks[worker]
                worker.dismiss()  # `_assign` replaces it, if there is work
            else:
                self._idle.append(worker)
        if count:
            block.deliver(outcomes)

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
            block.fail(error)
        else:
            return  # it was given up before
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
        self._cancelling |= cancel
        self._killing |= kill
        if cancel or kill:
            kept = []
            for item in self._waiting.drain():
                if isinstance(item, Series):
                    item.end(CancelledError())
                elif isinstance(item, Call):
                    item.cancel()
                elif kill or not isinstance(item.receiver, Batch):
                    item.fail(CancelledError())
                else:
                    kept.append(item)  # their futures are running, and can't be cancelled any more
            for item in reversed(kept):
                self._waiting.put_back(item)
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
                self._note(message)
            except Exception:  # as of the message that broke it; what is running is resolved below
                _log.exception("lost a message")
        for worker, block in list(self._running.items()):
            del self._running[worker]
            self._idle.append(worker)
            block.fail(error)
        for item in self._waiting.drain():
            if isinstance(item, Series):
                item.end(error)
            elif isinstance(item, Block):
                item.fail(error)
            elif item.claim():
                item.resolve(None, error)


def _broken(text: str, cause: BaseException | None = None) -> ExecutorBroken:
    error = ExecutorBroken(text if cause is None else f"{text}: {type(cause).__name__}: {cause}")
    error.__cause__ = cause
    return error
