"""Mistakes of the user raise at once, and the error names them."""

from __future__ import annotations

import inspect
import os
import time

import pytest
from fake_cluster import FakeExecutor

from thread_chunks import Chunker, ChunkExecutor, PicklingFailed, chunk, chunker
from thread_chunks._arguments import _TAKERS


@pytest.mark.parametrize("row", [{1: 2}, {"x": 1, None: 2}, "xy", b"xy", 5, {1, 2}, frozenset({"x"})])
def test_what_is_neither_a_list_of_arguments_nor_a_mapping_of_them(make, row):
    for parameters in ([row], (row,), iter([row]), [[1], row]):
        with pytest.raises(TypeError, match=r"parameters\[\d\] "):
            list(make(1).starmap(print, parameters))
    with pytest.raises(TypeError, match=r"parameters\[0\] "):
        chunk(print, [row])


@pytest.mark.parametrize("parameters", [{(1, 2): 3}, print, 5, None])
def test_what_is_no_series_of_arguments(parameters):
    with pytest.raises(TypeError, match="parameters must be a list with a list of arguments for each call"):
        chunk(print, parameters)


@pytest.mark.parametrize("value", [5, 2.5, object(), True])
def test_a_function_that_was_called_by_mistake_is_named(make, value):
    with pytest.raises(TypeError, match="map has no function: its first argument is"):
        make(1).map(value, [1, 2])
    with pytest.raises(TypeError, match="starmap has no function: its first argument is"):
        make(1).starmap(value)
    with pytest.raises(TypeError, match="map has no function"):
        make(abs, 1).map(value)


def test_the_value_of_a_function_in_its_place(make, monkeypatch):
    words = r"simulate, not simulate\(\.\.\.\)"
    monkeypatch.setattr(chunker, "ChunkExecutor", None)  # none is made, and Ray is not started
    executor = make(1)
    for use in (
        lambda: chunk(1.5, [[1]]),
        lambda: executor.submit(1.5, 1),
        lambda: executor.map(1.5, [1]),
        lambda: executor.set_func(1.5),
        lambda: make(1.5),
    ):
        with pytest.raises(TypeError, match=words):
            use()


def test_an_argument_of_map_that_is_not_iterable_is_named(make):
    with pytest.raises(TypeError, match=r"argument 2 of map after the function is not iterable: 3\. .*tools\.repeat"):
        make(1).map(pow, [1, 2], 3)
    with pytest.raises(TypeError, match="argument 1 of map after the function is not iterable: 3"):
        make(1).map(abs, 3)


WRONG = [
    (FakeExecutor, "call_time_out", "did you mean 'call_timeout'?"),
    (FakeExecutor, "path", "path: give it to map, starmap or chunk"),
    (FakeExecutor, "timeout", "timeout: give it to map or starmap"),
    (FakeExecutor, "workers", "did you mean 'max_workers'?"),
    ("map", "progressbar", "did you mean 'progress_bar'?"),
    ("map", "call_timeout", "call_timeout: give it to ChunkExecutor(...) or with_options(...)"),
    ("map", "chunk_size", "chunk_size: give it to ChunkExecutor(...) or chunk; or did you mean 'chunksize'?"),
    ("starmap", "max_retries", "max_retries: give it to ChunkExecutor(...) or with_options(...)"),
    ("with_options", "max_retry", "did you mean 'max_retries'?"),
    (chunk, "chunksize", "chunksize: give it to map or starmap; or did you mean 'chunk_size'?"),
    (chunk, "call_timeout", "chunk has no time-outs: use ChunkExecutor"),
    (chunk, "max_retries", "max_retries: give it to ChunkExecutor(...) or with_options(...)"),
    (Chunker, "progressbar", "did you mean 'progress_bar'?"),
    (Chunker, "call_timeout", "Chunker has no time-outs: use ChunkExecutor"),
]


@pytest.mark.parametrize(("taker", "name", "advice"), WRONG)
def test_options_in_the_wrong_place_or_misspelt(make, monkeypatch, taker, name, advice):
    monkeypatch.setattr(chunker, "ChunkExecutor", None)  # none is made, and Ray is not started
    if isinstance(taker, str):
        taker = getattr(make(1), taker)
    with pytest.raises(TypeError) as caught:
        taker(*[abs, [[1]]][: 0 if taker.__name__ == "with_options" else 2], **{name: 2})
    assert f"got an unexpected keyword argument {name!r}; {advice}" in str(caught.value)


def test_a_name_that_is_like_no_other(make):
    with pytest.raises(TypeError, match=r"map\(\) got an unexpected keyword argument 'colour'$"):
        make(1).map(abs, [1], colour="red")


def test_the_names_that_are_recommended_are_those_that_are_taken():
    for name, taker in {"ChunkExecutor": ChunkExecutor, "chunk": chunk, "Chunker": Chunker}.items():
        assert _TAKERS[name] == inspect.signature(taker).parameters.keys()
    assert _TAKERS["with_options"] == inspect.signature(ChunkExecutor.with_options).parameters.keys() - {"self"}


def test_an_executor_in_a_call_is_to_be_made_there(make):
    executor = make(1)
    with pytest.raises(PicklingFailed, match="make one there"):
        executor.submit(lambda: executor).result()


USES = {
    "submit": lambda executor, future: executor.submit(abs, 1),
    "map": lambda executor, future: executor.map(abs, [1]),
    "starmap": lambda executor, future: executor.starmap(abs, [[1]]),
    "cancel": lambda executor, future: executor.cancel(future),
    "running": lambda executor, future: executor.running(),
    "report": lambda executor, future: executor.report(),
    "set_func": lambda executor, future: executor.set_func(abs),
    "with_options": lambda executor, future: executor.with_options(max_retries=1),
    "actors": lambda executor, future: executor.actors,
    "kill_workers": lambda executor, future: executor.kill_workers(),
    "terminate_workers": lambda executor, future: executor.terminate_workers(),
}


@pytest.mark.parametrize("use", USES)
def test_a_forked_child_is_told_that_the_executor_is_not_its_own(use):
    with FakeExecutor(1) as executor:
        executor.submit(time.sleep, 0.2)
        pending = executor.submit(abs, 1)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                USES[use](executor, pending)
            except RuntimeError as error:
                status = 0 if "forked child" in str(error) else 2
            finally:
                executor.shutdown()
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert pending.result() == 1
