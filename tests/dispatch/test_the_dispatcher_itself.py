"""Failures of the dispatcher, questions to it, and when it wakes up."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future

import pytest
from manual_cluster import Argument, Driver, fast_driver

from thread_chunks._calls.calls import Call, Given
from thread_chunks._calls.series import SeriesEnd
from thread_chunks._dispatch.messages import Finished, Inspect
from thread_chunks.errors import ExecutorBroken


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
    late = Call(driver.function, Given((Argument("late"),)))
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


class FullDisk:
    """A journal that cannot keep anything."""

    def record(self, first, outcomes):
        raise MemoryError

    def __getattr__(self, name):
        return lambda *args: None


def test_all_is_resolved_though_no_outcome_can_be_recorded(caplog):
    driver = Driver(2)
    caplog.set_level(logging.CRITICAL, "thread_chunks")
    series, outbox = driver.map("abcdef", chunksize=2)
    series.journal = FullDisk()
    waiting = driver.submit("z")
    for worker in driver.cluster.started:
        driver.up(worker)
    for worker in driver.cluster.started:
        worker.finish()
        driver.inbox.post(*worker.mail)
    thread = threading.Thread(target=driver.dispatcher.run)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert "the executor itself failed" in str(waiting.exception(0))
    told = {}
    while len(told) < 6:
        item = outbox.get(timeout=0)
        if isinstance(item, SeriesEnd):
            told.update(dict.fromkeys(range(item.first, 6), item.error))
        else:
            told.update(enumerate(item.outcomes.values, item.first))
    assert sorted(told) == list(range(6))
    assert [told[place] for place in range(4)] == list("abcd")


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
    assert "resolved by other code" in caplog.text


def test_a_look_that_takes_seconds_is_not_followed_by_the_next_at_once():
    driver, _ = fast_driver(1)
    driver.submit("a")

    def reachable():
        driver.now += 3
        return True

    driver.cluster.reachable = reachable
    driver.sleep(10)
    assert driver.dispatcher.patience() == pytest.approx(2)


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


def test_wakes_up_to_start_a_worker_again():
    driver = Driver(1)
    driver.submit("a")
    driver.lose(driver.cluster.started[0])
    driver.now = 0.4999
    driver.dispatcher.turn([])
    driver.now = 0.5001
    assert driver.dispatcher.patience() == 0
