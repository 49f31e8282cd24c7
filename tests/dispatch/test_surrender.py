"""An overdue block is surrendered, and its calls that have not started run elsewhere."""

from __future__ import annotations

from concurrent.futures import CancelledError

import pytest
from manual_cluster import fast_driver

from thread_chunks._dispatch.messages import Abandon, Close


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
    assert driver.idle == [worker]


def test_surrender_and_the_end_of_the_block_cross():
    driver, (worker,) = fast_driver(1)
    _, outbox = driver.map("abc")
    driver.surrender()
    worker.run_call()
    worker.answer_surrender(running=1)
    worker.finish()
    driver.deliver(worker, 1)  # the end overtakes
    assert outbox.get(timeout=0).outcomes.values == ["b"]
    assert driver.idle == [], "the rest is still to come"
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
