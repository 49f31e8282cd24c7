"""One large argument of many calls is copied once, and each call gets it as it was when the call was sent."""

from __future__ import annotations

import gc
import os
import sys
import time
from functools import partial
from itertools import repeat

import numpy as np
import pytest
from fake_cluster import die
from functions import note_and_wait

from thread_chunks._ray import large
from thread_chunks._ray.large import InStore
from thread_chunks._wire.mapped import File, Mapped, Probe

MIB = 2**20
SIZE = 3 * MIB + 5  # bytes


sizes = []  # of the copies that were made since a test began


class CountedFile(File):
    def __init__(self, contents):
        super().__init__(contents)
        if len(contents) > MIB:
            sizes.append(len(contents))


class NoFile(File):
    def __init__(self, contents):
        raise OSError


class CountedInStore(InStore):
    def __init__(self, runtime, buffer):
        super().__init__(runtime, buffer)
        sizes.append(len(buffer))


class NotInStore(InStore):
    def __init__(self, runtime, buffer):
        raise AssertionError


COPIES = {"in files": (CountedFile, NotInStore), "in the store": (NoFile, CountedInStore)}


@pytest.fixture(params=COPIES)
def kind(request, monkeypatch):
    """Where copies of large buffers are: in files, or in the object store."""
    file, in_store = COPIES[request.param]
    monkeypatch.setattr(large, "File", file)
    monkeypatch.setattr(large, "InStore", in_store)
    return request.param


@pytest.fixture
def copies(make):
    """How many bytes each copy has that is made of a large buffer."""
    sizes.clear()
    return sizes


def total(number, large):
    """Return a mark that identifies a large object, after changing the call's own copy."""
    if isinstance(large, dict):
        return number, sum(total(number, part)[1] for part in large.values())
    if hasattr(large, "to_numpy"):
        large = large.to_numpy(copy=True)
    if not isinstance(large, np.ndarray):
        return number, large.count(b"x")
    before = int(large.sum())
    large[0] += 1
    return number, before


def array():
    return np.arange(SIZE // 8).reshape(-1, 3)


def frame(columns):
    return pytest.importorskip("pandas").DataFrame(columns, columns=list("abc"))


LARGE = {  # all of different contents
    "array": array,
    "array in Fortran's order": lambda: np.asfortranarray(array()),
    "frame": lambda: frame(array() + 1),
    "dict of arrays": lambda: {"a": array() + 2, "b": array() + 3},
    "bytes": lambda: b"x" * SIZE,
    "bytearray": lambda: bytearray(b"xy" * (SIZE // 2)),
}


@pytest.mark.parametrize("workers", [1, 2])
def test_in_a_series_it_is_copied_once(make, copies, workers):
    executor = make(workers)
    for kind, create in LARGE.items():
        copies.clear()
        expected = total(0, create())[1]
        assert list(executor.map(total, range(8), repeat(create()))) == [(number, expected) for number in range(8)]
        assert len(copies) == (2 if kind == "dict of arrays" else 1), kind


def test_it_may_come_by_keyword_or_in_a_partial_function_or_twice_in_a_call(make, copies, tmp_path):
    executor, common = make(2), array()
    blocker = executor.submit(lambda x: note_and_wait(tmp_path, "started", "go"), common)
    futures = [executor.submit(total, number, large=common) for number in range(3)]
    futures += [executor.submit(partial(total, large=common), number) for number in range(3, 6)]
    futures += [executor.submit(total, 6, {"one": common, "other": common})]
    expected = total(0, array())[1]
    assert [future.result() for future in futures[:6]] == [(number, expected) for number in range(6)]
    # Two references to one object arrive as such: the second look sees the change of the first.
    assert futures[6].result() == (6, 2 * expected + 3)
    (tmp_path / "go").touch()
    assert blocker.result() == "started"
    assert len(copies) == 1


def test_the_store_gets_what_comes_again_or_is_very_large(make, copies, kind):
    executor = make(2)
    assert list(executor.map(len, [np.full(SIZE, k, np.uint8) for k in range(4)])) == [SIZE] * 4
    assert len(copies) == (4 if kind == "in files" else 0)
    copies.clear()
    assert executor.submit(total, 1, np.zeros(33 * MIB, np.uint8)).result() == (1, 0)
    assert len(copies) == 1


def test_what_is_changed_in_place_arrives_as_it_is_when_it_is_sent(make, tmp_path):
    executor, common = make(2), np.zeros(SIZE, np.uint8)
    blocker = executor.submit(lambda x: note_and_wait(tmp_path, "started", "go"), common)
    seen = []
    for place in range(1000, 1012):  # not at its ends, which are looked at first
        common[place] = 1
        seen.append(executor.submit(np.sum, common).result())
        seen.append(executor.submit(np.sum, common).result())
    (tmp_path / "go").touch()
    assert blocker.result() == "started"
    assert seen == [count for count in range(1, 13) for _ in range(2)]


def test_what_is_changed_while_a_series_is_fed_is_no_older_than_its_call(make):
    common = np.zeros(SIZE, np.uint8)

    def changing():
        for number in range(1000, 1012):
            common[number] = 1
            yield common

    values = make(1).map(np.sum, changing(), buffersize=1)
    assert all(value >= number for number, value in enumerate(values, 1))


@pytest.mark.parametrize("create", [array, lambda: np.asfortranarray(array()), lambda: frame(array())])
def test_what_comes_at_once_is_not_compared(make, monkeypatch, create):
    compared = []
    monkeypatch.setattr(large, "are_equal", lambda *buffers: compared.append(buffers) or True)
    common = create()
    assert len(list(make(2).map(total, range(8), repeat(common)))) == 8
    assert compared == []


def test_many_large_arrays_take_no_descriptors(make, copies):
    def count(number, *arrays):
        return len(arrays)

    assert list(make(1).map(count, range(2), *(repeat(array()) for _ in range(70)))) == [70, 70]
    assert copies == []


def test_with_zero_copy_it_is_a_view(make, copies):
    def look(number, common):
        return common.flags.writeable, common.flags.owndata, int(common[-1])

    executor, common = make(2, zero_copy=True), array().ravel()
    assert set(executor.map(look, range(20), repeat(common))) == {(False, False, int(common[-1]))}
    assert len(copies) == 1


def test_what_a_call_keeps_is_changed_by_no_other(make):
    def use(number, common):
        if number == 0:
            sys.kept = common[:2]
        elif number == 1:
            common[:2] = -1
        else:
            kept = sys.kept.tolist()
            del sys.kept
            return kept, common[:2].tolist()
        return None

    common = array()
    values = list(make(1).map(use, range(3), repeat(common)))
    assert values[2] == (common[:2].tolist(), common[:2].tolist())


def test_a_call_that_lost_its_worker_has_it_again(make, tmp_path):
    def once(number, common):
        if number == 1 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            end()
        return total(number, common)

    executor = make(2, max_retries=1)
    end = die if executor.__class__.__name__ == "FakeExecutor" else partial(os._exit, 1)
    values = list(executor.map(once, range(4), repeat(array()), chunksize=1))
    assert values == [(number, total(0, array())[1]) for number in range(4)]


def test_no_copy_is_kept_when_the_calls_are_over(make, copies):
    executor, common = make(2), array()
    for number in range(2):
        list(executor.map(total, range(8), repeat(common + number)))
        deadline = time.monotonic() + 30
        while any(type(obj) is large.Seen for obj in gc.get_objects()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(type(obj) is large.Seen for obj in gc.get_objects())
    assert len(copies) == 2


def test_where_there_are_no_files_left_it_travels_with_the_call(make, monkeypatch):
    executor = make(1)

    def refuse(*_):
        raise OSError

    monkeypatch.setattr(os, "memfd_create", refuse)
    expected = total(0, array())[1]
    assert list(executor.map(total, range(4), repeat(array()))) == [(number, expected) for number in range(4)]


@pytest.mark.parametrize("size", [1, 7, 8, 9, 8 * MIB - 1, 8 * MIB, 8 * MIB + 3, 17 * MIB + 1])
def test_buffers_differ_if_a_byte_does(size):
    one = bytearray(size)
    other = memoryview(bytes(size))
    assert large.are_equal(memoryview(one), other)
    for place in {0, size // 2, size - 2, size - 1} - {-1}:
        one[place] = 1
        assert not large.are_equal(memoryview(one), other)
        one[place] = 0


def test_a_file_of_another_process_is_not_taken_for_the_drivers(tmp_path):
    file = File(memoryview(b"contents"))
    assert Probe(file.shipped, b"contents").is_reached()
    assert not Probe(file.shipped, b"others").is_reached()
    assert not Probe(Mapped(str(tmp_path / "none"), 8, 0), b"contents").is_reached()
    (tmp_path / "short").write_bytes(b"c")
    assert not Probe(Mapped(str(tmp_path / "short"), 8, 0), b"contents").is_reached()


def test_who_changes_a_mapping_changes_nothing_else():
    file = File(memoryview(b"contents"))
    mapping = file.shipped.open()
    mapping[0:1] = b"C"
    assert (mapping[:], bytes(file.contents())) == (b"Contents", b"contents")
    path = file.shipped.path
    del file
    assert mapping[:] == b"Contents", "it outlives the file"
    assert not os.path.exists(path)
