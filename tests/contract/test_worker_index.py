"""Which worker am I: a number that no other one has."""

from __future__ import annotations

import os
import threading
import time

import pytest
from failing import wait_for
from fake_cluster import FakeExecutor

from thread_chunks import RemoteLabelledActor, worker_index


def meet_and_tell(folder, number, of):
    (folder / str(number)).touch()
    for other in range(of):
        wait_for((folder / str(other)).exists)
    return worker_index()


def meet_all(executor, folder, of):
    """Return the numbers of so many workers, which are all there at the same time."""
    folder.mkdir()
    return sorted(executor.map(lambda number: meet_and_tell(folder, number, of), range(of), chunksize=1))


def test_each_worker_has_a_number(make, tmp_path):
    executor = make(3)
    assert meet_all(executor, tmp_path / "first", 3) == [0, 1, 2]
    assert meet_all(executor.with_options(max_retries=1), tmp_path / "second", 3) == [0, 1, 2]
    assert set(executor.map(lambda _: worker_index(), range(1000))) <= {0, 1, 2}
    assert worker_index() is None


def test_the_initializer_knows_the_number(make, tmp_path):
    def initialize():
        (tmp_path / f"of {worker_index()}").touch()

    executor = make(2, initializer=initialize)
    assert meet_all(executor, tmp_path / "calls", 2) == [0, 1]
    assert {path.name for path in tmp_path.iterdir()} == {"calls", "of 0", "of 1"}


def test_one_that_takes_the_place_of_another_takes_its_number(make, tmp_path, executor_class):
    executor = make.fresh(2)
    assert meet_all(executor, tmp_path / "before", 2) == [0, 1]
    if executor_class is FakeExecutor:
        future = executor.submit(time.sleep, 1)  # a killed thread goes on
        wait_for(executor.running)
        executor.cancel(future)
    else:
        executor.submit(os._exit, 1).exception()
    assert meet_all(executor, tmp_path / "after", 2) == [0, 1]


def test_one_that_has_run_its_tasks_gives_its_number_on(make):
    executor = make(1, max_tasks_per_child=1)
    assert [executor.submit(worker_index).result() for _ in range(3)] == [0, 0, 0]


def test_two_executors_number_their_workers_each(make, tmp_path):
    executors = [make.fresh(2), make.fresh(2)]
    folders = [tmp_path / "a", tmp_path / "b"]
    assert [meet_all(executor, folder, 2) for executor, folder in zip(executors, folders, strict=True)] == [[0, 1]] * 2


def test_actors_that_two_executors_use_have_the_number_of_each(executor_on_ray):
    actors = [RemoteLabelledActor.remote() for _ in range(2)]
    numbers = {}
    for order in (actors, actors[::-1]):
        executor = executor_on_ray(actors=order)
        for pid, index in executor.map(lambda _: (time.sleep(0.05), os.getpid(), worker_index())[1:], range(12)):
            numbers.setdefault(pid, []).append(index)
    assert all(set(found) <= {0, 1} for found in numbers.values())


def test_threads_of_a_call_know_the_number_in_a_process_of_its_own(make, executor_class):
    if executor_class is FakeExecutor:
        pytest.skip("its workers are threads of one process")

    def by_thread():
        found = []
        thread = threading.Thread(target=lambda: found.append(worker_index()))
        thread.start()
        thread.join()
        return found

    assert make(1).submit(by_thread).result() == [0]
