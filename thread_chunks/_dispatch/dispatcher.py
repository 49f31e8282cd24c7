"""The dispatcher owns every call from its submission to its outcome.

::

   any thread           |            dispatcher thread (owns all scheduling state)     |  worker 1..size
                        |                                                              |
 ChunkExecutor.submit   |                  waiting: Queue of Call | Series             |
   Call(fn, args, fut) --admit-> inbox --> [c7][c8][series 12..900] ...                |
                        |        ^  ^           | take a block (how long: _sizing)     |
 map / starmap          |        |  |           v                                      |
   Series, then More ---admit----+  |      busy: {worker: [Block, Block]} - run -------+-> thread_chunks_run
   Abandon, Cancel -----post-----+  |      idle: [worker]                              |    an outcome per call
 shutdown               |        |  |      starting: {worker} <----- start_worker -----+-> actor comes up
   StartAll, Store -----admit----+  |           |                                      |
   Close(cancel?) ------post-----+  +--- Started|Finished|Failed|Lost|Exceeded|Broken <+--- its answer
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
* What was *lost* with a worker is run again if its `Limits` allow it, one call to a block, so that the call that
  ends its worker does so alone. What is to *end* (time-out, cancellation) costs the worker: see `_endings`.
* A worker of a node that is *leaving* ends with the call that it runs: see `_lookout`. Where there are fewer workers
  than work, some are started in each turn, after what came has been handled: see `_starts`. So are blocks sent, where
  many workers are idle: see `_assignment`.

A series with a checkpoint has a recorder: it sees the calls as they are sent, and the values before the
consumer does.

The dispatcher does not know Ray. It is plain data driven by messages: the tests drive it without
a thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from itertools import chain
from typing import Any

from .._calls.blocks import Block
from .._calls.calls import Call, Outcomes
from .._calls.series import Series
from ..errors import ExecutorBroken, WorkerLost, WorkerOutOfMemory
from .alarms import Alarms
from .assigner import Assignment
from .cluster import GONE, Cluster
from .crew import Crew
from .endings import Endings
from .inbox import Inbox
from .lookout import Lookout
from .messages import (
    Abandon,
    Broken,
    Cancel,
    Close,
    Exceeded,
    Failed,
    Finished,
    Inspect,
    Lost,
    Message,
    More,
    StartAll,
    Started,
    Store,
    Surrendered,
    Work,
)
from .queue import Queue
from .recovery import Recovery
from .starts import Starts
from .tally import Tally
from .worker import Worker

_log = logging.getLogger("thread_chunks")


class Dispatcher:
    """Gives idle workers the next block, and outcomes to whoever waits for them.

    Promises
    --------
    a. Every call that passed the gate gets an outcome, whatever fails: a worker, a pickle, the
       cluster, or this class itself (`_break`).
    b. At most `size` calls run at once, and none runs twice (a worker runs one call at a time, and
       a call leaves `_waiting` before it is sent), but for retries (`Recovery`).
    c. A call can be cancelled until it is put in a block (`Queue.take`).
    d. No call waits behind one that runs while a worker is idle, or not for long
       (`Assignment`), but for those that the user's `chunksize` put into one block, and as
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

    def __init__(
        self,
        cluster: Cluster,
        inbox: Inbox,
        size: int,
        max_tasks: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settled = threading.Event()  # every call has its outcome, and none will be let in
        self.tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self._cluster = cluster
        self._inbox = inbox
        self._clock = clock
        self._waiting = Queue(adaptive=cluster.interruptible)
        self.crew = Crew()
        self._alarms = Alarms()
        self._recovery = Recovery(self._waiting, self.tallies)
        self._starts = Starts(self.crew, cluster, inbox.post, clock, self._break, size)
        self._endings = Endings(self.crew, self._alarms, clock, self._kill)
        self._assignment = Assignment(
            self.crew, self._waiting, self._alarms, self._endings, cluster.home_of, clock, max_tasks
        )
        self._lookout = Lookout(self.crew, cluster, self._assignment, self._starts, clock, self._break)
        self._rang = 0.0  # when it took its last turn
        self._closing = self._broken = False

    @property
    def size(self) -> int:
        """How many workers there may be at present."""
        return self._starts.size

    @property
    def workers(self) -> list[Worker]:
        """All workers: idle, busy, starting."""
        return self.crew.workers

    @property
    def handles(self) -> list[Any]:
        """The handles of all workers, with those that are to be started whether there is work or not."""
        if not self.finished:
            self._starts.start_all()
        return [worker.handle for worker in self.workers]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do, now or later."""
        return self._broken or (self._closing and not self._waiting and not self.crew.busy)

    def has(self, future: Future[Any]) -> bool:
        """Whether a call of `submit` was sent, and is not over."""
        blocks = [block for blocks in self.crew.busy.values() for block in blocks]
        blocks += [item for item in self._waiting if isinstance(item, Block)]
        return any(block.find(future) is not None for block in blocks)

    def run(self) -> None:
        """Handle messages until all is done. The body of the dispatcher thread."""
        try:
            while not self.finished:
                self.turn(self._inbox.get(self.patience()))
        except BaseException as error:
            _log.exception("the dispatcher failed")
            self._break(ExecutorBroken.because("the executor itself failed", error))
        finally:
            self._inbox.close()  # it is open still if the executor was dropped
            self.settled.set()
            self._inbox.end()
            for message in self._inbox.drain():
                if isinstance(message, Inspect):
                    message.reply()
            for worker in self.workers:
                worker.dismiss()
            self._cluster.close()

    def turn(self, first: Iterable[Message]) -> None:
        """Handle the first message and all others that are there, then do what was due by now."""
        # Not later: what comes while these are handled may be what an alarm waits for.
        self._rang = now = self._clock()
        self.handle(chain(first, self._inbox.drain()))
        self.ring(now)

    def handle(self, messages: Iterable[Message]) -> None:
        """Take note of messages, deliver outcomes, and give out the next blocks."""
        for message in messages:
            self._note(message)
            self._recovery.deliver()
            if not isinstance(message, Work) and not self.finished:
                # At once: a worker may be free, and what comes next may take its time.
                self._assignment.give_out(self.size)
        if not self.finished:
            self._assignment.give_out(self.size)

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
                self._starts.all = True
            case Store(function):
                for worker in self.workers:
                    worker.store(function)
            case Started(worker):
                self.crew.started(worker)
            case Finished(worker, block, collect, left):
                if self.crew.has(worker, block):
                    outcomes = collect()
                    self.crew.begun(worker, block)
                    block.answered = True
                    self._take_back(block, left)
                    if outcomes.values and outcomes.seconds:  # 0 if no call could be sent
                        full = left > 0 and not block.asked and worker not in self.crew.retired
                        block.function.parcel.pace.observe(len(outcomes.values), outcomes.seconds, full=full)
                    self._settle(worker, block, outcomes)
            case Surrendered(worker, block, collect, left):
                if self.crew.has(worker, block):
                    if left < len(block.calls):
                        self.crew.begun(worker, block)
                    self._take_over(worker, block, collect(), left)
                    self._endings.settle(worker)
            case Exceeded(worker, error, block):
                if self.crew.knows(worker):
                    self._retire(worker, error, block)
            case Failed(worker, block, error, sent):
                if self.crew.has(worker, block):
                    self._end(worker, block)
                    self._recovery.failed(block, error, sent=sent)
                    self.crew.failed_starts = 0
            case Lost(worker, error):
                self._lose(worker, error)
            case Broken(explain):
                self._break(explain())
            case Cancel(future):
                self._cancel(future)
            case Close(cancel, kill):
                self._close(cancel, kill)
            case Inspect():
                message.reply()

    def ring(self, now: float) -> None:
        """Do what is due by `now`, when all that had come by then is handled; start workers that there is work for."""
        rang = self._alarms.ring(now)
        self._recovery.deliver()
        looked = self._lookout.look(now)
        if (rang or looked) and not self.finished:
            self._assignment.give_out(self.size)
        if len(self.crew) < self.size and not self.finished:
            self._starts.start(self._waiting.demand(self.size) if self._waiting.head() is not None else 0)

    def patience(self) -> float | None:
        """Return for how long nothing is due (s)."""
        due = [self._alarms.next(), self._lookout.next]
        if self._starts.unfinished or self._assignment.unfinished:
            due.append(self._rang)
        if self.crew.next_start > self._rang and (self._waiting or self._starts.all):
            due.append(self.crew.next_start)
        times = [when for when in due if when is not None]
        return max(0.0, min(times) - self._clock()) if times else None

    def _take_over(self, worker: Worker, block: Block, outcomes: Outcomes, left: int) -> None:
        """Take what a worker has of a block that it surrendered."""
        block.asked = False
        self._assignment.surrendered(block)
        self._take_back(block, left)
        if block.overdue:
            block.function.parcel.pace.doubt()
        began, is_exact = self._clock() - outcomes.running, outcomes.running > 0
        self._settle(worker, block, outcomes)
        if (blocks := self.crew.busy.get(worker)) and blocks[0] is block:
            block.began = began
            self._endings.begin(worker, block, is_exact=is_exact)

    def _take_back(self, block: Block, count: int) -> None:
        """Let the last `count` calls of a block, which were not run, wait again."""
        if count:
            self._recovery.wait_again(block.give_back(len(block.calls) - count))

    def _settle(self, worker: Worker, block: Block, outcomes: Outcomes) -> None:
        """Take in some outcomes of a block; when it is over, the worker is free again."""
        count = len(outcomes.values)
        block.settle(outcomes.offset, outcomes.offset + count)
        self._assignment.count(worker, block, count)
        if count:
            self.crew.proved(worker)
        if block.answered and not block.open:
            self._end(worker, block)
        if count:
            tally = self.tallies[block.function.name]
            tally.add(count, len(outcomes.errors), outcomes.short, outcomes.long)
            block.deliver(outcomes)

    def _end(self, worker: Worker, block: Block) -> None:
        self._endings.forget(block)
        self._assignment.end(worker, block)
        if worker in self.crew.retired and worker not in self.crew.busy:
            self._discharge(worker)

    def _lose(self, worker: Worker, error: WorkerLost) -> None:
        """Go on without a worker that is dead."""
        crew = self.crew
        if not crew.knows(worker):  # it was given up before
            return
        was_idle, called = worker in crew.idle, crew.fresh.get(worker) if worker in crew.starting else None
        for_memory = isinstance(error, WorkerOutOfMemory) and not was_idle
        counts = not for_memory or self.size == 1
        for block in reversed(self._remove(worker)):
            self._recovery.lost(block, error, counts=counts)
        worker.dismiss()
        if not self._cluster.replaceable:
            self._starts.one_fewer()
            if self.size == 0:
                self._break(ExecutorBroken.because("all actors that the executor was given are dead", error))
        elif for_memory and self.size > 1:
            self._starts.one_fewer()
            _log.warning("%s From now on %d calls run at once: chunk_size=%d would fit.", error, self.size, self.size)
        elif called is not None and not self._recovery.killing:
            self._starts.failed(called, error)

    def _remove(self, worker: Worker) -> list[Block]:
        """Forget a worker; return what it had."""
        blocks = self._assignment.remove(worker)
        for block in blocks:
            self._endings.forget(block)
            if block.open:
                self.crew.failed_starts = 0  # a call comes to its end, though by the loss of its worker
        return blocks

    def _retire(self, worker: Worker, error: WorkerOutOfMemory, block: Block | None) -> None:
        """Let a worker that has too much memory begin nothing, and kill it: now, or when it has answered."""
        crew = self.crew
        crew.retired[worker] = error
        crew.followable.pop(worker, None)
        if block is not None and crew.has(worker, block):
            crew.begun(worker, block)
            self._endings.end(worker, block, error)
        elif worker not in crew.busy:
            self._discharge(worker)

    def _discharge(self, worker: Worker) -> None:
        """Kill a worker that is retired and has no block."""
        if (called := self.crew.fresh.get(worker)) is not None:
            self._starts.failed(called, self.crew.retired[worker])
        self._remove(worker)
        worker.kill()
        worker.dismiss()

    def _kill(self, worker: Worker, error: BaseException | None) -> None:
        """End a worker for the sake of the block that it runs, as `Endings` says."""
        nothing_begins = worker in self.crew.retired
        self._recovery.killed(worker.place, self._remove(worker), error, nothing_begins=nothing_begins)
        worker.kill()
        worker.dismiss()

    def _cancel(self, future: Future[Any]) -> None:
        if self._waiting.cancel(future):
            return
        for worker, blocks in self.crew.busy.items():
            for block in blocks:
                if (call := block.find(future)) is not None:
                    call.unwanted = True
                    self._endings.end(worker, block)
                    return

    def _close(self, cancel: bool, kill: bool) -> None:
        self._closing = True
        self._starts.all = False
        if not self._cluster.alive:  # nothing will ever answer
            self._break(ExecutorBroken.because(GONE))
            return
        self._recovery.cancelling |= cancel
        self._recovery.killing |= kill
        if cancel or kill:
            self._waiting.cancel_all(started=kill)
        if kill:
            self._endings.end_all(interruptible=self._cluster.interruptible)

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
        self._recovery.deliver()
        for worker in list(self.crew.busy):
            blocks = self._remove(worker)
            self.crew.idle.append(worker)
            for block in blocks:
                block.fail(error)
        for item in self._waiting.drain():
            if isinstance(item, Series):
                item.end(error)
            elif isinstance(item, Block):
                item.fail(error)
            elif item.claim():
                item.resolve(None, error)
