"""Workers begin, and executors end, as with `ProcessPoolExecutor`."""

from __future__ import annotations

import gc
import os
import pickle
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import pytest
from scenarios import (
    SCENARIOS,
    agree,
    fail_to_initialize,
    identity,
    initialize,
    initialized,
    raised,
    scenario,
    scenario_of_processes,
    touch,
    touch_and_wait,
    wait_for,
)


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
        pids = list(executor.map(touch, [folder / str(x) for x in range(4)]))
        in_chunks = list(executor.map(touch, [folder / str(x) for x in range(4)], chunksize=2))
        return len(set(pids)), len(set(in_chunks)), in_chunks[0] == in_chunks[1]

    @scenario
    def bad_limits_of_calls(make, folder):
        return [raised(make, 1, max_tasks_per_child=n)[0] for n in (0, -1, 1.5, "2")]


@pytest.mark.parametrize("function", SCENARIOS[__name__], ids=lambda function: function.__name__)
def test_scenario(function, make, on_process_pool, tmp_path):
    agree(function, make, on_process_pool, tmp_path)
