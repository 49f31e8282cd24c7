"""The same scenario on `ProcessPoolExecutor` and on `ChunkExecutor`: what comes of it must be equal.

A scenario takes a function that makes executors, and a folder, and returns what a program could see.
The deliberate differences are not here: the README lists them, and `test_contract.py` tests them.
"""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import dataclasses
import functools
import gc
import inspect
import itertools
import logging
import multiprocessing
import os
import pickle
import sys
import threading
import time
import traceback
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from fake_cluster import FakeExecutor

from thread_chunks import ChunkExecutor

SCENARIOS = []


def scenario(function):
    SCENARIOS.append(function)
    return function


def scenario_of_processes(function):
    """Mark a scenario that tells apart threads, which the fake cluster's workers are, from processes."""
    function.of_processes = True
    return scenario(function)


@pytest.fixture(scope="session")
def on_process_pool(tmp_path_factory):
    """Tell what the standard library makes of a scenario."""

    @functools.cache
    def outcome(function):
        return play(function, process_pool, tmp_path_factory.mktemp("process_pool"))

    return outcome


def process_pool(max_workers=None, **kwargs):
    # Not forked from here, where Ray's threads are.
    return cf.ProcessPoolExecutor(max_workers, multiprocessing.get_context("forkserver"), **kwargs)


def play(function, executor_class, folder):
    made = []

    def make(*args, **kwargs):
        made.append(executor_class(*args, **kwargs))
        return made[-1]

    make.unkept = executor_class
    try:
        return function(make, folder)
    finally:
        for executor in made:
            executor.shutdown()


# What the calls run


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
    """Return what a program sees of a future that is done."""
    error = future.exception(60)
    return future.result() if error is None else seen(error)


def seen(error):
    return type(error).__name__, error.args


def raised(function, *args, **kwargs):
    """Return what a program sees of an error."""
    try:
        return function(*args, **kwargs)
    except BaseException as error:
        return seen(error)


# Values


@scenario
def arrays_are_writable_on_both_sides_and_nobody_elses(make, folder):
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


# Errors


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


# map


@scenario
def map_keeps_order_and_stops_at_the_shortest(make, folder):
    executor = make(2)
    return (
        list(executor.map(pow, range(20), range(20))),
        list(executor.map(pow, range(20), itertools.repeat(2), chunksize=7)),
        list(executor.map(identity, range(3), "abcd", iter([1, 2]))),
        list(executor.map(identity, [])),
        list(executor.map(identity)),
    )


@scenario
def map_takes_its_input_at_once(make, folder):
    executor, taken = make(1), []

    def source():
        for x in range(50):
            taken.append(x)
            yield x

    values = executor.map(identity, source(), chunksize=3)
    before = len(taken)
    return before, list(values)


@scenario
def map_input_that_raises_midway(make, folder):
    def source():
        yield 1
        raise OSError("the input broke")

    executor = make(1)
    return raised(executor.map, identity, source()), executor.submit(identity, 1).result()


@scenario
def map_times_out_from_its_call_on(make, folder):
    executor = make(1)
    values = executor.map(wait_for, [folder / "go"] * 3, timeout=0.2)
    time.sleep(0.3)
    outcome = raised(next, values), raised(next, values)
    (folder / "go").touch()
    return outcome


@scenario
def map_with_an_error_in_the_middle(make, folder):
    values = make(1).map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    return next(values), next(values), raised(next, values), list(values)


@scenario
def map_that_is_closed_dropped_or_failed_cancels_the_rest(make, folder):
    seen = []
    for how in ("close", "drop", "fail"):
        executor, mine = make(1), folder / how
        mine.mkdir()
        paths = [mine / str(x) for x in range(3000)]
        if how == "fail":
            paths[1] = None
        values = executor.map(touch_slowly, paths)
        next(values)
        if how == "close":
            values.close()
        elif how == "fail":
            seen.append(raised(next, values)[0])
        del values
        executor.shutdown()
        seen.append(len(list(mine.iterdir())) < 3000)
    return seen


@scenario
def map_that_nobody_asks_runs_all_the_same(make, folder):
    executor = make(2)
    executor.map(touch, [folder / str(x) for x in range(30)])
    executor.shutdown()
    return len(list(folder.iterdir()))


@scenario
def values_of_map_stay_readable_after_the_end(make, folder):
    with make(2) as executor:
        values = executor.map(abs, range(-20, 0))
    return list(values)


@scenario
def map_refuses_a_bad_chunksize(make, folder):
    executor = make(1)
    return [raised(executor.map, abs, [1], chunksize=size)[0] for size in (0, -1)]


# Futures


@scenario
def a_future_is_cancelled_until_it_runs(make, folder):
    executor = make(1)
    running = executor.submit(touch_and_wait, folder)
    wait_for(folder / "started")
    waiting = [executor.submit(identity, x) for x in range(5)]  # the process pool has taken in a few of them
    last = waiting[-1]
    seen = [running.running(), running.done(), running.cancel(), last.cancel(), last.cancelled(), last.running()]
    (folder / "go").touch()
    seen += [running.result(), running.done(), running.cancel(), raised(last.result), waiting[0].result()]
    return [*seen, cf.wait(waiting, timeout=60).not_done]


@scenario
def callbacks(make, folder):
    records, seen, chained = [], [], cf.Future()
    handler = logging.Handler()
    handler.emit = lambda record: records.append((record.name, record.levelname, record.getMessage()[:27]))
    logger = logging.getLogger("concurrent.futures")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        executor = make(1)
        blocker = executor.submit(touch_and_wait, folder)
        future = executor.submit(identity, 2)
        future.add_done_callback(lambda done: 1 / 0)
        future.add_done_callback(lambda done: seen.append(done is future))
        future.add_done_callback(lambda done: chained.set_result(executor.submit(identity, done.result() + 1)))
        (folder / "go").touch()
        blocker.result()
        last = chained.result(60).result(60)
        future.add_done_callback(lambda done: seen.append("at once"))
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    return records, seen, last


@scenario
def waiting_for_futures(make, folder):
    executor, seen = make(2), []
    slow = executor.submit(touch_and_wait, folder)
    wait_for(folder / "started")
    fast, bad = executor.submit(identity, 1), executor.submit(divmod, 1, 0)
    for until in (cf.FIRST_COMPLETED, cf.FIRST_EXCEPTION):
        done, not_done = cf.wait([slow, fast, bad], timeout=60, return_when=until)
        seen.append((slow in not_done, bool(done)))
    cf.wait([fast, bad])
    seen.append(len(cf.wait([slow, fast, fast, bad], timeout=0.05).done))
    seen.append(raised(list, cf.as_completed([slow, fast, fast], timeout=0.05)))
    (folder / "go").touch()
    seen.append(len(cf.wait([slow, fast, bad], return_when=cf.ALL_COMPLETED).done))
    seen.append(len(list(cf.as_completed([slow, slow, fast, bad]))))
    return seen


# asyncio


@scenario
def asyncio_gathers_a_thousand_calls(make, folder):
    executor = make(2)

    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, identity, x) for x in range(1000)))

    return asyncio.run(main()) == list(range(1000))


@scenario
def asyncio_cancels_a_call_that_waits(make, folder):
    executor = make(1)

    async def main():
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(executor, touch_and_wait, folder)
        while not (folder / "started").exists():
            await asyncio.sleep(0.005)
        waiting = [loop.run_in_executor(executor, touch, folder / str(x)) for x in range(5)]
        waiting[-1].cancel()
        outcomes = [raised_in(error) for error in await asyncio.gather(waiting[-1], return_exceptions=True)]
        (folder / "go").touch()
        return outcomes, await running

    def raised_in(error):
        return type(error).__name__

    outcome = asyncio.run(main())
    executor.shutdown()
    return outcome, (folder / "4").exists()


# Lifetime


@scenario
def after_shutdown(make, folder):
    executor = make(1)
    future = executor.submit(identity, 1)
    executor.shutdown()
    executor.shutdown(False)
    executor.shutdown(wait=True, cancel_futures=True)
    return future.result(0), raised(executor.submit, abs, 1), raised(executor.map, abs, [1])


@scenario
def shutdown_without_waiting_finishes_the_work(make, folder):
    executor = make(1)
    futures = [executor.submit(touch_and_wait, folder), executor.submit(identity, 1)]
    executor.shutdown(wait=False)
    (folder / "go").touch()
    return [future.result(60) for future in futures]


@scenario
def shutdown_that_cancels(make, folder):
    executor = make(1)
    running = executor.submit(touch_and_wait, folder)
    wait_for(folder / "started")
    waiting = [executor.submit(identity, x) for x in range(10)]
    executor.shutdown(wait=False, cancel_futures=True)
    (folder / "go").touch()
    value = running.result(60)
    # Not by `wait`, which the standard library does not tell of calls that were cancelled like this.
    deadline = time.monotonic() + 60
    while not all(future.done() for future in waiting) and time.monotonic() < deadline:
        time.sleep(0.01)
    return value, all(future.done() for future in waiting), waiting[-1].cancelled()


@scenario
def dropped_with_work_pending(make, folder):
    values = make.unkept(2).map(abs, range(-5, 0))
    gc.collect()
    return list(values)


@scenario
def many_threads(make, folder):
    executor, wrong, right = make(2), [], []

    def use(seed):
        try:
            for n in range(5):
                futures = [executor.submit(identity, x) for x in range(seed, seed + 5)]
                futures[n].cancel()
                values = list(executor.map(identity, range(seed), chunksize=1 + n))
                results = [None if future.cancelled() else future.result(60) for future in futures]
                if values != list(range(seed)) or any(r not in (None, x) for x, r in enumerate(results, seed)):
                    wrong.append((values, results))
                right.append(seed)
            if seed == 15:
                executor.shutdown(wait=False)
        except RuntimeError as error:
            if "cannot schedule new futures after" not in str(error):
                wrong.append(error)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    executor.shutdown()
    return wrong, len(right) > 0, any(thread.is_alive() for thread in threads)


@scenario
def pickling_the_executor(make, folder):
    return raised(pickle.dumps, make(1))[0]


# Workers


@scenario_of_processes
def initializers(make, folder):
    executor = make(1, initializer=initialize, initargs=(folder, 5))
    return list(executor.map(initialized, range(5))), executor.submit(initialized).result()


@scenario
def an_initializer_that_fails(make, folder):
    executor = make(2, initializer=fail_to_initialize)
    futures = [executor.submit(abs, 1) for _ in range(3)]
    seen = [isinstance(future.exception(60), BrokenProcessPool) for future in futures]
    try:
        executor.submit(abs, 1)
    except BrokenProcessPool:
        seen.append("refused")
    return seen


if sys.version_info >= (3, 11):

    @scenario_of_processes
    def a_worker_runs_so_many_calls_and_no_more(make, folder):
        executor = make(1, max_tasks_per_child=3)
        first, second, third, fourth = (executor.submit(os.getpid).result() for _ in range(4))
        return first == second == third, first == fourth

    @scenario_of_processes
    def workers_that_run_one_call_each(make, folder):
        executor = make(2, max_tasks_per_child=1)
        pids = list(executor.map(touch, [folder / str(x) for x in range(6)]))
        in_chunks = list(executor.map(touch, [folder / str(x) for x in range(6)], chunksize=3))
        return len(set(pids)), len(set(in_chunks)), in_chunks[0] == in_chunks[2]

    @scenario
    def bad_limits_of_calls(make, folder):
        return [raised(make, 1, max_tasks_per_child=n)[0] for n in (0, -1, 1.5, "2")]


# Signatures


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


@pytest.mark.parametrize("function", SCENARIOS, ids=lambda function: function.__name__)
def test_scenario(function, executor_class, on_process_pool, tmp_path):
    if executor_class is FakeExecutor and hasattr(function, "of_processes"):
        pytest.skip("the fake cluster's workers are threads")
    assert play(function, executor_class, tmp_path) == on_process_pool(function)
