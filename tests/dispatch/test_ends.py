"""What becomes of calls when all workers are killed, or the executor is shut down."""

from __future__ import annotations

from concurrent.futures import CancelledError

import pytest
from manual_cluster import NAMES, Driver, fast_driver, ready_driver

from thread_chunks._calls.series import Delivery
from thread_chunks._dispatch.messages import Abandon, Close, Lost, StartAll
from thread_chunks.errors import WorkerLost


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


def values_in(outbox):
    """Return the values in an outbox and the types of its errors, in the order of the calls."""
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


def test_a_worker_that_was_killed_for_a_call_is_not_killed_again_as_the_executor_ends():
    driver, worker, futures = ready_driver(NAMES)
    driver.cancel(futures[0])
    driver.post(Close(cancel=True, kill=True))
    while worker.asked:
        worker.answer_surrender(1)
    while worker.mail:
        driver.deliver(worker)
    assert worker.killed
    assert worker.dismissed
    assert driver.dispatcher.finished
    assert all(future.cancelled() or future.exception(0) for future in futures)
