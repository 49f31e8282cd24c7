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
from concurrent.futures import CancelledError

from ._alarms import Alarms
from ._assignment import Assignment
from ._blocks import Batch, Block, Series
from ._calls import Call, Outcomes
from ._crew import MAX_FAILED_STARTS, Crew
from ._endings import Endings
from ._messages import (
    GONE,
    Abandon,
    Broken,
    Close,
    Cluster,
    Exceeded,
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
from .errors import ExecutorBroken, WorkerLost, WorkerOutOfMemory
from .report import Tally

_log = logging.getLogger("thread_chunks")

# How often to see whether the cluster is there, while something is expected of it (s). Less costs wake-ups, of a
# millisecond; more, and calls wait longer for what will never answer.
_LOOKS = 2.0

_ENDED = (
    "a worker ({}) was killed to end a call ({}), and did not say before which of several calls ran: "
    "this one was among them"
)


class Dispatcher:
    """Gives idle workers the next block, and outcomes to whoever waits for them.

    Promises
    --------
    a. Every call that passed the gate gets an outcome, whatever fails: a worker, a pickle, the
       cluster, or this class itself (`_break`).
    b. At most `size` calls run at once, and none runs twice (a worker runs one call at a time, and
       a call leaves `_waiting` before it is sent), but for retries (`_lost`).
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
        self.size = size
        self.settled = threading.Event()  # every call has its outcome, and none will be let in
        self.tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self._cluster = cluster
        self._inbox = inbox
        self._clock = clock
        self._waiting = Queue(adaptive=cluster.interruptible)
        self.crew = Crew()
        self._alarms = Alarms()
        self.endings = Endings(self.crew, self._alarms, self._waiting, clock, self._kill)
        self._assignment = Assignment(self.crew, self._waiting, self._alarms, self.endings, clock, max_tasks)
        self._next_look = 0.0  # when to see next whether the cluster is still there
        self._closing = self._cancelling = self._killing = False
        self._broken = False

    @property
    def workers(self) -> list[Worker]:
        """All workers: idle, busy, starting."""
        return self.crew.workers

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do, now or later."""
        return self._broken or (self._closing and not self._waiting and not self.crew.busy)

    def run(self) -> None:
        """Handle messages until all is done. The body of the dispatcher thread."""
        try:
            while not self.finished:
                self.handle(self._inbox.get(self._patience()))
                self.ring(self._clock())
        except BaseException as error:
            _log.exception("the dispatcher failed")
            self._break(ExecutorBroken.because("the executor itself failed", error))
        finally:
            self._inbox.close()  # it is open still if the executor was dropped
            self.settled.set()
            self._inbox.end()
            for message in self._inbox.drain():
                if isinstance(message, Inspect):
                    message.reply(self)
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
                self.crew.started(worker)
            case Finished(worker, block, collect, left):
                if self.crew.has(worker, block):
                    outcomes = collect()
                    block.answered = True
                    self._take_back(block, left)
                    if outcomes.values and outcomes.seconds:  # 0 if no call could be sent
                        block.function.parcel.pace.observe(len(outcomes.values), outcomes.seconds)
                    self._settle(worker, block, outcomes)
            case Surrendered(worker, block, collect, left):
                if self.crew.has(worker, block):
                    self._take_over(worker, block, collect(), left)
                    self.endings.settle(worker)
            case Exceeded(worker, error, block, collect, left):
                if self.crew.knows(worker):
                    if block is not None and collect is not None and self.crew.has(worker, block):
                        self._take_over(worker, block, collect(), left)
                    if block is None:  # it has too much before any call ran
                        self._failed_to_start(error)
                    self._kill(worker, block, error, others_began=False)
            case Failed(worker, block, error):
                if self.crew.has(worker, block):
                    self._end(worker, block)
                    self._fail(block, error)
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
        rang = self._alarms.ring(now)
        if not self._waits_for_the_cluster:
            self._next_look = now + _LOOKS
        elif now >= self._next_look:
            self._next_look = now + _LOOKS
            if not self._cluster.reachable():
                self._break(ExecutorBroken.because(GONE))
        if (rang or self.crew.failed_starts) and not self.finished:
            self._assign()

    @property
    def _waits_for_the_cluster(self) -> bool:
        return bool(self.crew.busy or self.crew.starting)

    def _patience(self) -> float | None:
        """Return for how long nothing is due (s)."""
        due = [self._alarms.next(), self._next_look if self._waits_for_the_cluster else None]
        now = self._clock()
        if self.crew.next_start > now and self._waiting:
            due.append(self.crew.next_start)
        times = [when for when in due if when is not None]
        return max(0.0, min(times) - now) if times else None

    def _assign(self) -> None:
        """Give workers the next blocks, and start workers if there is more work than that."""
        self._assignment.give_out(self.size)
        if len(self.crew) < self.size and self._waiting.head() is not None:
            self._start_workers(self._waiting.demand(self.size))

    def _take_over(self, worker: Worker, block: Block, outcomes: Outcomes, left: int) -> None:
        """Take what a worker has of a block that it surrendered."""
        block.asked = False
        self._assignment.surrendered(block)
        self._take_back(block, left)
        if block.overdue:
            block.function.parcel.pace.doubt()
        block.began = self._clock() - outcomes.running
        self.endings.begin(worker, block, is_exact=outcomes.running > 0)
        self._settle(worker, block, outcomes)

    def _take_back(self, block: Block, count: int) -> None:
        """Let the last `count` calls of a block, which were not run, wait again."""
        if count:
            self._wait_again(block.give_back(count))

    def _wait_again(self, block: Block) -> None:
        if self._killing or (self._cancelling and not isinstance(block.receiver, Batch)):
            block.fail(CancelledError())
        else:
            self._waiting.put_back(block)

    def _settle(self, worker: Worker, block: Block, outcomes: Outcomes) -> None:
        """Take in some outcomes of a block; when it is over, the worker is free again."""
        count = len(outcomes.values)
        block.settle(outcomes.offset, outcomes.offset + count)
        self._assignment.count(worker, block, count)
        if block.answered and not block.open:
            self._end(worker, block)
        if count:
            self.crew.failed_starts = 0
            tally = self.tallies[block.function.name]
            tally.add(count, len(outcomes.errors), outcomes.short, outcomes.long)
            block.deliver(outcomes)

    def _end(self, worker: Worker, block: Block) -> None:
        self.endings.forget(block)
        self._assignment.end(worker, block)

    def _start_workers(self, wanted: int) -> None:
        """See to it that `wanted` workers are idle or starting, within `size`."""
        crew = self.crew
        if crew.failed_starts >= MAX_FAILED_STARTS:
            self._do_without(
                f"{crew.failed_starts} workers in a row were lost before a call came to its end", crew.failure
            )
            return
        if crew.failed_starts and self._clock() < crew.next_start:
            return
        for _ in range(min(self.size - len(crew), wanted - len(crew.idle) - len(crew.starting))):
            try:
                worker = self._cluster.start_worker(self._inbox.post)
            except Exception as error:
                self._do_without("no worker can be started", error)
                return
            crew.starting.add(worker)

    def _do_without(self, why: str, error: BaseException | None) -> None:
        """Start no more workers: go on with those that are up, and break if there are none."""
        self.size = len(self.crew)
        if self.size == 0:
            self._break(ExecutorBroken.because(why, error))
        else:
            _log.warning("%s; going on with %d: %s", why, self.size, error)

    def _lose(self, worker: Worker, error: WorkerLost) -> None:
        """Go on without a worker that is dead."""
        crew = self.crew
        if not crew.knows(worker):  # it was given up before
            return
        was_idle, was_starting = worker in crew.idle, worker in crew.starting
        for_memory = isinstance(error, WorkerOutOfMemory) and not was_idle
        counts = not for_memory or self.size == 1
        for block in reversed(self._assignment.remove(worker)):
            self._lost(worker, block, error, counts)
        worker.dismiss()
        if not self._cluster.replaceable:
            self.size -= 1
            if self.size == 0:
                self._break(ExecutorBroken.because("all actors that the executor was given are dead", error))
        elif for_memory and self.size > 1:
            self.size -= 1
            _log.warning("%s From now on %d calls run at once: chunk_size=%d would fit.", error, self.size, self.size)
        elif was_starting:
            self._failed_to_start(error)

    def _failed_to_start(self, error: WorkerLost) -> None:
        """Go on without a worker that is of no use from the start, though it may be up."""
        _log.warning("a worker was lost before it was of use: %s", error)
        self.crew.failed_to_start(error, self._clock())

    def _lost(self, worker: Worker, block: Block, error: BaseException, counts: bool = True) -> None:
        """Run the open calls of a block again, each by itself, or give them an error, as any of them may have run."""
        self.endings.forget(block)
        if block.runs < block.limits.retries and not self._killing:
            self.tallies[block.function.name].retries += block.open_calls
            for single in reversed(block.singly(block.runs + counts)):
                self._wait_again(single)
        else:
            self._fail(block, error)

    def _fail(self, block: Block, error: BaseException) -> None:
        if count := block.open_calls:
            self.crew.failed_starts = 0
            self.tallies[block.function.name].add(count, count, 0.0, ())
            block.fail(error)

    def _kill(self, worker: Worker, block: Block | None, error: BaseException, *, others_began: bool = True) -> None:
        """End a worker for the sake of one call, the only one of `block` that is open, as far as is known."""
        for other in reversed(self._assignment.remove(worker)):
            if not others_began and other is not block:
                if other.open_calls:
                    self._wait_again(other.give_back(other.open_calls))
            elif other is block and other.open_calls == 1 and not isinstance(error, WorkerLost):
                self.endings.forget(other)
                self._fail(other, error)
            else:
                lost = error if isinstance(error, WorkerLost) else WorkerLost(_ENDED.format(worker.place, error))
                self._lost(worker, other, lost)
        worker.kill()
        worker.dismiss()

    def _close(self, cancel: bool, kill: bool) -> None:
        self._closing = True
        if not self._cluster.alive:  # nothing will ever answer
            self._break(ExecutorBroken.because(GONE))
            return
        self._cancelling |= cancel
        self._killing |= kill
        if cancel or kill:
            self._waiting.cancel_all(started=kill)
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
        for worker in list(self.crew.busy):
            blocks = self._assignment.remove(worker)
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
