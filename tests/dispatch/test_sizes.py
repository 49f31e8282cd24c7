"""Another number of workers while calls run."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial

from manual_cluster import Driver

from thread_chunks._dispatch.messages import Inspect, StartAll
from thread_chunks.errors import WorkerOutOfMemory


def indices(driver):
    return sorted(member.index for member in driver.dispatcher.crew)


def resize(driver, size):
    driver.post(Inspect(partial(driver.dispatcher.resize, size), Future()))


def ready(size):
    """Return a driver with so many workers, all of which are idle."""
    driver = Driver(size)
    driver.post(StartAll())
    for worker in driver.cluster.started:
        driver.up(worker)
    return driver


def test_more_start_as_there_is_work_for_them():
    driver = Driver(1)
    driver.map("abcdef")
    assert len(driver.cluster.started) == 1
    resize(driver, 3)
    assert len(driver.cluster.started) == 3
    assert driver.dispatcher.size == 3


def test_those_that_are_too_many_leave_as_their_call_is_over():
    driver = ready(3)
    driver.map("abcdef")
    assert len(driver.running) == 3
    resize(driver, 1)
    assert len(driver.running) == 3, "they bring their calls to an end"
    while len(driver.running) > 1:
        driver.finish(driver.running[-1])
    assert [member.index for member in driver.dispatcher.crew] == [0]
    while driver.running:
        driver.finish(driver.running[0])
    assert sorted(driver.cluster.ran) == list("abcdef")
    assert len(driver.cluster.started) == 3, "none is replaced"


def test_those_without_a_call_leave_first():
    driver = ready(3)
    driver.submit("a")
    (busy,) = driver.running
    resize(driver, 1)
    assert [member.worker for member in driver.dispatcher.crew] == [busy]


def test_up_again_after_down_and_after_kills_for_memory():
    driver = ready(3)
    driver.map("abcdef")
    driver.lose(driver.running[-1], WorkerOutOfMemory)
    assert driver.dispatcher.size == 2
    resize(driver, 3)
    assert driver.dispatcher.size == 3
    assert indices(driver) == [0, 1, 2]
    resize(driver, 1)
    resize(driver, 2)
    while driver.running:
        driver.finish(driver.running[-1])
        for member in list(driver.dispatcher.crew.starting):
            driver.up(member.worker)
    assert len(driver.dispatcher.crew) <= 2
    assert set(indices(driver)) <= {0, 1, 2}
