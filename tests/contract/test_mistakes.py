"""Mistakes of the user raise at once, and the error names them."""

from __future__ import annotations

import os
import time

import pytest

from thread_chunks import PicklingFailed, chunk


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
    from fake_cluster import FakeExecutor

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
