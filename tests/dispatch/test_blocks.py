"""Which calls travel together, in which order they run, and on which worker."""

from __future__ import annotations

from dataclasses import replace

from manual_cluster import NAMES, Argument, Driver, fast_driver, followed_driver, ready_driver, run_out

from thread_chunks._calls.supply import Supply
from thread_chunks._dispatch.messages import Failed, ReplaceFunction, StartAll


def test_stored_function_is_replaced_in_all_workers():
    driver = Driver(3)
    driver.submit("a")
    driver.submit("b")
    driver.up(driver.cluster.started[0])
    driver.post(ReplaceFunction(driver.function))
    assert [worker.holds for worker in driver.cluster.started] == [driver.function] * 2


def test_idle_workers_are_used_before_more_are_started():
    driver = Driver(3)
    driver.submit("a")
    driver.up(driver.cluster.started[0])
    driver.finish(driver.cluster.started[0])
    driver.submit("b")
    assert len(driver.cluster.started) == 1


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


def test_calls_of_some_microseconds_travel_together_though_each_is_to_travel_alone():
    def length_of_a_block(seconds, chunksize=1, *, keeps=False):
        driver, (worker,) = fast_driver(1)
        driver.function = replace(driver.function, keeps=keeps)
        driver.function.parcel.pace.observe(10_000, 10_000 * seconds)
        driver.map([f"call {number}" for number in range(5_000)], chunksize)
        return len(worker.block.calls)

    assert length_of_a_block(1e-5) == 100, "1 ms"
    assert length_of_a_block(1e-5, None) == 2_500, "half of all, in 25 ms"
    assert length_of_a_block(2e-3) == 1
    assert length_of_a_block(1e-5, 2) == 2
    assert length_of_a_block(1e-5, keeps=True) == 1


def test_a_worker_that_cannot_surrender_gets_one_call_at_a_time():
    driver = Driver(1)
    driver.function.parcel.pace.observe(1000, 1e-6)
    driver.map("abc")
    driver.map("def", chunksize=3)
    (worker,) = driver.cluster.started
    worker.interruptible = False
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


def test_nothing_is_sent_behind_a_block_that_is_to_end():
    driver, worker, (first, *_) = ready_driver(NAMES)
    driver.cancel(first)
    late = driver.submit("late")
    assert len(worker.blocks) == 1
    driver.sleep(0.6)
    assert worker.killed
    run_out(driver)
    assert late.result(0) == "late"


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


def test_block_that_cannot_be_sent_because_of_a_call_is_sent_call_by_call():
    driver, worker, futures = ready_driver(NAMES[:3])
    block = worker.fail()
    driver.post(Failed(worker, block, ValueError("a reference of yesterday"), sent=False))
    assert len(worker.block.calls) == 1
    guilty = worker.fail()
    driver.post(Failed(worker, guilty, ValueError("a reference of yesterday"), sent=False))
    run_out(driver)
    assert isinstance(futures[0].exception(0), ValueError)
    assert [future.result(0) for future in futures[1:]] == NAMES[1:3]


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
