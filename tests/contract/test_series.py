"""`map` and its options: order, buffer, time-outs, errors, and the bar."""

from __future__ import annotations

import concurrent.futures as cf
import gc
import itertools
import sys
import time

import pytest
from functions import square, wait_for


def test_map(make):
    executor = make(2)
    assert list(executor.map(pow, range(10), itertools.repeat(2))) == [x * x for x in range(10)]
    assert list(executor.map(square, [])) == []
    assert list(executor.map(square)) == []
    assert list(executor.starmap(pow, [(2, 3), [3, 2]])) == [8, 9]


@pytest.mark.parametrize("chunksize", [None, 1, 3, 1000])
def test_map_chunksize(make, chunksize):
    assert list(make(2).map(square, range(100), chunksize=chunksize)) == [x * x for x in range(100)]


def test_map_keeps_order_though_calls_finish_in_another(make, tmp_path):
    def late_first(x):
        if x == 0:
            wait_for(tmp_path / "4")
        (tmp_path / str(x)).touch()
        return x

    assert list(make(2).map(late_first, range(5))) == list(range(5))


def test_map_unordered(make, tmp_path):
    def late_first(x):
        if x == 0:
            wait_for(tmp_path / "go")
        return x

    values = make(2).map(late_first, range(5), unordered=True)
    assert sorted(itertools.islice(values, 4)) == [1, 2, 3, 4]
    (tmp_path / "go").touch()
    assert list(values) == [0]


@pytest.mark.parametrize("unordered", [False, True])
def test_map_buffersize(make, unordered):
    taken = []

    def source():
        for x in itertools.count():
            taken.append(x)
            yield x

    values = make(2).map(square, source(), buffersize=5, unordered=unordered)
    assert len(taken) == 5
    for consumed in range(1, 50):
        next(values)
        assert len(taken) == 5 + consumed
    values.close()


def test_map_buffersize_to_the_end(make):
    executor = make(2)
    assert list(executor.map(square, iter(range(100)), buffersize=7)) == [x * x for x in range(100)]
    assert list(executor.map(square, range(100), buffersize=1)) == [x * x for x in range(100)]
    assert list(executor.map(square, [], buffersize=1)) == []


def test_map_buffersize_after_shutdown(make):
    executor = make(1)
    values = executor.map(square, itertools.count(), buffersize=2)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        next(values)


def test_map_buffersize_of_a_dropped_executor(executor_class):
    values = executor_class(2).map(square, range(20), buffersize=2)
    for expected in range(20):
        gc.collect()
        assert next(values) == expected * expected
        time.sleep(0.01)
    assert list(values) == []


def test_map_starts_while_its_input_is_still_read(make, tmp_path):
    def source():
        yield tmp_path / "first"
        wait_for(tmp_path / "first")
        yield tmp_path / "second"

    assert list(make(1).map(lambda path: path.touch(), source())) == [None, None]


@pytest.mark.parametrize("buffersize", [None, 2])
def test_map_timeout_counts_from_the_call(make, tmp_path, buffersize):
    executor = make(1)
    values = executor.map(wait_for, [tmp_path / "go", tmp_path / "go"], timeout=0.2, buffersize=buffersize)
    with pytest.raises(cf.TimeoutError):
        next(values)
    (tmp_path / "go").touch()


def test_timeout_error_of_the_function_is_not_taken_for_the_time_out(make):
    def slow():
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        make(1).submit(slow).result(timeout=60)


def test_map_error_comes_in_its_place_and_cancels_the_rest(make, tmp_path):
    def f(x):
        (tmp_path / str(x)).touch()
        if x == 3:
            raise LookupError(x)
        return x

    values = make(1).map(f, range(1000))
    assert [next(values) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(LookupError):
        next(values)
    assert list(values) == []
    assert len(list(tmp_path.iterdir())) < 1000


@pytest.mark.parametrize("drop", [True, False])
def test_map_closed_or_dropped_cancels_the_rest(make, tmp_path, drop):
    executor = make(1)

    def f(x):
        (tmp_path / str(x)).touch()
        time.sleep(0.001)

    values = executor.map(f, range(5000))
    next(values)
    if drop:
        del values
    else:
        values.close()
    executor.shutdown()
    assert len(list(tmp_path.iterdir())) < 5000


def test_map_whose_values_are_not_asked_for_runs_all_the_same(make, tmp_path):
    executor = make(2)
    executor.map(lambda x: (tmp_path / str(x)).touch(), range(50))
    executor.shutdown()
    assert len(list(tmp_path.iterdir())) == 50


def test_values_stay_readable_after_the_end(make):
    executor = make(2)
    values = executor.map(square, range(50))
    executor.shutdown()
    assert list(values) == [x * x for x in range(50)]


def test_input_that_raises_midway(make, tmp_path):
    executor = make(1)

    def source():
        yield from range(3)
        raise OSError("the input broke")

    with pytest.raises(OSError, match="the input broke"):
        executor.map(square, source())
    values = executor.map(square, source(), buffersize=2)
    assert next(values) == 0
    with pytest.raises(OSError, match="the input broke"):
        list(values)
    assert executor.submit(square, 2).result() == 4


def test_map_goes_through_a_submit_that_was_overridden(executor_class):
    submitted = []

    class Overriding(executor_class):
        def submit(self, fn, /, *args, **kwargs):
            submitted.append(args)
            return super().submit(fn, *args, **kwargs)

    with Overriding(2) as executor:
        assert list(executor.map(square, range(5))) == [0, 1, 4, 9, 16]
        assert list(executor.map(square, iter(range(5)), buffersize=2)) == [0, 1, 4, 9, 16]
        assert sorted(executor.starmap(pow, [(1, 2), (2, 2)], unordered=True)) == [1, 4]
        with pytest.raises(ZeroDivisionError):
            list(executor.map(divmod, [1, 1], [1, 0]))
    assert len(submitted) == 14


def test_map_goes_through_a_submit_that_was_replaced_on_the_instance(make):
    executor, submitted = make(2), []
    original = executor.submit
    executor.submit = lambda *args: submitted.append(args) or original(*args)
    assert list(executor.map(square, [1, 2])) == [1, 4]
    assert submitted == [(square, 1), (square, 2)]


def test_bar_counts_calls_and_goes_away_on_errors(make, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    executor = make(2)
    assert len(list(executor.map(square, range(20), progress_bar=True))) == 20
    assert "20/20" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        list(executor.map(divmod, [1, 1], [1, 0], progress_bar=True))
    assert capsys.readouterr().err.endswith("\r")
    assert list(executor.map(square, range(3))) == [0, 1, 4]
    assert capsys.readouterr().err == ""
