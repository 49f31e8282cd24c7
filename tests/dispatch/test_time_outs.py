"""Calls that take longer than they may."""

from __future__ import annotations

from manual_cluster import Driver, answer, fast_driver, ready_driver, run_out

from thread_chunks.errors import CallTimeout, WorkerLost


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
    (function,) = driver.dispatcher.record.report([]).functions
    assert 5 <= function.seconds.max < 5.2, "what it took counts, though it has no end"
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
