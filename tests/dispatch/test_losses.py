"""The calls that fail, and those that do not, when a worker or the cluster is lost."""

from __future__ import annotations

import pytest
from manual_cluster import Driver, fast_driver

from thread_chunks._dispatch.messages import Close, Lost, StartAll
from thread_chunks.errors import ExecutorBroken, WorkerLost


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
    assert driver.dispatcher.record.tallies["the stored function"].retries == 2


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
