"""Workers start when there is work, a few at a time. If none can start, the executor is broken."""

from __future__ import annotations

import pytest
from manual_cluster import NAMES, Driver, ready_driver, run_out

from thread_chunks._dispatch.messages import StartAll
from thread_chunks.errors import ExecutorBroken, WorkerLost


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


def test_a_worker_that_is_not_up_holds_no_call():
    driver = Driver(2)
    futures = [driver.submit(name) for name in "ab"]
    first, second = driver.cluster.started
    driver.up(second)
    driver.finish(second)
    driver.finish(second)
    assert [future.result() for future in futures] == ["a", "b"]
    assert first.block is None


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


def test_only_deaths_in_a_row_break_the_executor():
    driver = Driver(1)
    future = driver.submit("a")
    for _ in range(3):
        for _ in range(4):  # a call ended between them, though by the loss of its worker
            driver.lose(driver.cluster.started[-1])
            driver.sleep(10)
        driver.up(driver.cluster.started[-1])
        driver.lose(driver.cluster.started[-1])
        assert isinstance(future.exception(0), WorkerLost)
        future = driver.submit("b")
    driver.up(driver.cluster.started[-1])
    driver.finish(driver.cluster.started[-1])
    assert future.result(0) == "b"


def test_worker_that_cannot_be_started_breaks_the_executor():
    driver = Driver(1)
    driver.cluster.start_worker = lambda post, index: 1 / 0
    future = driver.submit("a")
    assert isinstance(future.exception(0), ExecutorBroken)
    assert isinstance(future.exception(0).__cause__, ZeroDivisionError)


def test_workers_that_cannot_be_started_are_not_waited_for():
    driver = Driver(10)
    start_worker = driver.cluster.start_worker

    def refuse(post, index):
        if len(driver.cluster.started) == 2:
            raise RuntimeError("no more")
        return start_worker(post, index)

    driver.cluster.start_worker = refuse
    driver.map("abcdefghij")
    assert driver.dispatcher.size == 2
    assert driver.dispatcher.patience() != 0.0


def test_a_shortage_that_passes_costs_no_worker():
    driver, worker, futures = ready_driver(NAMES[:1])
    driver.finish(worker)
    assert futures[0].result(0) == NAMES[0]
    driver.lose(worker)
    start_worker = driver.cluster.start_worker

    def refuse(post, index):
        raise OSError("too few threads")

    driver.cluster.start_worker = refuse
    future = driver.submit("later")
    driver.sleep(0.4)
    driver.cluster.start_worker = start_worker
    driver.sleep(0.2)
    run_out(driver)
    assert future.result(0) == "later"
    assert driver.dispatcher.size == 1


def test_a_shortage_that_lasts_breaks_the_executor():
    driver, worker, _ = ready_driver(NAMES[:1])
    driver.finish(worker)
    driver.lose(worker)

    def refuse(post, index):
        raise OSError("too few threads")

    driver.cluster.start_worker = refuse
    future = driver.submit("later")
    for _ in range(10):
        driver.sleep(10)
    assert isinstance(future.exception(0), ExecutorBroken)
    assert isinstance(future.exception(0).__cause__, OSError)


def test_all_workers_start_though_one_was_of_no_use():
    driver = Driver(3)
    driver.submit("a")
    driver.lose(driver.cluster.started[0])
    driver.post(StartAll())
    assert len(driver.cluster.started) == 1
    driver.sleep(driver.dispatcher.patience())
    assert len(driver.cluster.started) == 4


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
    assert caplog.text.count("2 of 3 workers are not up after 10 s: 3 are many") == 1


def test_workers_that_start_one_after_the_other_are_talked_about_once_till_all_are_up(caplog):
    driver = Driver(3)
    driver.submit("a")
    for name in "bc":
        driver.sleep(6)
        driver.submit(name)
    driver.sleep(20)
    assert caplog.text.count("are not up after") == 1
    driver.lose(driver.cluster.started[0])  # which is started anew
    driver.sleep(20)
    assert caplog.text.count("are not up after") == 1
    for worker in driver.cluster.started[1:]:
        driver.up(worker)
    run_out(driver)
    driver.lose(driver.cluster.started[1])
    driver.post(StartAll())
    driver.sleep(20)
    driver.sleep(20)
    assert caplog.text.count("are not up after") == 2, "that is another start"


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
