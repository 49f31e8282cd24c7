"""What `ProcessPoolExecutor` may be called with, `ChunkExecutor` may be called with."""

from __future__ import annotations

import concurrent.futures as cf
import inspect
import multiprocessing

import pytest
from scenarios import SCENARIOS, agree, initialize, initialized, raised, scenario

from thread_chunks import ChunkExecutor


@scenario
def bad_numbers_of_workers(make, folder):
    return [raised(make, n)[0] for n in (0, -1, "2")]


@scenario
def attributes_may_be_set(make, folder):
    executor = make(2)
    executor.mine = 1
    future = executor.submit(abs, -1)
    future.mine = 2
    return executor._max_workers, executor.mine, future.mine


@pytest.mark.parametrize(
    ("method", "args", "kwargs"),
    [
        ("__init__", (), {}),
        ("__init__", (4,), {}),
        ("__init__", (4, None), {}),
        ("__init__", (4, multiprocessing.get_context("spawn"), print, (1,)), {}),
        ("__init__", (None, multiprocessing.get_context("spawn")), {}),
        ("__init__", (), {"max_workers": 4, "mp_context": None, "initializer": print, "initargs": (1,)}),
        ("__init__", (4,), {"max_tasks_per_child": 3}),
        ("submit", (abs, 1), {}),
        ("submit", (abs,), {"fn": 1, "x": 2}),
        ("map", (abs, [1]), {}),
        ("map", (pow, [1], [2]), {"timeout": 3, "chunksize": 10}),
        ("map", (abs, [1]), {"buffersize": 3}),
        ("map", (), {"fn": abs}),
        ("shutdown", (), {}),
        ("shutdown", (False,), {}),
        ("shutdown", (), {"wait": False, "cancel_futures": True}),
        ("terminate_workers", (), {}),
        ("kill_workers", (), {}),
        ("__exit__", (None, None, None), {}),
    ],
)
def test_standard_call_forms_bind(method, args, kwargs):
    inspect.signature(getattr(ChunkExecutor, method)).bind(None, *args, **kwargs)


def test_argument_specifications_agree():
    for method in ("submit", "map", "shutdown"):
        standard = inspect.getfullargspec(getattr(cf.ProcessPoolExecutor, method))
        ours = inspect.getfullargspec(getattr(ChunkExecutor, method))
        assert ours.args == standard.args
        assert (ours.varargs is None) == (standard.varargs is None)
        assert set(standard.kwonlyargs) <= set(ours.kwonlyargs)
    standard = list(inspect.signature(cf.ProcessPoolExecutor).parameters)
    assert set(standard) <= set(inspect.signature(ChunkExecutor).parameters)


def test_a_context_is_accepted_wherever_the_standard_library_takes_it(make):
    context = multiprocessing.get_context("spawn")
    for executor in (make(2, context), make(2, multiprocessing), make(max_workers=2, mp_context=context)):
        assert executor._max_workers == 2
    assert make(2, context, initialize, (None, 1)).submit(initialized).result()[0] == 1
    assert make(None, context)._max_workers == make()._max_workers


@pytest.mark.parametrize("function", SCENARIOS[__name__], ids=lambda function: function.__name__)
def test_scenario(function, make, on_process_pool, tmp_path):
    agree(function, make, on_process_pool, tmp_path)
