"""Calls that are cancelled, while they wait and while they run."""

from __future__ import annotations

import weakref
from concurrent.futures import CancelledError

import pytest
from manual_cluster import NAMES, Driver, fast_driver, ready_driver, run_out

from thread_chunks._calls.calls import Call, Given
from thread_chunks._calls.pace import TARGET
from thread_chunks._dispatch.messages import Cancel, Close, StartAll
from thread_chunks.errors import WorkerLost


def test_cancelled_call_lets_go_of_its_arguments_while_it_stands_in_the_queue():
    driver = Driver(1)
    driver.submit("a")
    future = driver.submit("b")
    reference = weakref.ref(list(driver.dispatcher._waiting)[-1].given.args[0])
    future.cancel()
    assert driver.dispatcher._waiting
    assert reference() is None


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
    while driver.running or driver.starting:
        for starting in driver.starting:
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
    while driver.running or driver.starting:
        for starting in driver.starting:
            driver.up(starting)
        if driver.running:
            driver.finish(driver.running[0])
    others = [future for future, name in zip(futures, "abcde", strict=True) if name in names and future is not wanted]
    assert [future.exception(0) is None for future in others] == [bool(retries)] * len(others)


def test_callback_of_a_cancelled_call_can_cancel_what_was_sent_with_it():
    driver, worker, futures = ready_driver(NAMES)
    knows = []
    futures[1].add_done_callback(lambda _: knows.append(driver.dispatcher.has(futures[2])))
    driver.cancel(futures[1])
    worker.answer_surrender(1)
    driver.deliver(worker)
    assert knows == [True]
    run_out(driver)


def test_cancelling_many_calls_that_were_sent_sets_one_alarm():
    driver, _, futures = ready_driver([f"c{number}" for number in range(1000)], seconds=1e-6)
    ((_, sent),) = driver.dispatcher.crew.running
    for future in futures[: len(sent.block.calls)]:
        driver.cancel(future)
    assert len(sent.alarms) < 5
    run_out(driver)


def test_calls_that_nobody_cancelled_are_not_cancelled():
    driver, worker, (first, second, *_) = ready_driver("abcd", seconds=TARGET / 2.5)
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


def test_cancelled_error_is_the_futures_one():
    driver = Driver(1)
    _, outbox = driver.map("ab")
    driver.inbox.close()
    driver.post(Close(cancel=True))
    end = outbox.get(timeout=0)
    assert (end.first, type(end.error)) == (0, CancelledError)


@pytest.mark.parametrize("idle", [1, 3, 20])
def test_what_could_have_begun_before_the_end_begins(idle):
    driver = Driver(idle)
    driver.post(StartAll())
    while driver.starting:
        driver.up(driver.starting[0])
    calls = [Call(driver.function, Given((driver.argument(str(number)),))) for number in range(50)]
    for call in calls:
        driver.inbox.admit(call)
    driver.inbox.close()
    driver.inbox.post(Close(cancel=True))
    driver.dispatcher.turn([])
    assert [call.future.cancelled() for call in calls] == [False] * idle + [True] * (50 - idle)
    run_out(driver)
    assert [call.future.result(0) for call in calls[:idle]] == [str(number) for number in range(idle)]
    assert driver.dispatcher.finished
