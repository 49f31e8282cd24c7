"""Another number of workers while calls run."""

from __future__ import annotations

import pytest
from failing import nap, square, wait_for
from functions import meet, note_and_wait

from thread_chunks import RemoteLabelledActor, worker_index


def test_more_calls_run_at_once(make, tmp_path):
    executor = make.fresh(1)
    values = executor.map(lambda number: meet(tmp_path, number, 3), range(3), chunksize=1)
    other = executor.with_options(max_retries=1)
    executor.resize(3)
    for each in (executor, other):
        assert (each.chunk_size, each.max_workers, each.size) == (3, 3, 3)
    assert list(values) == [0, 1, 2], "they meet, so three run at once"


def test_fewer_calls_run_at_once(make, tmp_path):
    executor = make.fresh(3)
    running = [executor.submit(note_and_wait, tmp_path, f"{n}", "go") for n in range(3)]
    wait_for(lambda: len(executor.running()) == 3)
    executor.resize(1)
    after = [executor.submit(worker_index) for _ in range(20)]
    assert (executor.chunk_size, executor.size) == (1, 1)
    assert len(executor.running()) == 3
    (tmp_path / "go").touch()
    assert [future.result(60) for future in running] == ["0", "1", "2"]
    assert {future.result(60) for future in after} == {0}
    assert len(executor.actors) == 1


def test_sizes_change_while_a_series_runs(make):
    executor = make.fresh(2)
    values = executor.map(nap, [0.001] * 400, range(400))
    got = []
    for value in values:
        got.append(value)
        if value % 100 == 50:
            executor.resize(1 + value // 100)
    assert got == list(range(400))
    assert executor.chunk_size == 4
    assert executor.report().functions[0].calls == 400


def test_with_a_stored_function_all_start(make):
    executor = make.fresh(square, 1)
    executor.resize(2)
    assert len(executor.actors) == 2
    assert list(executor.map([1, 2])) == [1, 4]


def test_a_callback_may_resize(make):
    executor = make.fresh(1)
    future = executor.submit(square, 2)
    future.add_done_callback(lambda _: executor.resize(2))
    assert future.result(60) == 4
    wait_for(lambda: executor.size == 2)


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), ("2", TypeError), (None, TypeError)])
def test_sizes_that_make_no_sense(make, size, error):
    with pytest.raises(error):
        make(1).resize(size)


def test_after_the_end(make):
    executor = make.fresh(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.resize(2)


def test_not_of_actors_that_the_executor_was_given(executor_on_ray):
    executor = executor_on_ray(actors=[RemoteLabelledActor.remote()])
    with pytest.raises(ValueError, match="make their actors"):
        executor.resize(2)
