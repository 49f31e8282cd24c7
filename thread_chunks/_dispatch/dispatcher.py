"""The dispatcher owns every call from its submission to its outcome.

::

   any thread           |            dispatcher thread (owns all scheduling state)     |  worker 1..size
                        |                                                              |
 ChunkExecutor.submit   |                  waiting: Queue of Call | Series | Block     |
   Call(fn, args, fut) --admit-> inbox --> [c7][c8][series 12..900] ...                |
                        |        ^  ^           | next block (how long: pace)          |
 map / starmap          |        |  |           v                                      |
   Series, then More ---admit----+  |      crew: a Member for each worker              |
   Abandon, Cancel -----post-----+  |        starting  [ ] <-------- start_worker -----+-> actor comes up
 set_func, actors       |        |  |        idle      [ ]                             |
   ReplaceFunction -----admit----+  |        busy      [Assignment, Assignment] - run -+-> its queue of blocks
   StartAll ------------admit----+  |           |                                      |    main thread: runs the calls
 shutdown               |        |  |           |                                      |
   Close(cancel?) ------post-----+  +--- Started|Finished|Failed|Lost|Exceeded|Broken <+--- its answer
                        |           |           |                                      |
                        |           |           | alarm, or idle workers: surrender ---+-> reader thread
                        |           +---- Surrendered <--------------------------------+--- what it has so far
                        |                       v                                      |
 Future.result()  <-----+------- block.deliver: future.set_result                      |
 next(map(...))   <-----+------- block.deliver: series.outbox.put                      |

* The *inbox* is the only way in. `Inbox.admit` is the gate: work passes it or is refused, and what
  has passed gets an outcome. Everything else is posted, at any time, from any thread.
* The *dispatcher thread* blocks in one place, `Inbox.get`, and handles one message at a time.
* A *worker* is starting, idle, or busy with a block. Messages go by a direct channel, or by Ray's calls if they are
  large (`thread_chunks._ray.link`). It answers by posting, never by returning. Behind a block of
  short calls another one waits for its turn at the worker, so that no time passes between the two.
* Each worker has a record, a `Member` of the `Crew`, which alone moves it from one state to another. Each block that
  was sent has an `Assignment`: how far it is known to have come, why it was asked back, its alarms.
* A call that has futures among its arguments waits among the *dependents* until they are over, and then in the queue.
* A block that is *overdue* is surrendered, and what waits behind it: the worker hands over what is finished and
  gives back what has not started, though a call still runs, and the rest goes to the front of the queue. So
  is a block that waits behind another while there are idle workers, and nothing else for them to do.
* What was *lost* with a worker is run again if its `Limits` allow it, one call to a block, so that the call that
  ends its worker does so alone. What is to *end* (time-out, cancellation) costs the worker: see `Endings`.
* A worker of a node that is *leaving* ends with the call that it runs: see `Lookout`. Where there are fewer workers
  than work, some are started in each turn, after what came has been handled: see `Starts`. So are blocks sent, where
  many workers are idle: see `Assigner`.

A series with a checkpoint has a journal: it sees the calls as they are sent, and the values before the
consumer does.

The dispatcher does not know Ray. It is plain data driven by messages: the tests drive it without
a thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from itertools import chain
from typing import Any

from .._calls.blocks import Block
from .._calls.calls import Call, Outcomes
from .._calls.series import Series
from .._pictures.timeline import Mark
from ..errors import ExecutorBroken, WorkerLost, WorkerOutOfMemory
from .alarms import Alarms
from .assigner import Assigner
from .assignment import ANSWERED, Assignment, Reason
from .cluster import GONE, Cluster, executor_broken
from .crew import IDLE, STARTING, Crew, Member
from .dependents import Dependents
from .endings import Endings
from .inbox import Inbox
from .lookout import Lookout
from .messages import (
    Abandon,
    Broken,
    Cancel,
    Close,
    Depending,
    Exceeded,
    Failed,
    Finished,
    Inspect,
    Lost,
    Message,
    More,
    ReplaceFunction,
    Satisfied,
    StartAll,
    Started,
    Surrendered,
    Work,
)
from .naming import note_errors
from .queue import Queue
from .record import Record
from .recovery import Recovery
from .starts import Starts
from .worker import Worker

_log = logging.getLogger("thread_chunks")


class Dispatcher:
    """Give idle workers the next block, and deliver the outcomes.

    Promises
    --------
    a. Every call that passed the gate gets an outcome, whatever fails: a worker, a pickle, the
       cluster, or this class itself (`_break`).
    b. At most `size` calls run at once, and none runs twice (a worker runs one call at a time, and
       a call leaves `_waiting` before it is sent), except for retries (`Recovery`). After `resize`, surplus workers
       finish the call that they run.
    c. A call can be cancelled until it is put in a block (`Queue.next_block`).
    d. No call waits behind one that runs while a worker is idle, or not for long
       (`Assigner`), except those that the user's `chunksize` put into one block, and as
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
        self.record = Record(clock)
        self._cluster = cluster
        self._inbox = inbox
        self._clock = clock
        self._waiting = Queue()
        self._dependents = Dependents(self._waiting)
        self.crew = Crew()
        self._alarms = Alarms()
        self._recovery = Recovery(self._waiting, self.record)
        self._starts = Starts(self.crew, cluster, inbox.post, clock, self._break, size)
        self._endings = Endings(self.crew, self._alarms, clock, self._kill)
        self._assigner = Assigner(
            self.crew, self._waiting, self._alarms, self._endings, cluster.home_of, clock, max_tasks
        )
        self._lookout = Lookout(self.crew, cluster, self._assigner, self._starts, clock, self._break)
        self._rang = 0.0  # when it took its last turn
        self._closing = self._broken = False

    @property
    def size(self) -> int:
        """How many workers there may be at present."""
        return self._starts.size

    @property
    def workers(self) -> list[Worker]:
        """All workers: idle, busy, starting."""
        return [member.worker for member in self.crew]

    @property
    def handles(self) -> list[Any]:
        """The handles of all workers, with those that are to be started whether there is work or not."""
        if not self.finished:
            self._starts.start_all()
        return [worker.handle for worker in self.workers]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do, now or later."""
        return self._broken or (self._closing and not (self._waiting or self.crew.is_busy or self._dependents))

    def resize(self, size: int) -> None:
        """Let there be so many workers from now on."""
        self._starts.size = size
        self._assigner.vacate_all_but(size)

    def has(self, future: Future[Any]) -> bool:
        """Return whether a call of `submit` was sent, and is not over."""
        return self._waiting.has_given_back(future) or self.crew.find_call(future) is not None

    def run(self) -> None:
        """Handle messages until all is done. The body of the dispatcher thread."""
        try:
            while not self.finished or (not self._broken and self._inbox.shut()):
                self.turn(self._inbox.get(self.patience()))
        except BaseException as error:
            _log.exception("the dispatcher failed")
            self._break(executor_broken("the executor itself failed", error))
        finally:
            self._inbox.close()  # it is open still if the executor was dropped
            self.settled.set()
            self._inbox.refuse_questions()
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
        """Handle messages, deliver outcomes, and give out the next blocks."""
        given_out = False
        for message in messages:
            self._handle_one(message)
            self._recovery.deliver()
            if given_out := not isinstance(message, Work) and not self.finished:
                # At once: a worker may be free, and what comes next may take its time.
                self._assigner.give_out(self.size)
        if not given_out and not self.finished:
            self._assigner.give_out(self.size)

    def _handle_one(self, message: Message) -> None:
        match message:
            case More(item) | ((Call() | Series()) as item):
                self._waiting.add(item)
            case Depending():
                self._dependents.add(message)
            case Satisfied(depending, future):
                self._dependents.satisfied(depending, future)
            case Abandon(series):
                series.calls.clear()
                series.abandoned = True
            case StartAll():
                self._starts.all = True
            case ReplaceFunction(function):
                for worker in self.workers:
                    worker.replace_function(function)
            case Started(worker):
                if (up := self.crew.came_up(worker)) is not None:
                    self.record.came_up(up)
            case Finished() | Surrendered() | Failed():
                if (found := self.crew.find_assignment(message.worker, message.block)) is not None:
                    self._take_answer(message, *found)
            case Exceeded(worker, error, block):
                if (member := self.crew.find(worker)) is not None:
                    self._exceed(member, error, block)
            case Lost(worker, error, begun):
                if (member := self.crew.find(worker)) is not None:
                    self._lose(member, error, begun)
            case Broken(explain):
                self._break(explain())
            case Cancel(future):
                if not self._waiting.cancel(future):
                    self._endings.cancel(future)
            case Close(cancel, kill):
                self._close(cancel, kill)
            case Inspect():
                message.reply()

    def ring(self, now: float) -> None:
        """Do what is due by `now`, when all that had come by then is handled; start workers that there is work for."""
        rang = self._alarms.ring(now)
        self._recovery.deliver()
        looked = self._lookout.look_if_due(now)
        if (rang or looked) and not self.finished:
            self._assigner.give_out(self.size)
        if len(self.crew) < self.size and not self.finished:
            self._starts.start(self._waiting.demand(self.size) if self._waiting.head() is not None else 0)

    def patience(self) -> float | None:
        """Return for how long nothing is due (s)."""
        due = [self._alarms.next(), self._lookout.next]
        if self._starts.unfinished or self._assigner.unfinished:
            due.append(self._rang)
        if self._starts.not_before > self._rang and (self._waiting or self._starts.all):
            due.append(self._starts.not_before)
        times = [when for when in due if when is not None]
        return max(0.0, min(times) - self._clock()) if times else None

    def _take_answer(self, message: Finished | Surrendered | Failed, member: Member, assignment: Assignment) -> None:
        block = assignment.block
        match message:
            case Finished(collect=collect, left=left):
                outcomes = collect()
                self.crew.begun(member, assignment)
                assignment.progress = ANSWERED
                self._recovery.take_back(block, left)
                if outcomes.values and outcomes.seconds:  # 0 if no call could be sent
                    full = left > 0 and assignment.asked is None and member.kill_reason is None
                    block.function.parcel.pace.observe(len(outcomes.values), outcomes.seconds, full=full)
                self._settle(member, assignment, outcomes)
            case Surrendered(collect=collect, left=left):
                if left < len(block.calls):
                    self.crew.begun(member, assignment)
                outcomes = collect()
                if self.crew.surrendered(member, assignment) is Reason.OVERDUE:
                    block.function.parcel.pace.doubt()
                self._recovery.take_back(block, left)
                began = self._clock() - outcomes.running
                self._settle(member, assignment, outcomes)
                if member.assignments and member.assignments[0] is assignment:
                    assignment.began = began
                    self._endings.time_call(member, assignment, is_exact=outcomes.running > 0)
                self._endings.kill_if_safe(member)
            case Failed(error=error, sent=sent):
                self._finish(member, assignment)
                self._recovery.failed(block, error, sent=sent)
                self._starts.succeeded()

    def _settle(self, member: Member, assignment: Assignment, outcomes: Outcomes) -> None:
        """Take in some outcomes of a block; when it is over, the worker is free again."""
        block, count = assignment.block, len(outcomes.values)
        note_errors(block, outcomes)
        block.settle(outcomes.offset, outcomes.offset + count)
        try:
            if not block.fixed:  # else its calls are one task, which is counted at its end
                member.tasks += count
            if count:
                member.proved = True
                self._starts.succeeded()
            if assignment.progress is ANSWERED and not block.open:
                self._finish(member, assignment)
            if count:
                self.record.settled(member, block, outcomes)
        finally:  # what is settled gets its outcome, though the dispatcher itself may fail
            if count:
                block.deliver(outcomes)

    def _finish(self, member: Member, assignment: Assignment) -> None:
        self._assigner.finish(member, assignment)
        if member.kill_reason is not None and member.state is IDLE:
            self._discharge(member, member.kill_reason)

    def _lose(self, member: Member, error: WorkerLost, begun: dict[Block, int]) -> None:
        """Go on without a worker that is dead. What it had not begun of its blocks runs elsewhere, as if never sent."""
        state = member.state
        for_memory = isinstance(error, WorkerOutOfMemory) and state is not IDLE
        blocks = self._remove(member, Mark.LOST)
        self._recovery.died(blocks, begun, error, self.size if for_memory else None)
        member.worker.dismiss()
        if not self._cluster.replaceable:
            self._starts.one_fewer()
            if self.size == 0:
                self._break(executor_broken("all actors that the executor was given are dead", error))
        elif for_memory and self.size > 1:
            self._starts.one_fewer()
        elif state is STARTING and not self._recovery.killing:
            self._starts.failed(member.called, error)

    def _remove(self, member: Member, mark: Mark) -> list[Block]:
        """End the record of a worker; return what it had."""
        self.record.ended(member, mark)
        blocks = self.crew.remove(member)
        if any(block.open for block in blocks):
            self._starts.succeeded()  # a call comes to its end, though by the loss of its worker
        return blocks

    def _exceed(self, member: Member, error: WorkerOutOfMemory, block: Block | None) -> None:
        """Let a worker that has too much memory begin nothing, and kill it: now, or when it has answered."""
        member.kill_reason = error
        self.crew.hold(member)
        found = None if block is None else self.crew.find_assignment(member.worker, block)
        if found is not None:
            self.crew.begun(*found)
            self._endings.end_call(*found, error)
        elif not member.assignments:
            self._discharge(member, error)

    def _discharge(self, member: Member, error: WorkerLost) -> None:
        """Kill a worker that has too much memory, and no block."""
        if not member.proved:
            self._starts.failed(member.called, error)
        self._dispose(member, error)

    def _kill(self, member: Member, error: BaseException) -> None:
        """Kill a worker because of the block that it runs, as `Endings` says."""
        is_last = member.kill_reason is not None
        self._recovery.killed(member.worker.place, self._dispose(member, error), error, nothing_begins=is_last)

    def _dispose(self, member: Member, error: BaseException) -> list[Block]:
        """Kill a worker and dismiss it, because of an error; return what it had."""
        blocks = self._remove(member, Mark.KILLED)
        self._recovery.warn(blocks[:1], error)
        member.worker.kill()
        member.worker.dismiss()
        return blocks

    def _close(self, cancel: bool, kill: bool) -> None:
        self._closing, self._starts.all = True, False
        if not self._cluster.alive:  # nothing will ever answer
            self._break(executor_broken(GONE))
            return
        self._recovery.cancelling |= cancel
        self._recovery.killing |= kill
        if cancel and not kill:
            self._assigner.occupy(self.size)  # what came before begins, as far as workers are idle
        if cancel or kill:
            self._waiting.cancel_all(started=kill)
            self._dependents.cancel_all()
        if kill:
            self._endings.kill_all()

    def _break(self, error: ExecutorBroken) -> None:
        """Resolve every call with `error`, and refuse new ones."""
        if self._broken:
            return
        self._broken = True
        self._inbox.close(error)
        for message in self._inbox.drain():
            try:
                self._handle_one(message)
            except Exception:  # as of the message that broke it; what is running is resolved below
                _log.exception("a message to the dispatcher was lost")
        in_flight = [block for member in self.crew for block in self.crew.strip(member)]
        self._recovery.give_up(chain(in_flight, self._waiting.drain(), self._dependents.drain()), error)
