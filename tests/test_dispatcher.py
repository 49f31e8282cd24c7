"""The dispatcher, driven message by message, without threads and without Ray."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections import Counter
from concurrent.futures import CancelledError, Future

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from thread_chunks._calls.calls import Call, Given, Limits, Outcomes
from thread_chunks._calls.functions import Function, Parcel
from thread_chunks._calls.mailbox import Mailbox
from thread_chunks._calls.series import Delivery, Series, SeriesEnd
from thread_chunks._calls.supply import Supply
from thread_chunks._dispatch import assigner as _assignment
from thread_chunks._dispatch.dispatcher import Dispatcher
from thread_chunks._dispatch.inbox import Inbox
from thread_chunks._dispatch.messages import (
    Abandon,
    Broken,
    Cancel,
    Close,
    Exceeded,
    Failed,
    Finished,
    Inspect,
    Lost,
    StartAll,
    Started,
    Store,
    Surrendered,
)
from thread_chunks.errors import CallTimeout, ExecutorBroken, WorkerLost, WorkerOutOfMemory


class Argument:
    """What calls are made with; may be referred to weakly."""

    def __init__(self, name):
        self.name = name


class ManualWorker:
    """Does nothing by itself: the test says when it is up, runs a call, surrenders, finishes or dies.

    What it answers lies in `mail` until the test delivers it.
    """

    place, host, pid = "here", "here", 0

    def __init__(self, cluster):
        self.handle = self
        self.cluster = cluster
        self.node = f"node {len(cluster.started)}"
        self.blocks = []  # as they were sent; the first one runs
        self.given_back = set()  # blocks that were surrendered before they began
        self.retired = False
        self.dismissed = False
        self.killed = False
        self.asked = []  # blocks that it was asked to surrender
        self.mail = []

    @property
    def block(self):
        return self.blocks[0] if self.blocks else None

    def run(self, block):
        assert not self.dismissed
        assert len(self.blocks) < 2, "one block ahead at the most"
        self.blocks.append(block)
        self.cluster.sent.extend(arguments[0].name for arguments in block.calls)
        if len(self.blocks) == 1:
            self.begin()
        return True

    def begin(self):
        self.calls = list(self.block.calls)  # as the actor has them; those that were run are taken off
        self.outcomes = []
        self.handed = 0
        self.left = 0  # how many calls are given back with the next answer
        if self.block in self.given_back:
            self.calls.clear()
        elif self.retired:
            self.give_up()

    @property
    def done(self):
        return len(self.outcomes)

    def run_call(self):
        """Run one call of the block."""
        (argument,) = self.calls.pop(0)
        self.cluster.ran.append(argument.name)
        self.outcomes.append(argument.name)

    def take(self):
        """Hand over the outcomes that were not yet."""
        outcomes = Outcomes(self.outcomes[self.handed :], offset=self.handed)
        self.handed = self.done
        return outcomes

    def give_up(self, keep=0):
        """Give back the calls that have not been run, but for the first of them."""
        self.left += max(0, len(self.calls) - keep)
        del self.calls[keep:]

    def finish(self):
        """Run the calls that are left, and answer."""
        while self.calls:
            self.run_call()
        self.end()

    def end(self):
        """Answer for the block that runs, and begin the next."""
        outcomes, block, left = self.take(), self.blocks.pop(0), self.left
        self.calls = self.outcomes = None
        self.mail.append(Finished(self, block, lambda: outcomes, left))
        if self.blocks:
            self.begin()

    def die(self):
        self.blocks, self.asked, self.calls, self.outcomes = [], [], None, None

    def answer_surrender(self, running):
        """Give back the calls that have not started; `running` is how many have but did not finish."""
        block = self.asked.pop(0)
        if block not in self.blocks:
            return
        if block is not self.block:
            self.given_back.add(block)
            self.mail.append(Surrendered(self, block, lambda: Outcomes([]), len(block.calls)))
            return
        self.give_up(running)
        outcomes, left, self.left = self.take(), self.left, 0
        if self.calls:
            outcomes.running = 1e-9
        self.mail.append(Surrendered(self, block, lambda: outcomes, left))

    def surrender(self, block):
        self.asked.append(block)

    def retire(self):
        """Have too much memory: begin nothing any more."""
        self.retired = True
        if self.block is not None:
            self.give_up(1)
        self.mail.append(Exceeded(self, WorkerOutOfMemory("too much"), self.block))

    def store(self, function):
        self.stored = function

    def dismiss(self):
        assert not self.dismissed
        self.dismissed = True

    def kill(self):
        self.killed = True
        self.die()


class ManualCluster:
    def __init__(self, limit=None):
        self.replaceable = self.interruptible = limit is None
        self.limit = limit
        self.started = []
        self.sent = []  # the name of each call that was sent to a worker
        self.ran = []  # the name of each call that was run
        self.closed = False
        self.alive = True
        self.leaving = set()
        self.homes = {}  # the node that has the arguments of a call, by the call's name
        self.needs = "nothing"

    def home_of(self, block):
        return self.homes.get(block.calls[0][0].name, "")

    def start_worker(self, post):
        assert self.limit is None or len(self.started) < self.limit
        self.started.append(ManualWorker(self))
        return self.started[-1]

    def reachable(self):
        return self.alive

    def close(self):
        self.closed = True


class Driver:
    """A dispatcher with the means to feed it."""

    def __init__(self, size, limit=None, max_tasks=None):
        self.cluster = ManualCluster(limit)
        self.function = Function(None, Parcel(b"stored"))
        self.inbox = Inbox()
        self.now = 0.0
        self.dispatcher = Dispatcher(self.cluster, self.inbox, size, max_tasks, lambda: self.now)
        self.arguments = {}  # weak references, by name

    def argument(self, name):
        argument = Argument(name)
        self.arguments[name] = weakref.ref(argument)
        return argument

    def pump(self):
        for message in self.inbox.drain():
            if not self.dispatcher.finished:
                self.dispatcher.handle([message])
                self.dispatcher.ring(self.now)

    def submit(self, name, **limits):
        call = Call(self.function, Given((self.argument(name),), {}), Limits(**limits))
        self.inbox.admit(call)
        self.pump()
        return call.future

    def map(self, names, chunksize=None, **limits):
        outbox = Mailbox()
        series = Series(self.function, weakref.ref(outbox), chunksize, limits=Limits(**limits))
        series.calls = Supply([[self.argument(name) for name in names]])
        self.inbox.admit(series)
        self.pump()
        return series, outbox

    def post(self, message):
        self.inbox.post(message)
        self.pump()

    def cancel(self, future):
        if future.done() or not self.dispatcher.has(future):
            return False
        self.post(Cancel(future))
        return True

    def up(self, worker):
        self.post(Started(worker))

    def finish(self, worker):
        worker.finish()
        self.deliver(worker)

    def deliver(self, worker, index=0):
        self.post(worker.mail.pop(index))

    def surrender(self):
        """Let the time come at which each running block is overdue."""
        self.sleep(1000)

    def sleep(self, seconds):
        """Let time pass."""
        self.now += seconds
        if not self.dispatcher.finished:
            self.dispatcher.ring(self.now)

    def lose(self, worker, error=WorkerLost):
        worker.die()
        self.post(Lost(worker, error("died")))

    def exceed(self, worker):
        """Let a worker find out that it has too much memory."""
        worker.retire()
        self.deliver(worker)

    @property
    def running(self):
        return [worker for worker in self.cluster.started if worker.blocks]


def test_workers_start_when_there_is_work_for_them():
    driver = Driver(3)
    assert driver.cluster.started == []
    driver.submit("a")
    driver.submit("b")
    assert len(driver.cluster.started) == 2
    driver.map("cdefgh")
    assert len(driver.cluster.started) == 3


def test_all_workers_start_at_once_when_asked_to():
    driver = Driver(3)
    driver.post(StartAll())
    assert len(driver.cluster.started) == 3


def test_stored_function_is_replaced_in_all_workers():
    driver = Driver(3)
    driver.submit("a")
    driver.submit("b")
    driver.up(driver.cluster.started[0])
    driver.post(Store(driver.function))
    assert [worker.stored for worker in driver.cluster.started] == [driver.function] * 2


def test_idle_workers_are_used_before_more_are_started():
    driver = Driver(3)
    driver.submit("a")
    driver.up(driver.cluster.started[0])
    driver.finish(driver.cluster.started[0])
    driver.submit("b")
    assert len(driver.cluster.started) == 1


def test_a_worker_that_is_not_up_holds_no_call():
    driver = Driver(2)
    futures = [driver.submit(name) for name in "ab"]
    first, second = driver.cluster.started
    driver.up(second)
    driver.finish(second)
    driver.finish(second)
    assert [future.result() for future in futures] == ["a", "b"]
    assert first.block is None


def test_calls_are_started_in_the_order_of_submission():
    driver = Driver(1)
    driver.submit("a")
    driver.map("bc")
    driver.submit("d")
    driver.map("ef", chunksize=2)
    (worker,) = driver.cluster.started
    driver.up(worker)
    while worker.block:
        driver.finish(worker)
    assert driver.cluster.sent == list("abcdef")


def test_lost_worker_is_replaced_while_calls_remain():
    driver = Driver(1)
    lost, waiting = driver.submit("a"), driver.submit("b")
    driver.up(driver.cluster.started[0])
    driver.lose(driver.cluster.started[0])
    assert isinstance(lost.exception(0), WorkerLost)
    assert driver.cluster.started[0].dismissed
    driver.up(driver.cluster.started[1])
    driver.finish(driver.cluster.started[1])
    assert waiting.result(0) == "b"
    driver.lose(driver.cluster.started[1])
    assert len(driver.cluster.started) == 2, "nothing remains, so no worker is started"


def test_workers_that_die_at_their_start_break_the_executor(caplog):
    driver = Driver(2)
    future = driver.submit("a")
    for number in range(5):
        assert not future.done()
        assert len(driver.cluster.started) == number + 1
        driver.lose(driver.cluster.started[number])
        driver.sleep(0.4 * 2**number)
        assert len(driver.cluster.started) == number + 1, "the next one is waited for, longer each time"
        driver.sleep(0.2 * 2**number)
    assert "in a row" in str(future.exception(0))
    with pytest.raises(ExecutorBroken, match="in a row"):
        driver.submit("b")


def test_workers_that_cannot_be_started_do_no_harm_to_those_that_run(caplog):
    driver = Driver(3)
    running = driver.submit("a")
    driver.up(driver.cluster.started[0])
    waiting = [driver.submit(name) for name in "bc"]
    for number in range(1, 10):  # they are started by twos, which count once
        driver.lose(driver.cluster.started[number])
        driver.sleep(10)
    assert "going on" in caplog.text
    while driver.running:
        driver.finish(driver.running[0])
    assert [future.result(0) for future in [running, *waiting]] == ["a", "b", "c"]


def test_nothing_is_waited_for_when_the_cluster_is_gone():
    driver = Driver(1)
    running, waiting = driver.submit("a"), driver.submit("b")
    driver.up(driver.cluster.started[0])
    driver.cluster.alive = False
    driver.inbox.close()
    driver.post(Close())
    assert driver.dispatcher.finished
    for future in (running, waiting):
        assert "Ray was shut down" in str(future.exception(0))


def test_answer_of_a_worker_that_was_given_up():
    driver = Driver(1)
    future = driver.submit("a")
    (worker,) = driver.cluster.started
    driver.up(worker)
    worker.finish()
    driver.lose(worker)
    driver.deliver(worker)
    assert isinstance(future.exception(0), WorkerLost)


def test_only_deaths_in_a_row_break_the_executor():
    driver = Driver(1)
    future = driver.submit("a")
    for _ in range(3):
        for _ in range(4):  # a call that came to an end between them, though by the loss of its worker
            driver.lose(driver.cluster.started[-1])
            driver.sleep(10)
        driver.up(driver.cluster.started[-1])
        driver.lose(driver.cluster.started[-1])
        assert isinstance(future.exception(0), WorkerLost)
        future = driver.submit("b")
    driver.up(driver.cluster.started[-1])
    driver.finish(driver.cluster.started[-1])
    assert future.result(0) == "b"


def test_actors_of_the_user_are_not_replaced():
    driver = Driver(3, limit=3)
    driver.post(StartAll())
    for worker in driver.cluster.started[:2]:
        driver.lose(worker)
    future = driver.submit("a")
    assert driver.dispatcher.size == 1
    driver.up(driver.cluster.started[2])
    driver.finish(driver.cluster.started[2])
    assert future.result(0) == "a"
    driver.lose(driver.cluster.started[2])
    with pytest.raises(ExecutorBroken, match="all actors"):
        driver.submit("b")


def test_worker_that_cannot_be_started_breaks_the_executor():
    driver = Driver(1)
    driver.cluster.start_worker = lambda post: 1 / 0
    future = driver.submit("a")
    assert isinstance(future.exception(0), ExecutorBroken)
    assert isinstance(future.exception(0).__cause__, ZeroDivisionError)


def test_failure_of_the_dispatcher_itself_resolves_everything(caplog):
    driver = Driver(2)
    caplog.set_level(logging.CRITICAL, "thread_chunks")
    futures = [driver.submit(name) for name in "abc"]
    _, outbox = driver.map("xyz")
    driver.up(driver.cluster.started[0])
    thread = threading.Thread(target=driver.dispatcher.run)
    driver.inbox.post("nonsense")  # falls through, does no harm
    worker = driver.cluster.started[0]
    driver.inbox.post(Finished(worker, worker.block, lambda: 1 / 0))
    late = Call(driver.function, Given((Argument("late"),), {}))
    driver.inbox.admit(late)
    answer = Future()
    driver.inbox.admit(Inspect(lambda: driver.dispatcher.size, answer))
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    for future in [*futures, late.future]:
        assert "the executor itself failed" in str(future.exception(0))
    assert isinstance(outbox.get(timeout=0), SeriesEnd)
    assert answer.result(0) == 2
    assert driver.cluster.closed
    assert all(worker.dismissed for worker in driver.cluster.started)
    with pytest.raises(ExecutorBroken):
        driver.submit("d")


def test_cancelled_call_lets_go_of_its_arguments_while_it_stands_in_the_queue():
    driver = Driver(1)
    driver.submit("a")
    future = driver.submit("b")
    reference = weakref.ref(list(driver.dispatcher._waiting)[-1].given.args[0])
    future.cancel()
    assert driver.dispatcher._waiting
    assert reference() is None


def test_future_that_somebody_else_resolved(caplog):
    driver = Driver(1)
    stolen, other = driver.submit("a"), driver.submit("b")
    driver.up(driver.cluster.started[0])
    taken = driver.submit("c")
    taken.set_result("mine")
    stolen.set_result("mine")
    driver.finish(driver.cluster.started[0])
    driver.finish(driver.cluster.started[0])
    assert other.result(0) == "b"
    assert "c" not in driver.cluster.ran
    assert "resolved by somebody else" in caplog.text


def test_what_was_given_up_needs_no_worker_to_come_to_an_end():
    driver = Driver(1)
    future = driver.submit("a")
    series, _outbox = driver.map("bc")
    future.cancel()
    driver.post(Abandon(series))
    driver.inbox.close()
    driver.post(Close())
    assert driver.dispatcher.finished


def test_worker_that_has_run_all_it_may_is_replaced():
    driver = Driver(1, max_tasks=3)
    driver.function.parcel.pace.observe(1000, 1e-6)
    driver.map("abcdefgh", chunksize=2)
    first, series = driver.cluster.started[0], "ijklm"
    driver.up(first)
    for sent in ("abcd", "abcdef"):
        driver.finish(first)
        assert "".join(driver.cluster.sent) == sent
        assert not first.dismissed, "a block whose length the user chose is one task"
    driver.finish(first)
    assert first.dismissed
    _, second = driver.cluster.started
    driver.map(series)
    driver.up(second)
    driver.finish(second)
    assert driver.cluster.sent[8:] == ["i", "j"], "two tasks are left"
    driver.finish(second)
    assert second.dismissed
    *_, third = driver.cluster.started
    driver.up(third)
    assert driver.cluster.sent[10:] == ["k", "l", "m"]
    driver.finish(third)
    assert third.dismissed
    assert len(driver.cluster.started) == 3, "there is no work for another"


def test_blocks_of_the_length_that_the_user_asked_for():
    for chunksize, lengths in ((1, [1] * 7), (3, [3, 3, 1]), (100, [7])):
        driver, sent = Driver(1), []
        driver.map("abcdefg", chunksize)
        (worker,) = driver.cluster.started
        driver.up(worker)
        while worker.block is not None:
            sent.append(len(worker.block.calls))
            driver.surrender()
            assert not worker.asked, "it is not taken back"
            driver.finish(worker)
        assert sent == lengths


def fast_driver(size=2):
    """Return a driver that knows that calls take no time, and its workers."""
    driver = Driver(size)
    driver.function.parcel.pace.observe(1000, 1e-6)
    driver.post(StartAll())
    for worker in driver.cluster.started:
        driver.up(worker)
    return driver, driver.cluster.started


def test_actors_of_the_user_get_one_call_at_a_time():
    # Theirs may lack the group of threads in which a block is surrendered.
    driver = Driver(1, limit=1)
    driver.function.parcel.pace.observe(1000, 1e-6)
    driver.map("abc")
    driver.map("def", chunksize=3)
    (worker,) = driver.cluster.started
    driver.up(worker)
    sent = []
    while worker.block is not None:
        sent.append(len(worker.block.calls))
        driver.finish(worker)
    assert sent == [1, 1, 1, 3]


def test_submitted_calls_travel_together():
    driver, (worker,) = fast_driver(1)
    first = driver.submit("a")
    rest = [driver.submit(name) for name in "bcd"]
    rest[1].cancel()
    assert rest[0].running(), "it waits behind the one that runs"
    rest += [driver.submit(name) for name in "ef"]
    driver.finish(worker)
    assert [[arguments[0].name for arguments in block.calls] for block in worker.blocks] == [["b"], ["d", "e", "f"]]
    driver.finish(worker)
    driver.finish(worker)
    del rest[1]
    assert [future.result(0) for future in (first, *rest)] == ["a", "b", "d", "e", "f"]


def test_surrender():
    driver, (worker, other) = fast_driver()
    _, outbox = driver.map("abcdef")
    worker, other = sorted((worker, other), key=lambda worker: worker.block is None)
    worker.run_call()
    driver.surrender()
    assert worker.asked
    worker.answer_surrender(running=1)
    driver.deliver(worker)
    assert outbox.get(timeout=0).outcomes.values == ["a"], "what is finished arrives"
    assert [arguments[0].name for arguments in other.block.calls] == ["c"], "one at a time: the pace was wrong"
    driver.finish(other)
    assert outbox.get(timeout=0).outcomes.values == ["c"]
    driver.finish(worker)
    assert outbox.get(timeout=0).outcomes.values == ["b"]


def test_worker_that_gives_back_calls_with_the_end_of_its_block():
    driver, (worker,) = fast_driver(1)
    _, outbox = driver.map("abcd")
    driver.surrender()
    for _ in range(2):
        worker.run_call()
    worker.give_up()
    worker.end()
    driver.deliver(worker)
    assert outbox.get(timeout=0).outcomes.values == ["a", "b"]
    assert [arguments[0].name for arguments in worker.block.calls] == ["c", "d"]


def values_in(outbox):
    """Return the values in an outbox, and the types of the errors, in the order of the calls."""
    found = {}
    while outbox:
        item = outbox.get()
        if isinstance(item, Delivery):
            for label, value in enumerate(item.outcomes.values, item.first):
                error = item.outcomes.errors.get(label - item.first)
                found[label] = value if error is None else type(error)
    return [found[label] for label in sorted(found)]


@pytest.mark.parametrize("has_passed", [False, True])
def test_what_is_finished_is_brought_to_safety_before_all_workers_are_killed(has_passed):
    driver, (worker,) = fast_driver(1)
    driver.function.parcel.pace.observe(1000, 20.0)
    _, outbox = driver.map("abcdefghijkl")
    first, second = worker.blocks
    assert len(first.calls) > 1 < len(second.calls)
    names = [arguments[0].name for block in (first, second) for arguments in block.calls]
    if has_passed:
        worker.finish()  # the answer is on its way
    worker.run_call()
    driver.post(Close(cancel=True, kill=True))
    assert not worker.killed
    while worker.asked:
        worker.answer_surrender(1)
    while worker.mail:
        assert not worker.killed
        driver.deliver(worker)
    assert worker.killed
    driver.post(Lost(worker, WorkerLost("killed")))
    assert driver.dispatcher.finished
    done = len(first.calls) + 1 if has_passed else 1
    assert values_in(outbox) == [*names[:done], WorkerLost] + [CancelledError] * (len(names) - done - 1)
    assert driver.cluster.ran[-1] == names[done - 1], "nothing began after that"


def test_a_worker_that_gives_back_all_of_its_block_is_killed_too():
    # It still loads the function, say.
    driver, (worker,) = fast_driver(1)
    _, outbox = driver.map("abc", chunksize=3)
    driver.post(Close(cancel=True, kill=True))
    worker.answer_surrender(0)
    driver.deliver(worker)
    assert worker.killed
    driver.post(Lost(worker, WorkerLost("killed")))
    assert driver.dispatcher.finished
    assert values_in(outbox) == [CancelledError] * 3


def test_a_worker_that_does_not_answer_is_killed_all_the_same():
    driver, (worker,) = fast_driver(1)
    futures = [driver.submit(name) for name in "abc"]
    driver.finish(worker)
    driver.cancel(futures[2])
    driver.post(Close(cancel=True, kill=True))
    assert not worker.killed
    driver.sleep(1)
    assert worker.killed


def test_a_call_that_is_over_when_its_worker_is_killed_has_its_outcome():
    driver, (worker,) = fast_driver(1)
    future = driver.submit("a")
    worker.finish()
    driver.post(Close(cancel=True, kill=True))
    driver.deliver(worker)
    driver.post(Lost(worker, WorkerLost("killed")))
    assert future.result(0) == "a"


def test_no_worker_is_started_after_a_kill():
    driver = Driver(100)
    driver.submit("a")
    driver.inbox.post(StartAll())
    driver.dispatcher.turn([])
    driver.up(driver.cluster.started[0])
    started = len(driver.cluster.started)
    assert 1 < started < 100
    driver.inbox.post(Close(cancel=True, kill=True))
    for _ in range(5):
        driver.dispatcher.turn([])
    assert len(driver.cluster.started) == started
    assert all(worker.killed for worker in driver.cluster.started)


def test_what_came_while_it_was_found_out_that_ray_is_gone_has_its_outcome():
    driver, (worker,) = fast_driver(1)
    future = driver.submit("a")

    def reachable():
        driver.inbox.post(Lost(worker, WorkerLost("died")))
        return False

    driver.cluster.reachable = reachable
    driver.sleep(10)
    assert driver.dispatcher.finished
    assert isinstance(future.exception(0), WorkerLost)


def test_a_look_that_takes_seconds_is_not_followed_by_the_next_at_once():
    driver, _ = fast_driver(1)
    driver.submit("a")

    def reachable():
        driver.now += 3
        return True

    driver.cluster.reachable = reachable
    driver.sleep(10)
    assert driver.dispatcher.patience() == pytest.approx(2)


def test_workers_that_cannot_be_started_are_not_waited_for():
    driver = Driver(10)
    start_worker = driver.cluster.start_worker

    def refuse(post):
        if len(driver.cluster.started) == 2:
            raise RuntimeError("no more")
        return start_worker(post)

    driver.cluster.start_worker = refuse
    driver.map("abcdefghij")
    assert driver.dispatcher.size == 2
    assert driver.dispatcher.patience() != 0.0


def test_all_workers_start_though_one_was_of_no_use():
    driver = Driver(3)
    driver.submit("a")
    driver.lose(driver.cluster.started[0])
    driver.post(StartAll())
    assert len(driver.cluster.started) == 1
    driver.sleep(driver.dispatcher.patience())
    assert len(driver.cluster.started) == 4


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("given_back_first", [False, True])
def test_calls_given_back_around_a_cancellation(kill, given_back_first):
    driver, (worker,) = fast_driver(1)
    blocker, behind = driver.submit("x"), driver.submit("y")
    futures = [driver.submit(name) for name in "abc"]
    driver.finish(worker)
    driver.finish(worker)
    assert behind.result(0) == "y"
    driver.surrender()
    worker.run_call()
    worker.answer_surrender(running=0)
    driver.inbox.close()
    if given_back_first:
        driver.deliver(worker)
        driver.post(Close(cancel=True, kill=kill))
    else:
        driver.post(Close(cancel=True, kill=kill))
        driver.deliver(worker)
    if kill:
        driver.lose(worker)
    while driver.running:
        driver.finish(driver.running[0])
    assert driver.dispatcher.finished
    assert blocker.result(0) == "x"
    assert all(future.done() for future in futures)
    # They count as running, and so are run, unless they are killed.
    assert [future.exception(0) is None for future in futures] == [True, not kill, not kill]


def test_surrender_that_comes_too_late():
    driver, (worker,) = fast_driver(1)
    _, outbox = driver.map("abc")
    driver.surrender()
    worker.finish()
    worker.answer_surrender(running=0)
    driver.deliver(worker)
    assert outbox.get(timeout=0).outcomes.values == ["a", "b", "c"]
    assert driver.dispatcher.crew.idle == [worker]


def test_surrender_and_the_end_of_the_block_cross():
    driver, (worker,) = fast_driver(1)
    _, outbox = driver.map("abc")
    driver.surrender()
    worker.run_call()
    worker.answer_surrender(running=1)
    worker.finish()
    driver.deliver(worker, 1)  # the end overtakes
    assert outbox.get(timeout=0).outcomes.values == ["b"]
    assert driver.dispatcher.crew.idle == [], "the rest is still to come"
    driver.deliver(worker)
    assert outbox.get(timeout=0).outcomes.values == ["a"]
    assert [arguments[0].name for arguments in worker.block.calls] == ["c"]


def test_surrender_by_a_worker_that_dies():
    driver, (worker, _) = fast_driver()
    futures = [driver.submit(name) for name in "abcdefgh"]
    while all(len(running.block.calls) == 1 for running in driver.running):
        driver.finish(driver.running[0])
    worker = max(driver.running, key=lambda worker: len(worker.block.calls))
    calls = [arguments[0].name for arguments in worker.block.calls]
    driver.surrender()
    worker.run_call()
    worker.answer_surrender(running=1)
    driver.deliver(worker)
    driver.lose(worker)
    lost = [future for future in futures if future.done() and future.exception() is not None]
    assert [futures.index(future) for future in lost] == ["abcdefgh".index(calls[1])]
    while driver.running:
        driver.finish(driver.running[0])
    assert sum(future.done() for future in futures) == 8


def test_calls_that_were_given_back_are_cancelled_with_their_series():
    driver, (worker,) = fast_driver(1)
    series, outbox = driver.map("abc")
    driver.surrender()
    worker.run_call()
    worker.answer_surrender(running=0)
    driver.post(Abandon(series))
    driver.deliver(worker)
    driver.finish(worker)
    assert worker.block is None
    assert driver.cluster.ran == ["a"]
    del outbox


def test_calls_that_were_given_back_when_the_executor_is_shut_down():
    driver, (worker,) = fast_driver(1)
    _, outbox = driver.map("abc")
    driver.surrender()
    worker.run_call()
    worker.answer_surrender(running=1)
    driver.deliver(worker)
    driver.inbox.close()
    driver.post(Close(cancel=True))
    driver.finish(worker)
    assert driver.dispatcher.finished
    outcomes = [outbox.get(timeout=0).outcomes for _ in range(3)]
    assert sorted(outcome.values for outcome in outcomes if not outcome.errors) == [["a"], ["b"]]
    assert [type(outcome.errors[0]) for outcome in outcomes if outcome.errors] == [CancelledError]


# Limits


def test_lost_calls_are_run_again_alone():
    driver, (worker,) = fast_driver(1)
    _, outbox = driver.map("abcd", retries=1)
    assert len(worker.block.calls) > 1
    worker.run_call()
    driver.lose(worker)
    assert not outbox
    second = driver.cluster.started[-1]
    driver.up(second)
    for name in "abcd"[: len(worker.mail) + 2]:
        assert [arguments[0].name for arguments in second.block.calls] == [name]
        assert len(second.blocks) == 1, "nothing behind it"
        driver.finish(second)
    while driver.running:
        driver.finish(second)
    got = {}
    while outbox:
        delivery = outbox.get()
        got.update(enumerate(delivery.outcomes.values, delivery.first))
    assert got == dict(enumerate("abcd"))


def test_call_that_ends_its_worker_each_time():
    driver = Driver(1)
    guilty, innocent = driver.submit("a", retries=2), driver.submit("b")
    for _ in range(3):
        assert not guilty.done()
        driver.up(driver.cluster.started[-1])
        driver.cluster.started[-1].run_call()
        driver.lose(driver.cluster.started[-1])
    assert isinstance(guilty.exception(0), WorkerLost)
    driver.up(driver.cluster.started[-1])
    driver.finish(driver.cluster.started[-1])
    assert innocent.result(0) == "b"
    assert driver.dispatcher.tallies["the stored function"].retries == 2


@pytest.mark.parametrize("retries", [0, 1])
def test_killed_for_memory(retries, caplog):
    driver = Driver(3)
    futures = [driver.submit(name, retries=retries) for name in "abc"]
    for worker in driver.cluster.started:
        driver.up(worker)
    for size in (2, 1):
        driver.lose(driver.running[-1], WorkerOutOfMemory)
        assert driver.dispatcher.size == size
        assert f"chunk_size={size} would fit" in caplog.text
    assert len(driver.cluster.started) == 3, "they are not replaced"
    driver.lose(driver.running[0], WorkerOutOfMemory)
    assert driver.dispatcher.size == 1
    while not all(future.done() for future in futures):
        if not driver.running:
            driver.up(driver.cluster.started[-1])
        driver.finish(driver.running[0])
    failed = [future for future in futures if future.exception(0) is not None]
    assert len(failed) == (0 if retries else 3)


def test_killed_for_memory_while_only_one_runs():
    driver = Driver(1)
    future = driver.submit("a", retries=1)
    for _ in range(2):
        driver.up(driver.cluster.started[-1])
        driver.lose(driver.running[0], WorkerOutOfMemory)
    assert isinstance(future.exception(0), WorkerOutOfMemory)
    assert isinstance(future.exception(0), MemoryError)


def test_memory_limit():
    driver, (worker,) = fast_driver(1)
    _, outbox = driver.map("abcd")
    while len(worker.block.calls) == 1:
        driver.finish(worker)
    worker.run_call()
    first = worker.calls[0][0].name
    driver.exceed(worker)
    assert not worker.killed, "what is finished is brought to safety"
    worker.answer_surrender(1)
    driver.deliver(worker)
    assert worker.killed
    second = driver.cluster.started[-1]
    assert second is not worker
    driver.up(second)
    while driver.running:
        driver.finish(second)
    got = {}
    while outbox:
        delivery = outbox.get()
        for index, value in enumerate(delivery.outcomes.values):
            got["abcd"[delivery.first + index]] = delivery.outcomes.errors.get(index, value)
    assert isinstance(got.pop(first), WorkerOutOfMemory)
    assert all(name == value for name, value in got.items())
    assert len(got) == 3


def answer(worker, running, seconds):
    """Let a worker say since when a call runs."""
    worker.answer_surrender(running)
    worker.mail[-1].collect().running = seconds


def test_time_out():
    driver = Driver(1)
    future, following = driver.submit("a", timeout=5), driver.submit("b", timeout=5)
    (worker,) = driver.cluster.started
    driver.sleep(100)
    driver.up(worker)
    driver.sleep(6)
    answer(worker, 1, seconds=4.0)  # the function had to be loaded
    driver.deliver(worker)
    driver.sleep(0.9)
    assert not future.done(), "it counts from its start"
    driver.sleep(0.2)
    assert isinstance(future.exception(0), CallTimeout)
    assert worker.killed
    driver.up(driver.cluster.started[-1])
    driver.sleep(4)
    driver.finish(driver.cluster.started[-1])
    assert following.result(0) == "b"
    driver.sleep(100)
    assert not driver.cluster.started[-1].killed


def test_time_out_in_a_block():
    driver, (worker,) = fast_driver(1)
    _, outbox = driver.map("abcd", chunksize=4, timeout=5)
    worker.run_call()
    driver.sleep(6)
    answer(worker, 1, seconds=2.0)
    driver.deliver(worker)
    driver.sleep(2.9)
    assert not worker.killed
    driver.sleep(0.2)
    assert worker.killed
    driver.up(driver.cluster.started[-1])
    while driver.running:
        driver.finish(driver.running[0])
    got = {}
    while outbox:
        delivery = outbox.get()
        for index, value in enumerate(delivery.outcomes.values):
            got["abcd"[delivery.first + index]] = delivery.outcomes.errors.get(index, value)
    assert isinstance(got.pop("b"), CallTimeout)
    assert got == {name: name for name in "acd"}


def test_time_out_of_a_worker_that_does_not_answer():
    driver, (worker,) = fast_driver(1)
    _, outbox = driver.map("abc", chunksize=3, timeout=5)
    for _ in range(3):
        assert not worker.killed
        driver.sleep(5)
    assert worker.killed
    assert [type(error) for error in outbox.get(timeout=0).outcomes.errors.values()] == [WorkerLost] * 3


@pytest.mark.parametrize("finishes", [False, True])
def test_cancel_of_a_call_that_runs(finishes):
    driver, (worker,) = fast_driver(1)
    futures = [driver.submit(name) for name in "abcde"]
    while len(worker.block.calls) == 1:
        driver.finish(worker)
    names = [arguments[0].name for arguments in worker.block.calls]
    wanted = futures["abcde".index(names[0])]
    driver.cancel(wanted)
    if finishes:
        worker.run_call()
    while worker.asked:
        worker.answer_surrender(running=1)
    while worker.mail:
        driver.deliver(worker)
    assert worker.killed != finishes
    while driver.running or driver.dispatcher.crew.starting:
        for starting in list(driver.dispatcher.crew.starting):
            driver.up(starting)
        driver.finish(driver.running[0])
    if finishes:
        assert wanted.result(0) == names[0]
    else:
        assert isinstance(wanted.exception(0), CancelledError)
    assert all(future.result(0) == name for future, name in zip(futures, "abcde", strict=True) if future is not wanted)


def test_cancel_of_a_call_that_stands_behind_another_one():
    driver, (worker,) = fast_driver(1)
    futures = [driver.submit(name) for name in "abcde"]
    while len(worker.block.calls) == 1:
        driver.finish(worker)
    names = [arguments[0].name for arguments in worker.block.calls]
    wanted = futures["abcde".index(names[-1])]
    driver.cancel(wanted)
    while worker.asked:
        worker.answer_surrender(running=1)
    while worker.mail:
        driver.deliver(worker)
    assert isinstance(wanted.exception(0), CancelledError)
    assert not worker.killed, "it had not begun"
    while driver.running:
        driver.finish(driver.running[0])
    assert names[-1] not in driver.cluster.ran
    assert all(future.result(0) == name for future, name in zip(futures, "abcde", strict=True) if future is not wanted)


@pytest.mark.parametrize("retries", [0, 1])
def test_cancel_of_a_call_in_a_block_whose_worker_does_not_answer(retries):
    driver, (worker,) = fast_driver(1)
    futures = [driver.submit(name, retries=retries) for name in "abcde"]
    while len(worker.block.calls) == 1:
        driver.finish(worker)
    names = [arguments[0].name for arguments in worker.block.calls]
    wanted = futures["abcde".index(names[1])]
    assert driver.cancel(wanted)
    driver.sleep(1)
    assert worker.killed
    assert isinstance(wanted.exception(0), CancelledError)
    assert not driver.cancel(wanted)
    while driver.running or driver.dispatcher.crew.starting:
        for starting in list(driver.dispatcher.crew.starting):
            driver.up(starting)
        if driver.running:
            driver.finish(driver.running[0])
    others = [future for future, name in zip(futures, "abcde", strict=True) if name in names and future is not wanted]
    assert [future.exception(0) is None for future in others] == [bool(retries)] * len(others)


def test_memory_limit_that_is_less_than_an_idle_worker_has():
    driver = Driver(1)
    future = driver.submit("a")
    for _ in range(5):
        assert not future.done()
        worker = driver.cluster.started[-1]
        worker.retire()
        driver.up(worker)
        driver.deliver(worker)
        driver.finish(worker)
        driver.sleep(10)
    assert isinstance(future.exception(0), ExecutorBroken)


def test_cluster_that_is_gone_while_calls_run():
    driver = Driver(1)
    running, waiting = driver.submit("a"), driver.submit("b")
    driver.up(driver.cluster.started[0])
    driver.sleep(20)
    assert not running.done()
    driver.cluster.alive = False
    driver.sleep(20)
    for future in (running, waiting):
        assert isinstance(future.exception(0), ExecutorBroken)


def test_no_wake_up_while_nothing_happens():
    driver, (worker,) = fast_driver(1)
    assert driver.dispatcher.patience() is None
    driver.map("abc")
    assert driver.dispatcher.patience() > 0
    while driver.running:
        driver.finish(worker)
    assert driver.dispatcher.patience() is None


def test_question_that_raises():
    driver = Driver(1)
    answer = Future()
    driver.post(Inspect(lambda: 1 / 0, answer))
    assert isinstance(answer.exception(0), ZeroDivisionError)


def test_series_fed_while_it_is_emptied():
    """The race between the feeding thread and the dispatcher: no call is left behind."""
    driver = Driver(1)
    series, _outbox = driver.map("a")

    class FedWhenFoundEmpty(Supply):
        """Gets another call between the dispatcher's look at it and what the dispatcher does then."""

        fed = False

        def __len__(self):
            length = super().__len__()
            if length == 0 and not self.fed:
                self.fed = True
                driver.inbox.feed(series, (Argument("b"),))
            return length

    supply = FedWhenFoundEmpty()
    supply.extend(series.calls)
    series.calls = supply
    (worker,) = driver.cluster.started
    driver.up(worker)
    driver.finish(worker)
    assert series.calls.fed
    driver.finish(worker)
    assert driver.cluster.ran == ["a", "b"]


# Answers that overtake each other, and wishes that meet


def batch(driver, names, **limits):
    """Submit calls that may travel together; return their futures."""
    calls = [Call(driver.function, Given((Argument(name),), {}), Limits(**limits)) for name in names]
    for call in calls:
        driver.inbox.admit(call)
    driver.pump()
    return [call.future for call in calls]


def ready_driver(names, size=1, seconds=0.0001, **limits):
    """Return a driver whose only worker has the calls, in blocks as long as such calls allow."""
    driver = Driver(size)
    driver.function.parcel.pace.observe(16, 16 * seconds)
    futures = batch(driver, names, **limits)
    (worker,) = driver.cluster.started
    driver.up(worker)
    return driver, worker, futures


def run_out(driver):
    """Let all that can happen, happen; time passes only when nothing else does."""
    for _ in range(300):
        for worker in driver.cluster.started:
            if worker in driver.dispatcher.crew.starting:
                driver.up(worker)
            elif worker.killed or worker.dismissed:
                continue
            elif worker.mail:
                driver.deliver(worker)
            elif worker.asked:
                worker.answer_surrender(1)
            elif worker.blocks:
                driver.finish(worker)
            else:
                continue
            break
        else:
            driver.sleep(1)


NAMES = [f"c{number}" for number in range(12)]


def followed_driver():
    """Return a driver whose only worker runs a block of one call, behind which another such waits; and the futures."""
    driver = Driver(1)
    driver.function.parcel.pace.observe(1, 0.01)
    first = driver.submit("a")
    (worker,) = driver.cluster.started
    driver.up(worker)
    second = driver.submit("b")
    assert [len(block.calls) for block in worker.blocks] == [1, 1]
    return driver, worker, first, second


def test_answer_of_the_next_block_tells_that_the_one_before_is_over():
    driver, worker, first, second = followed_driver()
    worker.finish()  # whose answer takes its time
    driver.cancel(first)
    worker.answer_surrender(1)
    driver.deliver(worker, 1)
    driver.sleep(0.6)
    assert not worker.killed
    run_out(driver)
    assert (first.result(0), second.result(0)) == ("a", "b")


def test_memory_of_the_next_block_tells_that_the_one_before_is_over():
    driver, worker, first, second = followed_driver()
    worker.finish()
    worker.retire()
    driver.deliver(worker, 1)
    driver.cancel(first)
    driver.sleep(0.6)
    run_out(driver)
    assert first.result(0) == "a"
    assert isinstance(second.exception(0), WorkerOutOfMemory)
    assert Counter(driver.cluster.ran)["b"] <= 1
    assert worker.killed


def test_block_that_has_answered_runs_nothing():
    driver, worker, (first, second) = ready_driver("ab", seconds=1e-6)
    worker.run_call()
    driver.surrender()
    worker.answer_surrender(1)
    worker.retire()
    worker.finish()
    driver.deliver(worker, 2)
    driver.deliver(worker, 1)
    driver.deliver(worker)
    run_out(driver)
    assert (first.result(0), second.result(0)) == ("a", "b")
    assert driver.cluster.ran == ["a", "b"]


def test_call_that_was_given_back_is_not_out_of_time():
    driver, worker, (first, second) = ready_driver("ab", seconds=1e-6, timeout=1)
    driver.sleep(0.5)
    worker.answer_surrender(1)
    worker.finish()
    driver.deliver(worker, 1)
    driver.sleep(0.6)
    driver.sleep(1.1)
    assert not worker.killed
    run_out(driver)
    assert (first.result(0), second.result(0)) == ("a", "b")


def test_nothing_is_sent_behind_a_block_that_is_to_end():
    driver, worker, (first, *_) = ready_driver(NAMES)
    driver.cancel(first)
    late = driver.submit("late")
    assert len(worker.blocks) == 1
    driver.sleep(0.6)
    assert worker.killed
    run_out(driver)
    assert late.result(0) == "late"


@pytest.mark.parametrize("memory_first", [True, False])
def test_lack_of_memory_outdoes_a_presumed_time_out(memory_first):
    driver, worker, futures = ready_driver(NAMES, timeout=1)
    driver.sleep(1)  # asks which call runs
    if memory_first:
        worker.retire()
        driver.deliver(worker)
    driver.sleep(1)  # no answer
    if not memory_first:
        worker.retire()
        driver.deliver(worker)
    run_out(driver)
    assert worker.killed
    errors = Counter(type(future.exception(0)) for future in futures)
    assert errors[WorkerOutOfMemory] >= 1
    assert errors[CallTimeout] == 0


def test_callback_of_a_cancelled_call_can_cancel_what_was_sent_with_it():
    driver, worker, futures = ready_driver(NAMES)
    knows = []
    futures[1].add_done_callback(lambda _: knows.append(driver.dispatcher.has(futures[2])))
    driver.cancel(futures[1])
    worker.answer_surrender(1)
    driver.deliver(worker)
    assert knows == [True]
    run_out(driver)


def test_worker_that_has_too_much_memory_after_its_first_call_was_of_use(caplog):
    driver, worker, (future,) = ready_driver("a")
    worker.finish()
    worker.retire()
    driver.deliver(worker, 1)
    driver.deliver(worker)
    assert future.result(0) == "a"
    assert driver.dispatcher.crew.failure is None


def test_wakes_up_to_start_a_worker_again():
    driver = Driver(1)
    driver.submit("a")
    driver.lose(driver.cluster.started[0])
    driver.now = 0.4999
    driver.dispatcher.turn([])
    driver.now = 0.5001
    assert driver.dispatcher.patience() == 0


def test_cancelling_many_calls_that_were_sent_sets_one_alarm():
    driver, worker, futures = ready_driver([f"c{number}" for number in range(1000)], seconds=1e-6)
    sent = worker.block
    for future in futures[: len(sent.calls)]:
        driver.cancel(future)
    assert len(sent.alarms) < 5
    run_out(driver)


def test_call_runs_where_its_large_arguments_are():
    driver = Driver(3)
    driver.post(StartAll())
    for worker in driver.cluster.started:
        driver.up(worker)
    driver.cluster.homes = {"a": "node 0", "b": "node 0"}
    driver.submit("a")
    assert driver.cluster.started[0].blocks
    driver.submit("b")  # there, no worker is idle
    assert [len(worker.blocks) for worker in driver.cluster.started] == [1, 0, 1]


def test_node_that_is_about_to_go_gets_no_new_calls():
    driver, leaving, futures = ready_driver(NAMES)
    driver.cluster.leaving = {leaving.node}
    driver.sleep(2)
    assert not leaving.dismissed
    leaving.run_call()
    leaving.answer_surrender(1)
    driver.deliver(leaving)
    assert len(driver.cluster.started) == 1, "no more calls run at once than before"
    driver.finish(leaving)
    assert leaving.dismissed
    assert not leaving.killed
    assert driver.cluster.ran == NAMES[:2]
    run_out(driver)
    assert [future.result(0) for future in futures] == NAMES
    assert driver.cluster.ran == NAMES


def test_idle_and_starting_workers_of_a_node_that_is_about_to_go():
    driver, worker, _ = ready_driver("a", size=2)
    driver.post(StartAll())
    idle, starting = driver.cluster.started[0], driver.cluster.started[1]
    driver.finish(worker)
    driver.cluster.leaving = {idle.node, starting.node}
    driver.submit("b")
    driver.sleep(2)
    assert starting.dismissed
    run_out(driver)
    assert idle.dismissed


def test_workers_that_wait_for_room_are_talked_about_once(caplog):
    driver = Driver(3)
    driver.post(StartAll())
    driver.up(driver.cluster.started[0])
    driver.submit("a")
    for _ in range(10):
        driver.sleep(2)
    assert caplog.text.count("2 of 3 workers are not up after 10 s") == 1


def test_workers_are_started_a_few_at_a_time_while_others_are_heard():
    driver = Driver(20)
    driver.map(NAMES)
    few = len(driver.cluster.started)
    assert 0 < few < len(NAMES)
    driver.up(driver.cluster.started[0])
    driver.finish(driver.cluster.started[0])
    while driver.dispatcher.patience() == 0:
        driver.dispatcher.turn([])
    assert len(driver.cluster.started) == len(NAMES) - 1, "one call is over"


def test_block_that_cannot_be_sent_because_of_a_call_is_sent_call_by_call():
    driver, worker, futures = ready_driver(NAMES[:3])
    block = worker.blocks.pop()
    driver.post(Failed(worker, block, ValueError("a reference of yesterday"), sent=False))
    assert len(worker.block.calls) == 1
    guilty = worker.blocks.pop()
    driver.post(Failed(worker, guilty, ValueError("a reference of yesterday"), sent=False))
    run_out(driver)
    assert isinstance(futures[0].exception(0), ValueError)
    assert [future.result(0) for future in futures[1:]] == NAMES[1:3]


def test_worker_is_up_after_it_was_given_up(caplog):
    driver = Driver(1)
    future = driver.submit("a")
    (worker,) = driver.cluster.started
    driver.exceed(worker)
    assert worker.dismissed
    driver.up(worker)
    assert not driver.dispatcher.workers
    driver.sleep(10)
    run_out(driver)
    assert future.result(0) == "a"


def test_idle_workers_that_exceed_their_memory_do_no_harm():
    driver = Driver(8)
    futures = batch(driver, NAMES)
    run_out(driver)
    assert [future.result(0) for future in futures] == NAMES
    for worker in list(driver.cluster.started):
        driver.exceed(worker)
        assert worker.killed
    later = driver.submit("later")
    run_out(driver)
    assert later.result(0) == "later"


@pytest.mark.parametrize("answered", [False, True])
def test_memory_that_is_exceeded_in_a_block_behind(answered):
    driver, worker, futures = ready_driver(NAMES, seconds=0.02)
    assert len(worker.blocks) == 2
    worker.finish()  # its answer is still on its way
    worker.retire()
    driver.deliver(worker, 1)
    if answered:
        driver.deliver(worker)
    run_out(driver)
    assert max(Counter(driver.cluster.ran).values()) == 1
    assert [type(future.exception(0)) for future in futures].count(WorkerOutOfMemory) <= 1
    assert all(future.exception(0) or future.result() == name for future, name in zip(futures, NAMES, strict=True))


def test_call_that_exceeds_its_memory_and_ends():
    driver, worker, futures = ready_driver(NAMES)
    worker.run_call()
    worker.retire()
    worker.finish()
    driver.deliver(worker, 1)
    driver.deliver(worker, 0)
    run_out(driver)
    assert worker.killed
    assert [future.result(0) for future in futures] == NAMES
    assert max(Counter(driver.cluster.ran).values()) == 1


def test_calls_that_nobody_cancelled_are_not_cancelled():
    driver, worker, (first, second, *_) = ready_driver("abcd", seconds=0.04)
    assert len(worker.block.calls) == 2
    assert driver.cancel(first)
    driver.sleep(1)  # without an answer
    assert worker.killed
    assert isinstance(first.exception(0), CancelledError)
    assert isinstance(second.exception(0), WorkerLost)


def test_each_of_many_calls_of_a_block_is_cancelled():
    driver, worker, futures = ready_driver(NAMES)
    count = len(worker.block.calls)
    assert count > 3
    assert all(driver.cancel(future) for future in futures[:count])
    run_out(driver)
    cancelled = [isinstance(future.exception(0), CancelledError) for future in futures]
    assert cancelled == [True] * count + [False] * (len(NAMES) - count)


def test_a_future_cancels_others_as_it_is_resolved():
    driver, worker, futures = ready_driver(NAMES)
    futures[0].add_done_callback(lambda _: [driver.inbox.post(Cancel(future)) for future in futures[1:]])
    worker.run_call()
    driver.surrender()
    worker.answer_surrender(1)
    driver.deliver(worker)
    run_out(driver)
    assert futures[0].result(0) == "c0"
    assert all(future.cancelled() or future.exception(0) for future in futures[1:])


def test_cancelled_calls_are_not_run_again_when_their_worker_is_lost():
    driver, worker, futures = ready_driver(NAMES, retries=2)
    assert driver.cancel(futures[0])
    driver.lose(worker)
    run_out(driver)
    assert isinstance(futures[0].exception(0), CancelledError)
    assert [future.result(0) for future in futures[1:]] == NAMES[1:]


def test_cancelled_call_of_a_block_behind():
    driver = Driver(1)
    driver.function.parcel.pace.observe(16, 1.4)
    first = driver.submit("a")
    (worker,) = driver.cluster.started
    driver.up(worker)
    second = driver.submit("b")
    assert len(worker.blocks) == 2
    assert driver.cancel(second)
    assert [block.calls[0][0].name for block in worker.asked] == ["b"]
    driver.sleep(0.6)
    assert not worker.killed, "the call before it has done nothing wrong"
    run_out(driver)
    assert first.result(0) == "a"
    assert isinstance(second.exception(0), CancelledError)


def test_time_out_of_a_call_that_was_taken_back():
    driver, (worker,) = fast_driver(1)
    first = driver.submit("a")
    second = driver.submit("b", timeout=1.0)
    assert len(worker.blocks) == 2
    driver.sleep(0.2)  # the first one is overdue
    while worker.asked:
        worker.answer_surrender(1)
    while worker.mail:
        driver.deliver(worker)
    for _ in range(30):
        driver.sleep(0.1)
    assert not worker.killed
    assert not first.done()
    run_out(driver)
    assert (first.result(0), second.result(0)) == ("a", "b")


def test_late_answer_undoes_a_presumed_time_out():
    driver = Driver(1)
    _, outbox = driver.map("abcd", chunksize=4, timeout=2.0)
    (worker,) = driver.cluster.started
    driver.up(worker)
    driver.sleep(2.0)
    driver.sleep(2.1)  # one of them may have held the interpreter lock all the time
    assert not worker.killed
    for _ in range(2):
        worker.run_call()
    worker.answer_surrender(1)
    worker.mail[0].collect().running = 0.01
    driver.deliver(worker)
    driver.sleep(1.9)
    assert not worker.killed
    driver.sleep(0.2)
    assert worker.killed
    run_out(driver)
    outcomes = {}
    while outbox:
        item = outbox.get()
        for index, value in enumerate(item.outcomes.values):
            outcomes[item.first + index] = type(item.outcomes.errors.get(index, value))
    assert outcomes == {0: str, 1: str, 2: CallTimeout, 3: str}


def test_calls_that_hold_the_interpreter_lock_and_are_in_time():
    driver = Driver(1)
    _, outbox = driver.map("abcdefgh", chunksize=8, timeout=30.0)
    (worker,) = driver.cluster.started
    driver.up(worker)
    for _ in range(8):
        driver.sleep(5.9)
        worker.run_call()
    driver.finish(worker)
    assert not worker.killed
    assert outbox.get(timeout=0).outcomes.errors == {}


def test_workers_that_die_together_at_their_start_count_once():
    driver = Driver(8)
    driver.post(StartAll())
    for worker in list(driver.cluster.started):
        driver.lose(worker)
    future = driver.submit("a")
    assert not future.done()
    driver.sleep(10)
    run_out(driver)
    assert future.result(0) == "a"


def test_block_of_a_chosen_length_is_one_task_however_often_its_worker_answers():
    driver = Driver(1, max_tasks=1)
    _, outbox = driver.map("abcdef", chunksize=3, timeout=1.0)
    (worker,) = driver.cluster.started
    driver.up(worker)
    worker.run_call()
    driver.sleep(1.0)
    worker.answer_surrender(1)
    driver.deliver(worker)
    driver.finish(worker)
    assert worker.dismissed
    run_out(driver)
    values = {}
    while outbox:
        item = outbox.get()
        values.update(enumerate(item.outcomes.values, item.first))
    assert values == dict(enumerate("abcdef"))


RETRIES = st.integers(0, 2)
TIMEOUTS = st.sampled_from([None, None, 10.0])


class TurningDriver(Driver):
    """Gives out all blocks that can be given out, though it is not done at once."""

    def pump(self):
        super().pump()
        while self.dispatcher._assignment.unfinished and not self.dispatcher.finished:
            self.dispatcher.turn([])


class Machine(RuleBasedStateMachine):
    """Submits, maps, cancels, drops, shuts down and loses workers, in any order; lets time pass, and memory run out."""

    futures = Bundle("futures")
    series = Bundle("series")

    def __init__(self):
        super().__init__()
        self.at_once, _assignment._AT_ONCE = _assignment._AT_ONCE, 2  # as there are four workers at the most
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
        _assignment._AT_ONCE = self.at_once
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
        for worker in self.driver.cluster.started:  # what a worker still has when the executor breaks
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
            elif worker in self.driver.dispatcher.crew.starting:
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
        if starting := sorted(self.driver.dispatcher.crew.starting, key=self.driver.cluster.started.index):
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
        worker.calls, block = None, worker.blocks.pop(0)
        if worker.blocks:
            worker.begin()
        self.driver.post(Failed(worker, block, LookupError("the message was lost")))

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
    def promises(self):
        if self.driver is None:
            return
        dispatcher = self.driver.dispatcher
        sent = len(self.driver.cluster.sent), len(self.driver.cluster.started)
        assert self.limit in (None, sent), "nothing starts after a kill"
        assert len(self.driver.running) <= dispatcher.size or dispatcher.finished, "promise b"
        if dispatcher.crew.idle and not dispatcher.finished:
            waiting = [item for item in dispatcher._waiting if not (isinstance(item, Call) and item.future.cancelled())]
            assert not waiting, "promise d: nothing waits while a worker is idle"


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=500, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_cancelled_error_is_the_futures_one():
    driver = Driver(1)
    _, outbox = driver.map("ab")
    driver.inbox.close()
    driver.post(Close(cancel=True))
    end = outbox.get(timeout=0)
    assert (end.first, type(end.error)) == (0, CancelledError)


def test_the_first_of_many_workers_are_heard_before_the_last_have_a_block():
    driver = Driver(100)
    driver.post(StartAll())
    while driver.dispatcher.patience() == 0:
        driver.dispatcher.turn([])
    workers = driver.cluster.started
    for worker in workers:
        driver.up(worker)
    _, outbox = driver.map([f"c{number}" for number in range(10_000)])
    first, *others = [worker for worker in workers if worker.block]
    assert len(others) < 50
    first.finish()
    first.mail[-1].collect().seconds = 0.001
    driver.deliver(first)  # from now on it is known how short calls are
    while driver.dispatcher.patience() == 0:
        driver.dispatcher.turn([])
    assert len(workers) == 100
    assert all(worker.block for worker in workers)
    assert sum(len(worker.block.calls) > 1 for worker in workers) > 50
    assert len(outbox) == 1


def test_calls_that_are_given_back_wait_in_their_order():
    driver = Driver(2)
    driver.function.parcel.pace.observe(16, 0.0016)
    driver.post(StartAll())
    workers = driver.cluster.started
    for worker in workers:
        driver.up(worker)
    driver.map([f"c{number}" for number in range(1000)])
    early, late = sorted(workers, key=lambda worker: worker.block.first)
    for worker in (early, late):  # the later calls come back last, and are not to run first
        block = worker.block
        worker.run_call()
        worker.give_up()
        worker.end()
        worker.mail[-1].collect().seconds = 0.001
        assert len(block.calls) > 2
    driver.cluster.sent.clear()
    driver.deliver(early)
    driver.deliver(late)
    sent = [int(name[1:]) for name in driver.cluster.sent]
    assert sent == sorted(sent)
    assert sent[0] == 1
    assert driver.function.parcel.pace.block_length(10**6, 1) == 1, "no more values fit into an answer"
