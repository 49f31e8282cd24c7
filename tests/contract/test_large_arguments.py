"""One large argument of many calls goes into the object store once, and each call has it as it was when it was sent."""

from __future__ import annotations

import gc
import os
import time
from functools import partial
from itertools import repeat

import numpy as np
import pandas as pd
import pytest
from fake_cluster import FakeRuntime, die
from functions import note_and_wait

from thread_chunks._ray.large import Seen, are_equal
from thread_chunks._ray.runtime import RayRuntime

MIB = 2**20
SIZE = 3 * MIB + 5  # bytes


@pytest.fixture
def puts(monkeypatch):
    """How many bytes each of what is put into the object store has."""
    sizes = []

    def counted(put):
        def put_and_count(self, obj):
            sizes.append(memoryview(obj).nbytes)
            return put(self, obj)

        return put_and_count

    for runtime in (RayRuntime, FakeRuntime):
        monkeypatch.setattr(runtime, "put", counted(runtime.put))
    return sizes


def total(number, large):
    """Return what tells one large object from others, after changing the call's own."""
    if isinstance(large, dict):
        return number, sum(total(number, part)[1] for part in large.values())
    if isinstance(large, pd.DataFrame):
        large = large.to_numpy(copy=True)
    if not isinstance(large, np.ndarray):
        return number, large.count(b"x")
    before = int(large.sum())
    large[0] += 1
    return number, before


def array(order="C"):
    return np.asarray(np.arange(SIZE // 8).reshape(-1, 3), order=order)


LARGE = {
    "array": array,
    "array in Fortran's order": partial(array, "F"),
    "frame": lambda: pd.DataFrame(array(), columns=list("abc")),
    "dict of arrays": lambda: {"a": array(), "b": array() + 1},
    "bytes": lambda: b"x" * SIZE,
    "bytearray": lambda: bytearray(b"x" * SIZE),
}


@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.parametrize("workers", [1, 2])
def test_in_a_series_it_is_put_once(make, puts, kind, workers):
    large, executor = LARGE[kind](), make(workers)
    expected = total(0, LARGE[kind]())[1]
    assert list(executor.map(total, range(8), repeat(large))) == [(number, expected) for number in range(8)]
    assert len(puts) == (2 if kind == "dict of arrays" else 1)


def test_it_is_put_once_if_it_comes_by_keyword_or_in_a_partial_function_or_once_more_in_a_call(make, puts, tmp_path):
    executor, large = make(2), array()
    blocker = executor.submit(lambda x: note_and_wait(tmp_path, "started", "go"), large)
    futures = [executor.submit(total, number, large=large) for number in range(3)]
    futures += [executor.submit(partial(total, large=large), number) for number in range(3, 6)]
    futures += [executor.submit(total, 6, {"one": large, "other": large})]
    (tmp_path / "go").touch()
    expected = total(0, array())[1]
    assert [future.result() for future in futures[:6]] == [(number, expected) for number in range(6)]
    # What is one object in a call is one on arrival: the second look sees what the first one has changed.
    assert futures[6].result() == (6, 2 * expected + 3)
    assert blocker.result() == "started"
    assert len(puts) == 1


def test_a_very_large_one_is_put_when_it_is_first_seen(make, puts):
    large = np.zeros(33 * MIB, np.uint8)
    assert make(1).submit(total, 1, large).result() == (1, 0)
    assert len(puts) == 1


def test_one_that_does_not_come_again_is_not_put(make, puts):
    executor = make(2)
    assert list(executor.map(len, [np.full(SIZE, k, np.uint8) for k in range(4)])) == [SIZE] * 4
    assert puts == []


def test_what_is_changed_in_place_arrives_as_it_is_when_it_is_sent(make, tmp_path):
    executor, large = make(2), np.zeros(SIZE, np.uint8)
    blocker = executor.submit(lambda x: note_and_wait(tmp_path, "started", "go"), large)
    seen = []
    for place in range(1000, 1012):  # not at its ends, which are looked at first
        large[place] = 1
        seen.append(executor.submit(np.sum, large).result())
        seen.append(executor.submit(np.sum, large).result())
    (tmp_path / "go").touch()
    assert blocker.result() == "started"
    assert seen == [count for count in range(1, 13) for _ in range(2)]


def test_with_zero_copy_it_is_a_view(executor_class, puts):
    def look(number, large):
        return large.flags.writeable, large.flags.owndata, int(large[-1])

    with executor_class(2, zero_copy=True) as executor:
        large = array().ravel()
        assert set(executor.map(look, range(20), repeat(large))) == {(False, False, int(large[-1]))}
    assert len(puts) == 1


def test_a_call_that_lost_its_worker_has_it_again(make, tmp_path):
    def once(number, large):
        if number == 1 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            end()
        return total(number, large)

    executor = make(2, max_retries=1)
    end = die if executor.__class__.__name__ == "FakeExecutor" else partial(os._exit, 1)
    values = list(executor.map(once, range(4), repeat(array()), chunksize=1))
    assert values == [(number, total(0, array())[1]) for number in range(4)]


def test_nothing_is_kept_in_the_store_when_the_calls_are_over(make, puts):
    executor, large = make(2), array()
    for number in range(2):
        list(executor.map(total, range(8), repeat(large + number)))
        deadline = time.monotonic() + 30
        while any(type(obj) is Seen for obj in gc.get_objects()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(type(obj) is Seen for obj in gc.get_objects())
    assert len(puts) == 2


@pytest.mark.parametrize("size", [1, 7, 8, 9, 8 * MIB - 1, 8 * MIB, 8 * MIB + 3, 17 * MIB + 1])
def test_buffers_differ_if_a_byte_does(size):
    one = bytearray(size)
    other = memoryview(bytes(size))
    assert are_equal(memoryview(one), other)
    for place in {0, size // 2, size - 2, size - 1} - {-1}:
        one[place] = 1
        assert not are_equal(memoryview(one), other)
        one[place] = 0
