"""Run the same scenario on `ProcessPoolExecutor` and on `ChunkExecutor`, and compare the results.

A scenario takes a function that makes executors, and a folder, and returns what a program could see.
The deliberate differences are not here: `docs/from_process_pool.md` lists them, and the folder `contract` tests them.
"""

from __future__ import annotations

import concurrent.futures as cf
import dataclasses
import multiprocessing
import os
import threading
import time
from collections import defaultdict

import numpy as np
import pytest
from fake_cluster import FakeExecutor

SCENARIOS = defaultdict(list)  # by module


def scenario(function):
    SCENARIOS[function.__module__].append(function)
    return function


def scenario_of_processes(function):
    """Mark a scenario that needs workers which are processes: those of the fake cluster are threads."""
    function.of_processes = True
    return scenario(function)


def process_pool(max_workers=None, **kwargs):
    # Not forked from this process, which has the threads of Ray.
    return cf.ProcessPoolExecutor(max_workers, multiprocessing.get_context("forkserver"), **kwargs)


def identity(*args):
    return args[0] if len(args) == 1 else args


def touch(path):
    path.touch()
    return os.getpid()


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.005)


def touch_and_wait(folder, name="started", until="go"):
    (folder / name).touch()
    wait_for(folder / until)
    return name


def touch_slowly(path):
    path.touch()
    time.sleep(0.002)


@dataclasses.dataclass
class Held:
    array: np.ndarray


def arrays(size):
    array = np.zeros(size)
    return array, {"key": (array.copy(), [array.copy()])}, Held(array.copy())


def flat(plain, nested, held):
    return [plain, nested["key"][0], nested["key"][1][0], held.array]


def write_to_arrays(*given):
    for array in flat(*given):
        array[0] = 7
    return given


class Several(Exception):
    def __init__(self, a, b, *, c=3):
        super().__init__(a, b)
        self.c = c


class Unpicklable:
    def __reduce__(self):
        raise TypeError("refuses to be pickled")


class UnpicklableError(Exception):
    def __reduce__(self):
        raise TypeError("refuses to be pickled")


def make_unpicklable(kind):
    return kind()


def raise_error(kind, *args):
    raise kind(*args)


def raise_several():
    error = Several(1, 2)
    error.c = 4
    raise error


def raise_chain():
    try:
        {}["missing"]
    except KeyError as cause:
        raise LookupError("not there") from cause


def raise_with_notes():
    error = ValueError("noted")
    error.add_note("a note")
    raise error


def raise_group():
    raise ExceptionGroup("several", [ValueError(1), TypeError(2)])  # noqa: F821 (from Python 3.11 on)


_local = threading.local()


_initialized = []


def initialize(folder, value):
    _local.value = value
    _initialized.append(value)


def initialized(_=None):
    return _local.value, list(_initialized)


def fail_to_initialize():
    raise LookupError("no model")


def resolved(future):
    """Return the state of a finished future, as a program sees it."""
    error = future.exception(60)
    return future.result() if error is None else seen(error)


def seen(error):
    return type(error).__name__, error.args


def raised(function, *args, **kwargs):
    """Return a description of an error, as a program sees it."""
    try:
        return function(*args, **kwargs)
    except BaseException as error:
        return seen(error)


def agree(function, make, on_process_pool, folder):
    """Check that a scenario has the same result on both executors."""
    if make.unkept is FakeExecutor and hasattr(function, "of_processes"):
        pytest.skip("the fake cluster's workers are threads")
    assert function(make, folder) == on_process_pool(function)
