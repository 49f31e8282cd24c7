"""The dispatcher keeps its promises for any order of events."""

from __future__ import annotations

import gc
from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule
from manual_cluster import Driver

from thread_chunks._calls.calls import Call
from thread_chunks._calls.series import Delivery, SeriesEnd
from thread_chunks._dispatch import assigner as _assigner
from thread_chunks._dispatch.crew import State
from thread_chunks._dispatch.messages import Abandon, Broken, Cancel, Close, Failed
from thread_chunks.errors import ExecutorBroken, WorkerLost, WorkerOutOfMemory

RETRIES = st.integers(0, 2)


TIMEOUTS = st.sampled_from([None, None, 10.0])

# How many blocks a worker may have.
BLOCKS = {
    State.STARTING: [0],
    State.IDLE: [0],
    State.BUSY: [1, 2],
    State.FOLLOWABLE: [1],
    State.FOLLOWED: [2],
    State.RECALLED: [2],
}


class TurningDriver(Driver):
    """Gives out all blocks that can be given out, though it is not done at once."""

    def pump(self):
        super().pump()
        while self.dispatcher._assigner.unfinished and not self.dispatcher.finished:
            self.dispatcher.turn([])


class Machine(RuleBasedStateMachine):
    """Submit, map, cancel, drop, shut down, lose workers, run out of memory and let time pass, in any order."""

    futures = Bundle("futures")
    series = Bundle("series")

    def __init__(self):
        super().__init__()
        self.at_once, _assigner._AT_ONCE = _assigner._AT_ONCE, 2  # as there are four workers at the most
        self.driver = None
        self.names = 0
        self.submitted = {}  # future -> name
        self.retries = {}  # name -> how often it may be run again
        self.expected = {}  # outbox -> names, for series that were not dropped
        self.received = {}  # outbox -> {label: outcome}
        self.ends = {}  # outbox -> label
        self.closed = self.broken = False
        self.memory_kills = 0  # which use up no retry as long as there are others
        self.limit = None  # how many calls were sent and workers started when all was killed

    def teardown(self):
        _assigner._AT_ONCE = self.at_once
        if self.driver is None:
            return
        self.closed = True
        self.driver.inbox.close()
        self.driver.post(Close())
        for _ in range(10_000):
            if self.driver.dispatcher.finished:
                break
            self.advance()
        assert self.driver.dispatcher.finished, "promise a: it must come to an end"
        for future, name in self.submitted.items():
            assert future.done(), "promise a"
            if not future.cancelled() and future.exception() is None:
                assert future.result() == name
        for outbox, names in self.expected.items():
            self.receive(outbox)
            outcomes, end = self.received[outbox], self.ends.get(outbox, len(names))
            assert sorted(outcomes) == list(range(end)), "promise a: each call of a series has one outcome"
            for label, outcome in outcomes.items():
                assert isinstance(outcome, Exception) or outcome == names[label]
        for name, times in Counter(self.driver.cluster.ran).items():
            allowed = 1 + self.retries[name] + (self.memory_kills if self.retries[name] else 0)
            assert times <= allowed, "promise b: runs at most once, or as often as it may"
        for worker in self.driver.cluster.started:  # the blocks of a worker when the executor breaks
            worker.die()
            worker.mail.clear()
        self.expect_nothing_kept()

    def expect_nothing_kept(self):
        for collect in (lambda: None, gc.collect):  # collecting is slow, and seldom needed
            collect()
            kept = [name for name, reference in self.driver.arguments.items() if reference() is not None]
            if not kept:
                return
        raise AssertionError(f"promise e: {kept}")

    def advance(self):
        """Let the first thing happen that can."""
        for worker in self.driver.cluster.started:
            if worker.dismissed:
                continue
            if worker.killed:
                self.driver.lose(worker)
            elif worker in self.driver.starting:
                self.driver.up(worker)
            elif worker.mail:
                self.driver.deliver(worker)
            elif worker.asked:
                worker.answer_surrender(0)
            elif worker.block is not None:
                self.driver.finish(worker)
            else:
                continue
            return
        self.driver.sleep(10)

    def name(self, retries):
        self.names += 1
        self.retries[self.names] = retries
        return self.names

    def receive(self, outbox):
        while outbox:
            item = outbox.get()
            if isinstance(item, SeriesEnd):
                assert outbox not in self.ends
                self.ends[outbox] = item.first
                continue
            assert isinstance(item, Delivery)
            for index, value in enumerate(item.outcomes.values):
                label = item.first + index
                assert label not in self.received[outbox], "one outcome for each call"
                self.received[outbox][label] = item.outcomes.errors.get(index, value)

    @rule(size=st.integers(1, 4), handed=st.booleans(), max_tasks=st.sampled_from([None, None, 1, 3]))
    @precondition(lambda self: self.driver is None)
    def create(self, size, handed, max_tasks):
        self.driver = TurningDriver(size, limit=size if handed else None, max_tasks=None if handed else max_tasks)
        self.most = size

    @rule(target=futures, retries=RETRIES, timeout=TIMEOUTS)
    @precondition(lambda self: self.driver is not None)
    def submit(self, retries, timeout):
        name, timeout = self.name(retries), timeout if self.driver.cluster.replaceable else None
        try:
            future = self.driver.submit(name, retries=retries, timeout=timeout)
        except RuntimeError:
            assert self.closed or self.driver.dispatcher._broken
            return None
        self.submitted[future] = name
        return future

    @rule(
        target=series,
        count=st.integers(1, 9),
        chunksize=st.none() | st.integers(1, 4),
        retries=RETRIES,
        timeout=TIMEOUTS,
    )
    @precondition(lambda self: self.driver is not None)
    def map(self, count, chunksize, retries, timeout):
        names = [self.name(retries) for _ in range(count)]
        timeout = timeout if self.driver.cluster.replaceable else None
        try:
            series, outbox = self.driver.map(names, chunksize, retries=retries, timeout=timeout)
        except RuntimeError:
            assert self.closed or self.driver.dispatcher._broken
            return None
        self.expected[outbox], self.received[outbox] = names, {}
        return series, outbox

    @rule(item=series, count=st.integers(1, 4))
    def feed(self, item, count):
        if item is None or item[1] not in self.expected:
            return
        series, outbox = item
        for _ in range(count):
            name = self.name(series.limits.retries)
            try:
                self.driver.inbox.feed(series, (self.driver.argument(name),))
            except RuntimeError:
                return
            self.expected[outbox].append(name)
        self.driver.pump()

    @rule(future=futures)
    def cancel(self, future):
        if future is None:
            return
        started = self.submitted[future] in self.driver.cluster.sent
        was_done = future.done() and not future.cancelled()
        assert future.cancel() == (not started and not was_done), "promise c"

    @rule(future=futures)
    def cancel_though_it_runs(self, future):
        if future is not None and not self.driver.dispatcher.finished and self.driver.cluster.replaceable:
            self.driver.cancel(future)

    @rule(first=futures, others=st.lists(futures, max_size=3))
    def cancel_others_when_it_is_done(self, first, others):
        if first is not None and self.driver.cluster.replaceable:
            inbox, dispatcher = self.driver.inbox, self.driver.dispatcher
            for other in others:
                if other is not None:
                    first.add_done_callback(lambda _, other=other: dispatcher.has(other) and inbox.post(Cancel(other)))

    @rule(seconds=st.sampled_from([0.3, 3, 300]))
    @precondition(lambda self: self.driver is not None)
    def sleep(self, seconds):
        self.driver.sleep(seconds)

    @rule(data=st.data())
    @precondition(lambda self: self.driver is not None and self.driver.cluster.replaceable)
    def exceed(self, data):
        alive = [w for w in self.driver.cluster.started if not w.dismissed and not w.killed and not w.retired]
        if alive and not self.driver.dispatcher.finished:
            worker = data.draw(st.sampled_from(alive))
            worker.retire()
            if data.draw(st.booleans()):
                self.driver.deliver(worker, data.draw(st.integers(0, len(worker.mail) - 1)))

    @rule(data=st.data())
    @precondition(lambda self: self.driver is not None and any(w.dismissed for w in self.driver.cluster.started))
    def start_late(self, data):
        """Let the news arrive that a worker is up, which was given up before."""
        gone = [worker for worker in self.driver.cluster.started if worker.dismissed]
        self.driver.up(data.draw(st.sampled_from(gone)))

    @rule(item=consumes(series))
    def abandon(self, item):
        if item is not None:
            series, outbox = item
            self.driver.post(Abandon(series))
            assert not series.calls
            del self.expected[outbox], self.received[outbox]

    @rule(item=series)
    def consume(self, item):
        if item is not None and item[1] in self.expected:
            self.receive(item[1])

    @rule(data=st.data())
    @precondition(lambda self: self.driver is not None)
    def start(self, data):
        if starting := sorted(self.driver.starting, key=self.driver.cluster.started.index):
            self.driver.up(data.draw(st.sampled_from(starting)))

    @rule(data=st.data())
    @precondition(lambda self: self.driver is not None and self.driver.running)
    def finish(self, data):
        self.driver.finish(data.draw(st.sampled_from(self.driver.running)))

    @rule(data=st.data())
    @precondition(lambda self: self.driver is not None and self.driver.running)
    def run_call(self, data):
        worker = data.draw(st.sampled_from(self.driver.running))
        if worker.calls:
            worker.run_call()

    @rule(data=st.data())
    @precondition(lambda self: self.driver is not None and self.driver.running)
    def answer_and_let_it_travel(self, data):
        data.draw(st.sampled_from(self.driver.running)).finish()

    @rule()
    @precondition(lambda self: self.driver is not None and self.driver.running)
    def surrender(self):
        self.driver.surrender()

    @rule(data=st.data(), running=st.integers(0, 1))
    @precondition(lambda self: self.driver is not None and any(w.asked for w in self.driver.cluster.started))
    def answer_surrender(self, data, running):
        asked = [w for w in self.driver.cluster.started if w.asked]
        data.draw(st.sampled_from(asked)).answer_surrender(running)

    @rule(data=st.data())
    @precondition(lambda self: self.driver is not None and self.driver.running)
    def fail(self, data):
        worker = data.draw(st.sampled_from(self.driver.running))
        self.driver.post(Failed(worker, worker.fail(), LookupError("the message was lost")))

    @rule(data=st.data())
    @precondition(lambda self: self.driver is not None and any(w.mail for w in self.driver.cluster.started))
    def deliver(self, data):
        worker = data.draw(st.sampled_from([w for w in self.driver.cluster.started if w.mail]))
        self.driver.deliver(worker, data.draw(st.integers(0, len(worker.mail) - 1)))

    @rule(data=st.data(), error=st.sampled_from([WorkerLost, WorkerOutOfMemory]))
    @precondition(lambda self: self.driver is not None and self.driver.dispatcher.workers)
    def lose(self, data, error):
        alive = [worker for worker in self.driver.cluster.started if not worker.dismissed]
        self.memory_kills += error is WorkerOutOfMemory
        if alive:
            self.driver.lose(data.draw(st.sampled_from(alive)), error)

    @rule()
    @precondition(lambda self: self.driver is not None and self.names > 15)  # rarely: it ends the run
    def break_(self):
        self.driver.post(Broken(lambda: ExecutorBroken("no")))

    @rule(cancel=st.booleans(), kill=st.booleans())
    @precondition(lambda self: self.driver is not None and self.names > 8)
    def close(self, cancel, kill):
        self.closed = True
        self.driver.inbox.close()
        self.driver.post(Close(cancel, kill))
        if kill and self.limit is None:
            self.limit = len(self.driver.cluster.sent), len(self.driver.cluster.started)

    @invariant()
    def records(self):
        if self.driver is None or self.driver.dispatcher.finished:
            return
        crew = self.driver.dispatcher.crew
        members = list(crew)
        assert len(members) == len(set(members)) == len(crew), "each record is in exactly one set"
        indices = {member.index for member in members}
        assert len(indices) == len(members), "each worker has a number of its own"
        assert indices <= set(range(self.most)), "a number below that of workers"
        sets = {
            State.STARTING: crew.starting,
            State.IDLE: crew.idle,
            State.FOLLOWABLE: crew.followable,
            State.FOLLOWED: crew.followed,
        }
        in_flight = [assignment.block for _, assignment in crew.in_flight]
        assert len(in_flight) == len(set(in_flight)), "a block is in flight with exactly one worker"
        for member in members:
            found = [state for state, those in sets.items() if member in those]
            assert found == [state for state in sets if state is member.state]
            assert crew.find(member.worker) is member
            assert not member.worker.dismissed
            assert len(member.assignments) in BLOCKS[member.state]
            assert set(member.worker.blocks) <= {assignment.block for assignment in member.assignments}
            for assignment in member.assignments:
                was_asked = assignment.block in member.worker.asked
                assert assignment.asked is not None or not was_asked, "it knows what it asked for"
            if member.state is State.FOLLOWED:
                assert member.assignments[1].asked is None
            if member.kill_reason is not None:
                assert member.state is State.BUSY, "it gets nothing more, and is killed when it has nothing"

    @invariant()
    def promises(self):
        if self.driver is None:
            return
        dispatcher = self.driver.dispatcher
        sent = len(self.driver.cluster.sent), len(self.driver.cluster.started)
        assert self.limit in (None, sent), "nothing starts after a kill"
        assert len(self.driver.running) <= dispatcher.size or dispatcher.finished, "promise b"
        if self.driver.idle and not dispatcher.finished:
            waiting = [item for item in dispatcher._waiting if not (isinstance(item, Call) and item.future.cancelled())]
            assert not waiting, "promise d: nothing waits while a worker is idle"


TestMachine = Machine.TestCase


TestMachine.settings = settings(
    max_examples=500, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
