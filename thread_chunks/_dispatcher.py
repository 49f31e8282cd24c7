"""The dispatcher owns every call from its submission to its outcome.

::

   any thread           |            dispatcher thread (owns all scheduling state)     |  worker 1..size
                        |                                                              |
 ChunkExecutor.submit   |                  waiting: Queue of Call | Series             |
   Call(fn, args, fut) --admit-> inbox --> [c7][c8][series 12..900] ...                |
                        |        ^  ^           | take a block (how long: _sizing)     |
 map / starmap          |        |  |           v                                      |
   Series, then More ---admit----+  |      busy: {worker: [Block, Block]} - run -------+-> run_block
   Abandon -------------post-----+  |      idle: [worker]                              |    an outcome per call
 shutdown               |        |  |      starting: {worker} <----- start_worker -----+-> actor comes up
   StartAll, Store -----admit----+  |           |                                      |
   Close(cancel?) ------post-----+  +--- Started | Finished | Failed | Lost | Broken <-+--- its answer
                        |           |           |                                      |
                        |           |           | alarm, or idle workers: surrender ---+-> (control group)
                        |           +---- Surrendered <--------------------------------+--- what it has so far
                        |                       v                                      |
 Future.result()  <-----+------- block.deliver: future.set_result                      |
 next(map(...))   <-----+------- block.deliver: series.outbox.put                      |

* The *inbox* is the only way in. `Inbox.admit` is the gate: work passes it or is refused, and what
  has passed gets an outcome. Everything else is posted, at any time, from any thread.
* The *dispatcher thread* blocks in one place, `Inbox.get`, and takes note of one message at a time.
* A *worker* is starting, idle, or busy with a block. It answers by posting, never by returning. Behind a block of
  short calls another one waits for its turn at the worker, so that no time passes between the two.
* A block that is *overdue* is surrendered, and what waits behind it: the worker hands over what is finished and
  gives back what has not started, though a call still runs, and the rest goes to the front of the queue. So
  is a block that waits behind another while there are idle workers, and nothing else for them to do.

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
from functools import partial

from ._alarms import Alarms
from ._calls import Batch, Block, Call, Outcomes, Series
from ._crew import Crew
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
    b. At most `size` calls run at once, and none runs twice (a worker runs one call at a time, and
       a call leaves `_waiting` before it is sent).
    c. A call can be cancelled until it is put in a block (`Queue.take`).
    d. No call waits behind one that runs while a worker is idle, or not for long (`_hurry`,
       `_recall`), but for those that the user's `chunksize` put into one block, and as
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
        self._crew = Crew()
        self._alarms = Alarms()
        self._recalled: set[Block] = set()  # that are being taken back for workers that are idle
        self._tasks: Counter[Worker] = Counter()  # that each has run, if `_max_tasks` limits them
        self._failed_starts = 0  # in a row
        self._closing = self._cancelling = self._killing = False
        self._broken = False

    @property
    def workers(self) -> list[Worker]:
        """All workers: idle, busy, starting."""
        return self._crew.workers

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do, now or later."""
        return self._broken or (self._closing and not self._waiting and not self._crew.busy)

    def run(self) -> None:
        """Handle messages until all is done. The body of the dispatcher thread."""
        try:
            while not self.finished:
                self.handle(self._inbox.get(self._patience()))
                self.ring(time.monotonic())
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
                self._crew.starting.discard(worker)
                self._crew.idle.append(worker)
            case Finished(worker, block, collect, left):
                if self._crew.has(worker, block):
                    outcomes = collect()
                    block.answered = True
                    self._take_back(block, left)
                    if outcomes.values and outcomes.seconds:  # 0 if no call could be sent
                        block.function.parcel.pace.observe(len(outcomes.values), outcomes.seconds)
                    self._settle(worker, block, outcomes)
            case Surrendered(worker, block, collect, left):
                if self._crew.has(worker, block):
                    self._recalled.discard(block)
                    self._take_back(block, left)
                    if block.overdue:
                        block.function.parcel.pace.doubt()
                    self._settle(worker, block, collect())
            case Failed(worker, block, error):
                if self._crew.has(worker, block):
                    self._end(worker, block)
                    block.fail(error)
            case Lost(worker, error):
                self._lose(worker, error)
            case Broken(explain):
                self._break(explain())
            case Close(cancel, kill):
                self._close(cancel, kill)
            case Inspect():
                message.reply(self)

    def ring(self, now: float) -> None:
        """Do what is due by `now`."""
        self._alarms.ring(now)

    def _patience(self) -> float | None:
        """Return for how long nothing is due (s)."""
        return None if (when := self._alarms.next()) is None else max(0.0, when - time.monotonic())

    def _assign(self) -> None:
        """Give workers the next blocks, and start workers if there is more work than that."""
        crew, waiting = self._crew, self._waiting
        while crew.idle and (block := waiting.take(self.size, self._tasks_left(crew.idle[-1]))) is not None:
            self._send(crew.idle.pop(), block)
        if waiting.head() is None:
            self._recall()
            return
        while crew.followable and waiting.may_go_ahead and (block := waiting.take(self.size, None)) is not None:
            self._send(next(iter(crew.followable)), block)
        if len(crew) < self.size and waiting.head() is not None:
            self._start_workers(waiting.demand(self.size))

    def _send(self, worker: Worker, block: Block) -> None:
        block.receiver.start(block.first, block.calls)
        first = self._crew.send(worker, block)
        if first is block:
            self._begin(worker, block)
        elif len(first.calls) == 1:  # now there is something to be taken back, if it takes long
            self._time(worker, first)

    def _begin(self, worker: Worker, block: Block) -> None:
        """Take note that it is the block's turn."""
        block.began = time.monotonic()
        if len(block.calls) > 1 and not block.fixed:
            self._time(worker, block)
        if block.followable and not block.fixed and self._max_tasks is None and block.function.parcel.pace.brief:
            self._crew.followable[worker] = None

    def _time(self, worker: Worker, block: Block) -> None:
        when = block.began + block.function.parcel.pace.overdue(len(block.calls))
        self._alarms.set(when, block, partial(self._hurry, worker, block))

    def _hurry(self, worker: Worker, block: Block) -> None:
        """Take back what stands behind a call that takes longer than it should."""
        block.overdue = True
        self._crew.followable.pop(worker, None)
        self._crew.followed.pop(worker, None)
        for behind in self._crew.busy[worker]:
            if len(behind.calls) > 1 or behind is not block:
                worker.surrender(behind)

    def _recall(self) -> None:
        """Take back what waits behind other blocks, for workers that have nothing to do."""
        crew = self._crew
        while crew.followed and len(self._recalled) < len(crew.idle):
            worker, _ = crew.followed.popitem()
            *_, block = crew.busy[worker]
            if block.function.parcel.pace.worth_moving(len(block.calls)):
                self._recalled.add(block)
                worker.surrender(block)

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
            self._end(worker, block)
        if count:
            block.deliver(outcomes)

    def _end(self, worker: Worker, block: Block) -> None:
        """Take note that a block is over: its worker begins the next one, or is free."""
        self._recalled.discard(block)
        following = self._crew.end(worker, block)
        if following is not None:
            self._begin(worker, following)
        elif self._tasks_left(worker) == 0:
            del self._tasks[worker]
            worker.dismiss()  # `_assign` replaces it, if there is work
        else:
            self._crew.idle.append(worker)

    def _start_workers(self, wanted: int) -> None:
        """See to it that `wanted` workers are idle or starting, within `size`."""
        crew = self._crew
        for _ in range(min(self.size - len(crew), wanted - len(crew.idle) - len(crew.starting))):
            try:
                worker = self._cluster.start_worker(self._inbox.post)
            except Exception as error:
                self._do_without("no worker can be started", error)
                return
            crew.starting.add(worker)

    def _do_without(self, why: str, error: BaseException) -> None:
        """Start no more workers: go on with those that are up, and break if there are none."""
        self.size = len(self._crew)
        if self.size == 0:
            self._break(_broken(why, error))
        else:
            _log.warning("%s; going on with %d: %s", why, self.size, error)

    def _lose(self, worker: Worker, error: BaseException) -> None:
        crew = self._crew
        if worker in crew.starting:
            self._failed_starts += 1
            _log.warning("a worker died before it was up: %s", error)
        elif worker not in crew.busy and worker not in crew.idle:
            return  # it was given up before
        self._tasks.pop(worker, None)
        for block in crew.remove(worker):
            self._recalled.discard(block)
            block.fail(error)
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
        for worker in list(self._crew.busy):
            blocks = self._crew.remove(worker)
            self._crew.idle.append(worker)
            for block in blocks:
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
