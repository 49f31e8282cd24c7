"""`map` does what that of `ProcessPoolExecutor` does."""

from __future__ import annotations

import itertools
import time

import pytest
from scenarios import SCENARIOS, agree, identity, raised, scenario, touch, touch_slowly, wait_for


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
def map_whose_values_are_not_asked_for_runs_all_the_same(make, folder):
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


@pytest.mark.parametrize("function", SCENARIOS[__name__], ids=lambda function: function.__name__)
def test_scenario(function, make, on_process_pool, tmp_path):
    agree(function, make, on_process_pool, tmp_path)
