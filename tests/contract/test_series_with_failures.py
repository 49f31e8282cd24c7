"""A series that goes on after an error, and one whose values come with their arguments."""

from __future__ import annotations

import concurrent.futures as cf
import gc
import itertools
import logging
import os
import sys
import time
import weakref

import pytest
from checkpointed import Noted
from failing import nap, square
from fake_cluster import FakeExecutor
from functions import Unpicklable, wait_for

from thread_chunks import (
    CallTimeout,
    Checkpoint,
    Chunker,
    ExecutorBroken,
    PicklingFailed,
    RemoteTraceback,
    WorkerLost,
    chunker,
)


def no_threes(x):
    if x % 3 == 0:
        raise LookupError(x)
    return x


def shown(items):
    return [repr(item) for item in items]


EXPECTED = [repr(LookupError(x) if x % 3 == 0 else x) for x in range(20)]


@pytest.mark.parametrize("options", [{}, {"chunksize": 4}, {"buffersize": 3}, {"unordered": True}], ids=str)
def test_exceptions_stand_in_their_calls_place(make, options):
    executor = make(2)
    for calls in (range(20), iter(range(20))):
        values = shown(executor.map(no_threes, calls, return_exceptions=True, **options))
        assert values == EXPECTED or (options.get("unordered") and sorted(values) == sorted(EXPECTED))
    rows = executor.starmap(no_threes, [(x,) for x in range(20)], return_exceptions=True, **options)
    assert sorted(shown(rows)) == sorted(EXPECTED)


def test_exceptions_have_their_remote_traceback(make):
    (error,) = make(1).map(no_threes, [3], return_exceptions=True)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "in no_threes" in str(error.__cause__)


def test_nothing_is_cancelled_by_an_exception(make, tmp_path):
    def f(x):
        (tmp_path / str(x)).touch()
        return 1 // x

    values = make(1).map(f, range(100), return_exceptions=True)
    assert isinstance(next(values), ZeroDivisionError)
    assert len(list(values)) == 99
    assert len(list(tmp_path.iterdir())) == 100


def test_what_becomes_of_calls_is_an_exception_too(make):
    executor = make(2, call_timeout=1)
    values = executor.starmap(nap, [(0, 1), (0, Unpicklable()), (60, 2), (0, 3)], return_exceptions=True)
    assert [type(value) for value in values] == [int, PicklingFailed, CallTimeout, int]


def test_a_lost_worker_is_an_exception_too(make, executor_class):
    if executor_class is FakeExecutor:
        pytest.skip("its workers are threads")

    def die(x):
        return os._exit(1) if x == 1 else x

    values = list(make(1).map(die, range(4), chunksize=1, return_exceptions=True))
    assert isinstance(values.pop(1), WorkerLost)
    assert values == [0, 2, 3]


@pytest.mark.parametrize("raised", [cf.CancelledError, ExecutorBroken, KeyboardInterrupt, SystemExit])
def test_errors_of_the_calls_own_are_not_taken_for_the_executors_end(make, raised):
    def nested(x):
        if x == 1:
            raise raised("mine")
        return x

    values = list(make(1).map(nested, range(3), return_exceptions=True))
    assert type(values.pop(1)) is raised
    assert values == [0, 2]


@pytest.mark.parametrize("buffersize", [None, 3])
def test_the_end_of_the_time_is_raised(make, tmp_path, buffersize):
    options = {"timeout": 0.2, "return_exceptions": True, "buffersize": buffersize}
    values = make(1).map(wait_for, [tmp_path / "go"] * 3, **options)
    with pytest.raises(cf.TimeoutError):
        next(values)
    (tmp_path / "go").touch()


@pytest.mark.parametrize("buffersize", [None, 3])
def test_a_broken_executor_is_raised(make, buffersize):
    def fail():
        raise OSError("no licence")

    executor = make(2, initializer=fail)
    with pytest.raises(ExecutorBroken):
        list(executor.map(no_threes, range(10), return_exceptions=True, buffersize=buffersize))


def test_cancellation_is_raised(make, tmp_path):
    executor = make.fresh(1)
    values = executor.map(wait_for, [tmp_path / "go"] * 10, return_exceptions=True, chunksize=1)
    executor.shutdown(wait=False, cancel_futures=True)
    (tmp_path / "go").touch()
    with pytest.raises(cf.CancelledError):
        list(values)


def test_exceptions_of_a_submit_that_was_overridden(executor_class):
    class Overriding(executor_class):
        def submit(self, fn, /, *args, **kwargs):
            return super().submit(fn, *args, **kwargs)

    with Overriding(2) as executor:
        assert shown(executor.map(no_threes, range(20), return_exceptions=True)) == EXPECTED
        pairs = list(executor.map(no_threes, range(20), return_exceptions=True, with_arguments=True, unordered=True))
        assert sorted((x, repr(value)) for (x,), value in pairs) == list(enumerate(EXPECTED))


def test_a_line_of_the_log_and_the_bar_say_how_many_failed(make, caplog, capsys):
    executor = make(2)
    with caplog.at_level(logging.WARNING, "thread_chunks"):
        list(executor.map(no_threes, range(1, 20), return_exceptions=True, progress_bar=True))
    assert "6 of 19 calls of no_threes failed; the first one that was seen: LookupError: 3" in caplog.text
    assert "failed=6" in capsys.readouterr().err
    caplog.clear()
    list(executor.map(square, range(3), return_exceptions=True))
    assert caplog.text == ""


def test_what_failed_is_run_again_by_the_next_run(make, tmp_path):
    noted, path = Noted(tmp_path), tmp_path / "checkpoint"
    options = {"path": path, "return_exceptions": True}
    for ran in (["1", "2", "bad"], ["bad"]):
        values = list(make(2).map(noted.function(), [1, "bad", 2], **options))
        assert shown(values) == shown([[1, 1], ValueError("bad"), [2, 2]])
        assert noted.take() == ran
    assert len(Checkpoint.load(path)) == 2
    lazily = make(2).map(noted.function(), iter([1, "bad", 2]), buffersize=2, **options)
    assert shown(lazily) == shown([[1, 1], ValueError("bad"), [2, 2]])


def test_chunk_and_chunker(executor_class, monkeypatch, tmp_path):
    monkeypatch.setattr(chunker, "ChunkExecutor", executor_class)
    rows, path = [[x] for x in range(20)], tmp_path / "checkpoint"
    assert shown(chunker.chunk(no_threes, rows, chunk_size=2, return_exceptions=True)) == EXPECTED
    assert shown(chunker.chunk(no_threes, rows, chunk_size=1, return_exceptions=True, path=path)) == EXPECTED
    assert chunker.chunk(no_threes, [[1], [2]], path=path, return_exceptions=True) == [1, 2]
    with Chunker(no_threes, chunk_size=1) as made:
        assert shown(made(rows, return_exceptions=True)) == EXPECTED
        with pytest.raises(LookupError):
            made(rows)


@pytest.mark.parametrize("options", [{}, {"chunksize": 4}, {"buffersize": 3}, {"unordered": True}], ids=str)
@pytest.mark.parametrize("is_iterator", [False, True])
def test_values_with_their_arguments(make, options, is_iterator):
    executor = make(2)
    calls = iter(range(20)) if is_iterator else range(20)
    pairs = list(executor.map(pow, calls, itertools.repeat(2), with_arguments=True, **options))
    assert sorted(pairs) == [((x, 2), x * x) for x in range(20)]
    rows = list(executor.starmap(pow, [[3, 2], (2, 3)], with_arguments=True, **options))
    assert sorted(rows) == [((2, 3), 8), ((3, 2), 9)]


def test_values_come_with_their_arguments_as_they_come(make, tmp_path):
    def late_first(x):
        if x == 0:
            wait_for(tmp_path / "go")
        return -x

    pairs = make(2).map(late_first, range(5), unordered=True, with_arguments=True)
    assert sorted(itertools.islice(pairs, 4)) == [((x,), -x) for x in range(1, 5)]
    (tmp_path / "go").touch()
    assert list(pairs) == [((0,), 0)]


@pytest.mark.parametrize("unordered", [False, True])
@pytest.mark.parametrize("buffersize", [None, 2])
def test_values_of_a_checkpoint_come_with_their_arguments(make, tmp_path, unordered, buffersize):
    noted, path = Noted(tmp_path), tmp_path / "checkpoint"
    executor = make(2)
    list(executor.map(noted.function(), [1, 3], path=path))
    options = {"path": path, "unordered": unordered, "buffersize": buffersize, "with_arguments": True}
    pairs = executor.map(noted.function(), [0, 1, 2, 3], **options)
    assert sorted(pairs) == [((x,), [x, x]) for x in range(4)]


def test_references_come_with_their_arguments(executor_on_ray):
    executor = executor_on_ray(2)
    pairs = executor.map(square, range(3), results="refs", with_arguments=True)
    assert [(x, executor.submit(int, reference).result()) for (x,), reference in pairs] == [(0, 0), (1, 1), (2, 4)]


def test_arguments_and_values_that_were_yielded_are_not_kept(make):
    class Thing:
        pass

    things = [Thing() for _ in range(5)]
    references = [weakref.ref(thing) for thing in things]
    pairs = make(2).map(lambda thing: Thing(), iter(things), with_arguments=True)
    things.clear()
    for (thing,), value in pairs:
        references.append(weakref.ref(value))
        del thing, value
        gc.collect()
        deadline = time.monotonic() + 60
        while references[0]() is not None:  # the dispatcher may hold it a moment longer
            assert time.monotonic() < deadline
        del references[0]
    assert all(reference() is None for reference in references)


def fail_at_length(x):
    raise ValueError("y" * 20_000)


def two_arguments(x, y):
    return x + y


def test_long_texts_of_errors_are_cut_in_the_log(make, caplog):
    (error,) = make(1).map(fail_at_length, [1], return_exceptions=True)
    assert len(str(error)) == 20_000
    (line,) = [record.getMessage() for record in caplog.records if "calls of" in record.getMessage()]
    assert "ValueError: yyy" in line
    assert len(line) < 500


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have no notes")
def test_rows_that_map_passes_as_one_argument_are_for_starmap(make):
    executor = make(1)

    def notes(function, item):
        (error,) = executor.map(function, [item], return_exceptions=True)
        return " ".join(error.__notes__)

    assert "`starmap` passes each row as arguments" in notes(two_arguments, [1.0, 2])
    assert "`starmap`" in notes(two_arguments, (1.0, 2))
    assert "`starmap`" in notes(divmod, [7, 2])
    assert "`starmap`" not in notes(two_arguments, 1.0)
    assert "`starmap`" not in notes(lambda row: two_arguments(row), [1.0, 2]), "another function lacks it"
    assert "`starmap`" not in notes(lambda row: row + 1, [1.0, 2])


def test_unknown_options(make):
    executor = make(1)
    with pytest.raises(TypeError, match=r"map\(\) got an unexpected keyword argument 'return_exception'"):
        executor.map(square, [1], return_exception=True)
    with pytest.raises(TypeError, match=r"starmap\(\) got an unexpected keyword argument 'chunk_size'"):
        executor.starmap(square, [(1,)], chunk_size=3)
