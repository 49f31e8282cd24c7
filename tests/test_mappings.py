"""The mappings of large buffers in a worker: which of them a later call gets again."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from thread_chunks._wire import mapped
from thread_chunks._wire.mapped import File, Mappings

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/pagemap"), reason="the system does not tell of pages")

SIZE = 1_000_000


@pytest.fixture
def file():
    return File(memoryview(np.arange(SIZE, dtype=np.uint8).data))


@pytest.fixture
def mappings():
    return Mappings()


def array_of(opened):
    return np.frombuffer(opened, np.uint8)


def use(mappings, *files):
    """Read files as one call does; return where the first one is mapped."""
    arrays = [array_of(mappings.open(file.shipped)) for file in files]
    mappings.drop_others()
    assert all(array.sum() > 0 for array in arrays)
    return arrays[0].ctypes.data


@pytest.fixture(autouse=True)
def _known(mappings, file):
    """An earlier call has used the file."""
    use(mappings, file)


def test_one_that_was_only_read_is_used_again(mappings, file):
    place = use(mappings, file)
    for _ in range(3):
        assert use(mappings, file) == place


@pytest.mark.parametrize("place", [0, 4095, 4096, SIZE // 2, SIZE - 1])
def test_what_was_written_is_not_seen_again(mappings, file, place):
    array = array_of(mappings.open(file.shipped))
    before = array[place]
    array[place] = before ^ 1
    del array
    assert array_of(mappings.open(file.shipped))[place] == before


def test_what_somebody_has_is_nobody_elses(mappings, file):
    held = array_of(mappings.open(file.shipped))[5:7]
    other = array_of(mappings.open(file.shipped))
    other[5] = 0
    assert held[0] == 5
    held[1] = 0
    assert other[1] == 1


def test_threads_share_none(mappings, file):
    seen = []

    def use(number):
        for _ in range(50):
            array = array_of(mappings.open(file.shipped))
            array[number] = 200
            seen.append(int((array[:4] == 200).sum()))

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 200


def test_other_files_by_the_same_path_are_others(mappings):
    values = []
    for number in range(3):
        file = File(memoryview(bytes([number]) * SIZE))
        values.append(mappings.open(file.shipped)[0])
        path = file.shipped.path
        del file
    assert values == [0, 1, 2], path


def test_those_that_the_latest_call_does_not_use_end(mappings, file):
    other = File(memoryview(bytes([1]) * SIZE))
    use(mappings, file, other)
    use(mappings, file, other)
    assert set(mappings._kept) == {file.shipped, other.shipped}
    use(mappings, file)
    assert set(mappings._kept) == {file.shipped}
    use(mappings, other)
    assert not mappings._kept
    use(mappings, other)
    assert set(mappings._kept) == {other.shipped}
    mappings.clear()
    assert not mappings._kept


def test_those_that_come_once_are_not_kept(mappings):
    for number in range(1, 9):
        use(mappings, File(memoryview(bytes([number]) * SIZE)))
        assert not mappings._kept


def test_what_a_call_does_to_a_view_of_it_does_nothing_to_the_next(mappings, file):
    use(mappings, file)
    with mappings.open(file.shipped) as view:
        assert view.nbytes == SIZE
    assert bytes(mappings.open(file.shipped)[:3]) == bytes(range(3))


def test_where_the_system_does_not_tell_of_pages(mappings, file, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(path)

    array = array_of(mappings.open(file.shipped))
    array[0] = 200
    del array
    with monkeypatch.context() as patch:
        patch.setattr(mapped.os, "open", refuse)
        with pytest.raises(PermissionError):  # so it was not used again
            mappings.open(file.shipped)
    assert mappings.open(file.shipped)[0] == 0
