"""The end of an executor: shut down, dropped, from many threads."""

from __future__ import annotations

import concurrent.futures as cf
import pickle
import threading
import time

import pytest
from executors import threads_left
from fake_cluster import FakeCluster, FakeExecutor
from functions import note_and_wait, square, wait_for
from insides import with_thread


def test_shutdown(make):
    executor = make(2)
    future = executor.submit(square, 3)
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(square, 3)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(square, [3])
    assert future.result() == 9
    executor.shutdown()
    executor.shutdown(True)


def test_shutdown_waits_for_all(make):
    executor = make(2)
    futures = [executor.submit(time.sleep, 0.01) for _ in range(20)]
    executor.shutdown()
    assert all(future.done() for future in futures)


def test_shutdown_cancels(make, tmp_path):
    executor = make(1)
    running = executor.submit(note_and_wait, tmp_path, "started", "go")
    wait_for(tmp_path / "started")
    waiting = [executor.submit(square, x) for x in range(5)]
    values = executor.map(square, range(5))
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(cf.CancelledError):
        next(values)
    assert cf.wait(waiting, timeout=60).not_done == set()
    assert all(future.cancelled() for future in waiting)
    (tmp_path / "go").touch()
    assert running.result() == "started"


def test_what_could_have_begun_is_not_cancelled(make):
    for _ in range(3):
        executor = make.fresh(1)
        assert executor.submit(square, 3).result() == 9
        futures = [executor.submit(time.sleep, 0.01) for _ in range(50)]
        executor.shutdown(cancel_futures=True)
        states = [future.cancelled() for future in futures]
        assert states[0] is False, "a worker was idle when it was submitted"
        assert states == sorted(states), "in their order"
        assert sum(states) > 20


def test_dropped_executor_finishes_its_work(executor_class):
    executor, thread = with_thread(executor_class, 2)
    futures = [executor.submit(square, x) for x in range(20)]
    values = executor.map(square, range(20))
    del executor
    assert [future.result() for future in futures] == [x * x for x in range(20)]
    assert list(values) == [x * x for x in range(20)]
    thread.join(60)
    assert not thread.is_alive()


def test_the_last_of_the_executors_that_share_workers_ends_them_when_it_is_dropped(executor_class):
    executor, thread = with_thread(executor_class, 1)
    other = executor.with_options(max_retries=1)
    del executor
    assert other.submit(square, 2).result() == 4
    assert thread.is_alive()
    values = other.map(square, iter([3, 4]), buffersize=1)
    del other
    assert list(values) == [9, 16], "the iterator was still to be fed"
    del values
    thread.join(60)
    assert not thread.is_alive()


def test_shutdown_from_many_threads(make):
    executor = make(2)
    executor.submit(time.sleep, 0.05)
    threads = [threading.Thread(target=executor.shutdown) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_executor_cannot_be_pickled(make):
    with pytest.raises(TypeError):
        pickle.dumps(make(1))


def test_many_threads(make):
    executor, failures = make(3), []

    def use(seed):
        try:
            for n in range(10):
                futures = [executor.submit(square, x) for x in range(seed, seed + 5)]
                cancelled = futures[n % 5].cancel()
                for x, future in enumerate(futures, seed):
                    if not (cancelled and future.cancelled()):
                        assert future.result(60) == x * x
                assert list(executor.map(square, range(seed), chunksize=1 + n)) == [x * x for x in range(seed)]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []


def test_ctrl_c_as_the_thread_of_an_executor_starts(monkeypatch):
    start, closed = threading.Thread.start, []

    class Noting(FakeCluster):
        def close(self):
            closed.append(threading.current_thread().name)
            super().close()

    class Noted(FakeExecutor, cluster=Noting):
        pass

    def start_and_interrupt(thread):
        start(thread)
        if thread.name == "thread_chunks-dispatcher":
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", start_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        Noted(1)
    monkeypatch.undo()
    assert threads_left(set(), patience=10) == []
    assert closed == ["thread_chunks-dispatcher"], "once, by the thread that uses it"
