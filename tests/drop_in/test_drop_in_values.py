"""Values and errors come as from `ProcessPoolExecutor`."""

from __future__ import annotations

import concurrent.futures as cf
import os
import sys
import threading
import traceback
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from scenarios import (
    SCENARIOS,
    Unpicklable,
    UnpicklableError,
    agree,
    arrays,
    flat,
    identity,
    make_unpicklable,
    raise_chain,
    raise_error,
    raise_group,
    raise_several,
    raise_with_notes,
    raised,
    resolved,
    scenario,
    write_to_arrays,
)


@scenario
def arrays_are_writable_on_both_sides_and_not_shared(make, folder):
    executor, seen = make(1), []
    for size in (3, 12_500_000 // 8):  # the large ones are 50 MB together
        given = arrays(size)
        back = executor.submit(write_to_arrays, *given).result()
        for array in flat(*back):
            array[-1] = 8
        seen.append([(array[0], array[-1], array.sum(), array.flags.writeable) for array in flat(*back)])
        seen.append([array.any() for array in flat(*given)])
    return seen


@scenario
def values_come_back_as_they_went(make, folder):
    values = [None, True, 1 << 100, 1.5, float("inf"), 2j, "é" * 10**5, b"x" * 10**6, bytearray(3), {1: [2, (3, {4})]}]
    values += [range(3), Ellipsis, int, os.getcwd, np.float64(3), np.arange(3) > 1, slice(1, 2)]
    back = list(make(2).map(identity, values))
    return [(type(value).__name__, repr(value)) for value in back]


@scenario
def one_object_within_a_call_stays_one(make, folder):
    shared = [1]
    a, b = make(1).submit(identity, shared, shared).result()
    return a is b, a is shared


@scenario
def errors_arrive_as_they_were_raised(make, folder):
    executor = make(1)
    raising = [raise_several, raise_chain, *([raise_with_notes, raise_group] if sys.version_info >= (3, 11) else [])]
    seen = []
    for function in raising:
        error = executor.submit(function).exception()
        text = "".join(traceback.format_exception(error))
        attributes = {name: value for name, value in vars(error).items() if name != "__notes__"}
        marks = [function.__name__, "KeyError", "direct cause", "a note", "TypeError: 2"]
        group = [repr(inner) for inner in getattr(error, "exceptions", ())]
        notes = getattr(error, "__notes__", None)
        seen.append((type(error), repr(error.args), attributes, notes, group, [mark in text for mark in marks]))
    return seen


@scenario
def errors_of_every_kind_belong_to_their_call(make, folder):
    executor = make(1)
    kinds = [
        (SystemExit, 3),
        (KeyboardInterrupt,),
        (GeneratorExit,),
        (StopIteration, 4),
        (OSError, 2, "no such file", "name"),
        (UnicodeDecodeError, "utf-8", b"x", 0, 1, "bad"),
        (cf.CancelledError, "mine"),
        (cf.TimeoutError, "mine"),
        (BrokenProcessPool, "mine"),
    ]
    futures = [executor.submit(raise_error, *kind) for kind in kinds]
    return [resolved(future) for future in futures], executor.submit(identity, 1).result()


@scenario
def what_cannot_be_pickled_is_the_error_of_its_call(make, folder):
    executor = make(2)
    futures = [
        executor.submit(identity, Unpicklable()),
        executor.submit(make_unpicklable, Unpicklable),
        executor.submit(raise_error, UnpicklableError),
        executor.submit(make_unpicklable, threading.Lock),
    ]
    return [isinstance(future.exception(60), Exception) for future in futures], executor.submit(identity, 1).result()


@scenario
def time_out_that_the_function_raises_is_its_own(make, folder):
    executor = make(1)
    values = executor.map(raise_error, [TimeoutError], ["mine"], timeout=60)
    return raised(executor.submit(raise_error, TimeoutError, "mine").result, timeout=60), raised(next, values)


@pytest.mark.parametrize("function", SCENARIOS[__name__], ids=lambda function: function.__name__)
def test_scenario(function, make, on_process_pool, tmp_path):
    agree(function, make, on_process_pool, tmp_path)
