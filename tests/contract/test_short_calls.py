"""Short calls travel together, and none of them is delayed."""

from __future__ import annotations

import concurrent.futures as cf
import functools
import itertools
import threading
import time

import pytest
from functions import Scaled, Unpicklable, meet, square, wait_for

from thread_chunks import PicklingFailed


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("how", ["map", "submit"])
def test_calls_that_need_each_other_after_many_short_ones(make, tmp_path, workers, how):
    executor = make(workers)
    numbers = [*[-1] * 10_000, *range(workers)]
    if how == "map":
        values = executor.map(meet, itertools.repeat(tmp_path), numbers, itertools.repeat(workers))
    else:
        values = [future.result() for future in [executor.submit(meet, tmp_path, n, workers) for n in numbers]]
    assert list(values) == numbers


@pytest.mark.parametrize("workers", [1, 2])
def test_a_long_call_holds_back_neither_values_nor_calls(make, tmp_path, workers):
    def f(number):
        if number == 2000:
            wait_for(tmp_path / "go")
        return number

    values = make(workers).map(f, range(3000), unordered=True)
    before = 2999 if workers > 1 else 2000
    assert len(set(itertools.islice(values, before)) - {2000}) == before
    (tmp_path / "go").touch()
    assert len(list(values)) == 3000 - before


def test_a_long_call_holds_back_no_futures(make, tmp_path):
    def f(number):
        if number == 2000:
            wait_for(tmp_path / "go")
        return number

    executor = make(2)
    futures = [executor.submit(f, number) for number in range(3000)]
    long = futures.pop(2000)
    assert cf.wait(futures, timeout=60).not_done == set()
    assert not long.done()
    (tmp_path / "go").touch()
    assert long.result() == 2000


def test_every_call_runs_once_though_blocks_are_surrendered(make, tmp_path):
    def f(number):
        with open(tmp_path / "ledger", "a") as ledger:
            ledger.write(f"{number}\n")
        if number % 400 == 399:
            time.sleep(0.12)
        return number

    executor = make(2)
    futures = [executor.submit(f, number) for number in range(2000)]
    assert list(executor.map(f, range(2000, 4000))) == list(range(2000, 4000))
    assert [future.result() for future in futures] == list(range(2000))
    assert sorted(map(int, (tmp_path / "ledger").read_text().split())) == list(range(4000))


def test_one_bad_call_among_many(make):
    executor = make(2)
    items = [*range(5000), Unpicklable(), *range(5000)]
    futures = [executor.submit(square, item) for item in items]
    values = executor.map(square, items)
    assert [next(values) for _ in range(5000)] == [x * x for x in range(5000)]
    with pytest.raises(PicklingFailed, match="argument 0"):
        next(values)
    assert isinstance(futures.pop(5000).exception(), PicklingFailed)
    assert [future.result() for future in futures] == [x * x for x in range(5000)] * 2


def test_callables_with_a_state_travel_together(make):
    executor = make(2)
    futures = [executor.submit(Scaled(factor).method, 2) for factor in range(500)]
    futures += [executor.submit(functools.partial(pow, base), 2) for base in range(500)]
    assert [future.result() for future in futures] == [-2 * factor for factor in range(500)] + [
        b * b for b in range(500)
    ]
    with pytest.raises(PicklingFailed, match="the function: an object of type 'partial'"):
        executor.submit(functools.partial(square, threading.Lock())).result()
    with pytest.raises(PicklingFailed, match=r"argument 0: an object of type 'lock'"):
        executor.submit(functools.partial(pow, 2), threading.Lock()).result()
