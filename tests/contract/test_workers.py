"""The number of workers, their initializers, and their end."""

from __future__ import annotations

import concurrent.futures as cf
import os
import threading
import time

import numpy as np
import pytest
from fake_cluster import FakeExecutor
from functions import Unpicklable, note_and_wait, square, wait_for

from thread_chunks import ExecutorBroken, LabelledActor, WorkerLost

_local = threading.local()


def initialize(folder, value):
    _local.value = value
    (folder / str(time.monotonic_ns())).touch()


def initialized_here(_):
    return getattr(_local, "value", None)


def test_at_most_chunk_size_calls_at_once(make, tmp_path):
    def overlap(x):
        mine = tmp_path / str(x)
        mine.touch()
        count = len(list(tmp_path.iterdir()))
        time.sleep(0.01)
        mine.unlink()
        return count

    assert max(make(3).map(overlap, range(60))) <= 3


def test_all_workers_run_at_once(make, tmp_path):
    def meet(x):
        (tmp_path / str(x)).touch()
        for other in range(3):
            wait_for(tmp_path / str(other))
        return x

    assert list(make(3).map(meet, range(3))) == [0, 1, 2]


def test_max_tasks_per_child(make, tmp_path):
    started = tmp_path / "started"
    started.mkdir()
    executor = make(1, initializer=initialize, initargs=(started, 0), max_tasks_per_child=3)
    assert list(executor.map(square, range(6), chunksize=6)) == [x * x for x in range(6)]  # which is one task
    assert [executor.submit(square, x).result() for x in range(6)] == [0, 1, 4, 9, 16, 25]
    assert len(list(started.iterdir())) == 3


def test_max_tasks_per_child_of_one_with_many_calls(executor_class, make, tmp_path):
    calls = 500 if executor_class is FakeExecutor else 5  # a process of Ray takes half a second
    executor = make(2, max_tasks_per_child=1)

    def overlap(x):
        mine = tmp_path / str(x)
        mine.touch()
        count = len(list(tmp_path.iterdir()))
        mine.unlink()
        return x, count <= 2

    assert list(executor.map(overlap, range(calls))) == [(x, True) for x in range(calls)]


@pytest.mark.parametrize("stop", ["terminate_workers", "kill_workers"])
def test_workers_are_ended_at_once(make, tmp_path, stop):
    executor = make(2)
    running = [executor.submit(note_and_wait, tmp_path, str(x), "go") for x in range(2)]
    waiting = executor.submit(square, 3)
    for x in range(2):
        wait_for(tmp_path / str(x))
    getattr(executor, stop)()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(square, 3)
    assert [type(future.exception(60)) for future in running] == [WorkerLost] * 2
    with pytest.raises(cf.CancelledError):
        waiting.result(60)
    executor.shutdown()
    getattr(executor, stop)()
    (tmp_path / "go").touch()


def test_ending_the_workers_shuts_down(executor_class, make):
    calls = []

    class Told(executor_class):
        def shutdown(self, wait=True, *, cancel_futures=False):
            calls.append((wait, cancel_futures))
            super().shutdown(wait, cancel_futures=cancel_futures)

    executor = Told(1)
    executor.terminate_workers()
    assert calls == [(False, True)]
    executor.shutdown()


def test_initializer_runs_once_per_worker_in_the_thread_of_the_calls(make, tmp_path):
    executor = make(1, initializer=initialize, initargs=(tmp_path, 5))
    assert list(executor.map(initialized_here, range(10))) == [5] * 10
    assert len(list(tmp_path.iterdir())) == 1


def test_failing_initializer_breaks_the_executor(make):
    def initialize():
        raise LookupError("no model")

    executor = make(2, initializer=initialize)
    futures = [executor.submit(square, x) for x in range(5)]
    for future in futures:
        with pytest.raises(cf.process.BrokenProcessPool, match="no model") as caught:
            future.result()
        assert type(caught.value.__cause__) is LookupError
    with pytest.raises(ExecutorBroken, match="no model"):
        executor.submit(square, 1)
    with pytest.raises(ExecutorBroken, match="no model"):
        executor.map(square, [1])


def custom_class():
    # Local, so that it travels by value: Ray looks for an actor's module beside the program only.
    class Custom(LabelledActor):
        def __init__(self, func=None):
            super().__init__(func)
            self.loaded = 100

        def run(self, label, *args):
            label, value = super().run(label, *args)
            return label, (label, self.loaded + value)

    return Custom


def test_actor_class(make):
    Custom = custom_class()  # noqa: N806
    executor = make(square, 2, actor_class=Custom)
    assert list(executor.map(range(4))) == [(0, 100), (1, 101), (2, 104), (3, 109)]
    assert list(executor.map(None, range(4), chunksize=3)) == [(0, 100), (1, 101), (2, 104), (3, 109)]
    assert executor.submit(square, 3).result() == (0, 109)
    assert list(executor.map(abs, [-1])) == [1], "only the stored function's calls go through run"


def test_labels_are_those_of_the_series(make, tmp_path):
    class Noting(LabelledActor):
        def run(self, label, *args):
            (tmp_path / str(label)).touch()
            return super().run(label, *args)

    executor = make(square, 1, actor_class=Noting)
    executor.map([1, Unpicklable(), 3, 4], chunksize=3)
    executor.shutdown()
    assert sorted(os.listdir(tmp_path)) == ["0", "2", "3"]


def test_overridden_get_func(make):
    class Doubling(LabelledActor):
        def get_func(self):
            return lambda x: 2 * x

    assert list(make(square, 1, actor_class=Doubling).map([1, 2, 3])) == [2, 4, 6]


def test_actors_attribute(make):
    assert len(make(square, 2).actors) == 2
    assert make.fresh(3).actors == []


def test_attributes(make):
    executor = make(3)
    assert (executor._max_workers, executor.max_workers, executor.chunk_size, executor.size) == (3, 3, 3, 3)
    assert type(executor._max_workers) is int
    assert make(max_workers=2).chunk_size == make(chunk_size=2, max_workers=2).chunk_size == 2
    assert make(np.int64(2)).chunk_size == make(square, np.int64(2)).chunk_size == 2
    assert type(make(np.int64(2))._max_workers) is int
    executor.anything = 1
