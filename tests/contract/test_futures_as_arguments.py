"""A future that is an argument of `submit` arrives as its value."""

from __future__ import annotations

import concurrent.futures as cf
import gc
import threading
import weakref

import pytest
from fake_cluster import FakeExecutor
from functions import keywords, note_and_wait, wait_for
from insides import with_thread

from thread_chunks import ExecutorBroken, PicklingFailed


def add(*numbers, last=0):
    return sum(numbers) + last


def test_positional_and_by_keyword(make):
    executor = make(2)
    one, two = executor.submit(add, 1), executor.submit(add, 2)
    assert executor.submit(add, one, 10, two, last=one).result(60) == 14
    assert executor.submit(add, last=two).result(60) == 2
    one.result()
    assert executor.submit(keywords, one, x=[1], y=one).result(60) == ((1,), {"x": [1], "y": 1})


def test_of_other_executors(make):
    first, second = make.fresh(1), make(1)
    with cf.ThreadPoolExecutor(1) as threads:
        assert second.submit(add, first.submit(add, 1), threads.submit(add, 2)).result(60) == 3
    by_hand = cf.Future()
    future = first.submit(add, by_hand)
    by_hand.set_result(5)
    assert future.result(60) == 5

    class Subclass(cf.Future):
        pass

    of_a_subclass = Subclass()
    of_a_subclass.set_result(7)
    assert first.submit(add, of_a_subclass).result(60) == 7


def test_the_call_waits_without_a_worker(make):
    executor, by_hand = make(1), cf.Future()
    waiting = executor.submit(add, by_hand)
    assert executor.submit(add, 1).result(60) == 1
    assert not waiting.running()
    by_hand.set_result(2)
    assert waiting.result(60) == 2


@pytest.mark.parametrize("function", [add, lambda *numbers: sum(numbers)])
def test_a_chain_and_a_diamond(make, function):
    executor = make(1)
    last = executor.submit(add, 1)
    for _ in range(100):
        last = executor.submit(add, last, 1)
    spread = [executor.submit(add, last, n) for n in range(100)]
    assert executor.submit(function, *spread).result(60) == 101 * 100 + sum(range(100))


def test_the_error_is_that_of_what_the_call_waited_for(make):
    executor = make(1)
    failing = executor.submit(divmod, 1, 0)
    never = cf.Future()
    second = executor.submit(add, never, failing)
    third = executor.submit(add, 1, last=second)
    assert isinstance(failing.exception(60), ZeroDivisionError)
    assert second.exception(60) is failing.exception()
    assert third.exception(60) is failing.exception()
    never.set_result(1)
    assert executor.submit(add, 1).result(60) == 1


def test_cancelling_what_a_call_waits_for_cancels_it(make, tmp_path):
    executor = make(1)
    executor.submit(note_and_wait, tmp_path, "begun", "go")
    wait_for(tmp_path / "begun")
    first = executor.submit(add, 1)
    second = executor.submit(add, first)
    third = executor.submit(add, second)
    assert first.cancel()
    assert cf.wait([second, third], 60).not_done == set()
    assert second.cancelled()
    assert third.cancelled()
    (tmp_path / "go").touch()


def test_cancelling_what_runs_cancels_what_waits_for_it(make, tmp_path):
    executor = make(1)
    running = executor.submit(note_and_wait, tmp_path, "begun", "go")
    waiting = executor.submit(add, running)
    wait_for(tmp_path / "begun")
    assert executor.cancel(running)
    with pytest.raises(cf.CancelledError):
        waiting.result(60)
    assert waiting.cancelled()
    (tmp_path / "go").touch()


def test_a_call_that_waits_can_be_cancelled(make):
    executor, never = make(1), cf.Future()
    by_future, by_executor = executor.submit(add, never), executor.submit(add, never)
    assert by_future.cancel()
    assert executor.cancel(by_executor)
    assert cf.wait([by_future, by_executor], 60).not_done == set()
    never.set_result(1)
    assert executor.submit(add, never).result(60) == 1


def test_the_end_waits_for_what_waits(make, tmp_path):
    executor = make.fresh(1)
    first = executor.submit(note_and_wait, tmp_path, "begun", "go")
    second = executor.submit(keywords, first)
    third = executor.submit(keywords, second)
    threading.Timer(0.2, (tmp_path / "go").touch).start()
    executor.shutdown()
    assert third.result(0) == (((("begun",), {}),), {})


def test_a_dropped_executor_finishes_what_waits(executor_class, tmp_path):
    executor, thread = with_thread(executor_class, 1)
    first = executor.submit(note_and_wait, tmp_path, "begun", "go")
    second = executor.submit(keywords, first)
    del executor
    gc.collect()
    (tmp_path / "go").touch()
    assert second.result(60) == (("begun",), {})
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.parametrize("kill", [False, True])
def test_the_end_cancels_what_waits_if_it_is_to(make, kill):
    executor, never = make.fresh(1), cf.Future()
    waiting = executor.submit(add, never)
    if kill:
        executor.kill_workers()
    else:
        executor.shutdown(cancel_futures=True)
    assert cf.wait([waiting], 60).not_done == set()
    assert waiting.cancelled()


def test_a_broken_executor_fails_what_waits(make):
    def fail():
        raise OSError("no licence")

    executor, never = make(1, initializer=fail), cf.Future()
    waiting = executor.submit(add, never)
    executor.submit(add, 1)
    assert isinstance(waiting.exception(60), ExecutorBroken)


def test_nothing_is_kept(make):
    class Thing:
        pass

    executor = make(1)
    first = executor.submit(Thing)
    second = executor.submit(lambda thing: Thing(), first)
    value, thing = second.result(60), weakref.ref(second.result())
    future = weakref.ref(second)
    del second, value
    executor.submit(add, 1).result(60)
    gc.collect()
    assert thing() is None, "the first future, which lives on, does not keep the value of the second"
    assert future() is None
    assert first.done()


def test_futures_elsewhere_are_named(make):
    executor, future = make(1), cf.Future()
    with pytest.raises(PicklingFailed, match=r"argument 0: .*future stays in its process.*future\.result\(\)"):
        executor.submit(keywords, [future]).result(60)
    with pytest.raises(PicklingFailed, match=r"argument 0: .*future stays in its process"):
        list(executor.map(keywords, [future]))


def test_options_hold_for_a_call_that_waits(make):
    executor = make(1)
    seeded = executor.with_options(seed=7, max_retries=1)
    assert seeded.submit(add, executor.submit(add, 1), 2).result(60) == 3


def test_more_than_the_stack_is_deep(executor_class):
    if executor_class is not FakeExecutor:
        pytest.skip("it takes long, and nothing of it is Ray's")
    with FakeExecutor(1) as executor:
        first = last = executor.submit(add, 1)
        for _ in range(2_000):
            last = executor.submit(add, last, 1)
        spread = [executor.submit(add, first, n) for n in range(2_000)]
        total = executor.submit(add, *spread)
        assert last.result(300) == 2_001
        assert total.result(300) == 2_000 + sum(range(2_000))
        failing = cf.Future()
        chain = [executor.submit(add, failing)]
        for _ in range(2_000):
            chain.append(executor.submit(add, chain[-1]))
        failing.cancel()
        assert cf.wait(chain, 300).not_done == set()
        assert chain[-1].cancelled()
