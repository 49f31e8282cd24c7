"""Calls of `submit` that go through a checkpoint."""

from __future__ import annotations

import concurrent.futures as cf
import gc
import random
import sqlite3
import threading
from contextlib import closing

import numpy as np
import pytest
from checkpointed import Unhashable, finished, until
from functions import keywords, wait_for

from thread_chunks import Checkpoint, CheckpointStaleWarning, call_seed


def keep(make, path, **options):
    return make(2).with_options(path=path, **options)


def values_of_all_functions(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM outcomes").fetchone()[0]


def test_what_is_there_is_not_run_again(make, path, noted):
    function = noted.function()
    for ran in (["1", "2"], []):
        executor = keep(make, path)
        futures = [executor.submit(function, x) for x in (1, 2)]
        assert ran or all(future.done() for future in futures)
        assert [future.result(60) for future in futures] == [[1, 1], [2, 2]]
        until(lambda: finished(path) == 2)
        assert noted.take() == ran


def test_it_is_the_file_of_map(make, path, noted):
    function = noted.function()
    assert list(make(2).map(function, [1, 2], path=path)) == [[1, 1], [2, 2]]
    executor = keep(make, path)
    futures = [executor.submit(function, x) for x in (3, 2, 1)]
    assert [future.result(60) for future in futures] == [[3, 3], [2, 2], [1, 1]]
    assert noted.take() == ["1", "2", "3"]
    until(lambda: finished(path) == 3)
    assert list(executor.map(function, [1, 2, 3])) == [[1, 1], [2, 2], [3, 3]], "series that name no file use it, too"
    assert noted.take() == []
    with pytest.raises(ValueError, match="nor path"):
        executor.map(function, [1], results="refs")


def test_the_kth_call_of_equal_arguments_is_the_kth_value(make, path):
    def draw(_):
        return random.random()

    executor = keep(make, path)
    drawn = [future.result(60) for future in [executor.submit(draw, "same") for _ in range(3)]]
    assert len(set(drawn)) == 3
    until(lambda: finished(path) == 3)
    executor = keep(make, path)
    assert [executor.submit(draw, "same").result(60) for _ in range(3)] == drawn
    assert executor.submit(draw, "same").result(60) not in drawn
    assert list(make(2).map(draw, ["same"] * 3, path=path)) == drawn


@pytest.mark.parametrize("function", [keywords, abs, lambda *args, **kwargs: (args, kwargs)])
def test_functions_and_arguments_of_all_kinds(make, path, function):
    calls = [((-1,), {})] if function is abs else [((), {}), ((1,), {"x": [2]}), ((np.ones(100_000),), {"y": "z"})]
    for is_there in (False, True):
        executor = keep(make, path)
        futures = [executor.submit(function, *args, **kwargs) for args, kwargs in calls]
        assert all(future.done() for future in futures) or not is_there
        values = [future.result(60) for future in futures]
        assert repr(values) == repr([function(*args, **kwargs) for args, kwargs in calls])
        until(lambda: finished(path) == len(calls))
    if function is keywords:
        assert Checkpoint.load(path).parameters == [[], {0: 1, "x": [2]}, None]


def test_a_callable_with_a_state_counts_by_it(make, path):
    class Scaled:
        def __init__(self, factor):
            self.factor = factor

        def __call__(self, x):
            return self.factor * x

    executor = keep(make, path)
    assert executor.submit(Scaled(2), 3).result(60) == 6
    assert executor.submit(Scaled(3), 3).result(60) == 9
    until(lambda: values_of_all_functions(path) == 2)
    assert keep(make, path).submit(Scaled(2), 3).result(0) == 6


def test_the_stored_function(make, path):
    for is_there in (False, True):
        executor = make(keywords, 1).with_options(path=path)
        future = executor.submit(None, 1)
        assert future.done() or not is_there
        assert future.result(60) == ((1,), {})
        until(lambda: finished(path) == 1)


def test_errors_are_not_kept(make, path, noted):
    function = noted.function()
    for _ in range(2):
        executor = keep(make, path)
        assert isinstance(executor.submit(function, "bad").exception(60), ValueError)
        assert noted.take() == ["bad"]


def test_by_a_key(make, path, noted):
    function = noted.function()
    for ran in (["0.25"], []):
        assert keep(make, path, key=lambda x: f"{x:.1f}").submit(function, 0.25).result(60) == [0.25, 0.25]
        until(lambda: finished(path) == 1)
        assert noted.take() == ran
    with pytest.raises(ValueError, match="give path too"):
        make(1).with_options(key=str)
    with pytest.raises(TypeError, match="cannot be found again"):
        keep(make, path).submit(function, Unhashable())


def test_values_that_are_changed_as_soon_as_they_are_there(make, path):
    executor = keep(make, path)
    for number in range(50):
        executor.submit(lambda x: [x], number).result(60).append("changed")
    until(lambda: finished(path) == 50)
    assert Checkpoint.load(path).output == [[number] for number in range(50)]


def test_arguments_that_are_changed_before_they_are_sent(make, path, tmp_path, caplog):
    executor = make(1).with_options(path=path)
    blocking = executor.submit(wait_for, tmp_path / "go")
    argument = [1]
    future = executor.submit(len, argument)
    argument.append(2)
    (tmp_path / "go").touch()
    blocking.result(60)
    assert future.result(60) in (1, 2)
    assert keep(make, path).submit(len, [1]).result(60) == 1


def test_with_futures_as_arguments(make, path, noted):
    function = noted.function()
    for ran in (["2", "[2, 2]"], []):
        executor = keep(make, path)
        last = executor.submit(lambda pair, f=function: f(pair), executor.submit(function, 2))
        assert last.result(60) == [[2, 2], [2, 2]]
        until(lambda: values_of_all_functions(path) == 2)
        assert "".join(noted.take()).count("2") == "".join(ran).count("2")
    waiting = keep(make, path).submit(function, by_hand := cf.Future())
    by_hand.set_result(Unhashable())
    with pytest.raises(TypeError, match="cannot be found again"):
        waiting.result(60)


def test_with_seeds_and_retries(make, path):
    def seed():
        return call_seed()

    options = {"seed": 7, "max_retries": 1}
    drawn = [keep(make, path, **options).submit(seed).result(60) for _ in range(2)]
    assert drawn[0] == drawn[1] == make(1).with_options(seed=7).submit(seed).result(60)
    assert keep(make, path, seed=8).submit(seed).result(60) != drawn[0]


def test_values_of_other_code(make, path):
    def define(number):
        names = {"__name__": __name__}
        exec(f"def changing(x):\n    return x + {number}", names)
        return names["changing"]

    assert keep(make, path).submit(define(1), 1).result(60) == 2
    until(lambda: finished(path) == 1)
    with pytest.warns(CheckpointStaleWarning, match="the code of `changing` differs") as caught:
        assert keep(make, path).submit(define(2), 1).result(60) == 3
    assert caught[0].filename == __file__


def test_many_threads(make, path):
    executor = keep(make, path)
    got = []

    def submit_some():
        got.extend(executor.submit(abs, -x).result(60) for x in range(20))

    threads = [threading.Thread(target=submit_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(list(range(20)) * 4)
    until(lambda: finished(path) == 80)


def test_it_lasts_as_long_as_the_calls(make, path):
    future = keep(make, path).submit(abs, -3)
    gc.collect()
    assert future.result(60) == 3
    until(lambda: finished(path) == 1)
