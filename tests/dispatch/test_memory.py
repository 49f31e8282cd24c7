"""Workers that exceed their memory, or that were killed for it."""

from __future__ import annotations

from collections import Counter

import pytest
from manual_cluster import NAMES, Driver, batch, fast_driver, followed_driver, ready_driver, run_out

from thread_chunks.errors import CallTimeout, ExecutorBroken, WorkerOutOfMemory


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
    first = worker.calls[0]
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


def test_worker_that_has_too_much_memory_after_its_first_call_was_of_use(caplog):
    driver, worker, (future,) = ready_driver("a")
    worker.finish()
    worker.retire()
    driver.deliver(worker, 1)
    driver.deliver(worker)
    assert future.result(0) == "a"
    assert driver.dispatcher._starts.failure is None


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
