"""A `numpy.memmap` of a file in calls: as an argument, in a closure, as a global."""

from __future__ import annotations

import os
from functools import partial

import joblib
import numpy as np
import pytest

from thread_chunks import UnpicklingFailed, _joblib, register_joblib
from thread_chunks._checkpoints.rows import to_row
from thread_chunks._wire.pickling import pack, unpack
from thread_chunks._wire.reducing import Reducer
from thread_chunks._wire.states import state_of


@pytest.fixture
def numbers(tmp_path):
    """A file of 100 rows of 6 numbers, to write to."""
    made = np.memmap(tmp_path / "numbers", float, "w+", shape=(100, 6))
    made[:] = np.arange(600).reshape(100, 6)
    return made


def write(array, place, value):
    array[place] = value


def test_what_calls_write_is_in_the_file(make, numbers):
    executor = make(2)
    list(executor.map(partial(write, numbers), range(50), range(50)))
    list(executor.map(write, [numbers] * 50, range(50, 100), range(50, 100)))
    assert (numbers == np.arange(100)[:, None]).all()
    executor.submit(lambda: write(numbers, 3, -1)).result()  # in a closure
    assert (numbers[3] == -1).all()
    assert (np.fromfile(numbers.filename).reshape(100, 6) == numbers).all()


def test_in_a_list_or_a_dict(make, numbers):
    def write_first(held):
        write(held["lists"][0], 0, 5)

    make(1).submit(write_first, {"lists": [numbers]}).result()
    assert (numbers[0] == 5).all()


def test_views(make, numbers):
    executor = make(1)
    for number, view in enumerate([numbers[10:20], numbers[20:40:2], numbers[40:50].T, numbers[60:50:-1], numbers[70]]):
        executor.submit(write, view, ..., -number).result()
        assert (view == -number).all()
    assert (numbers[[9, 21, 50, 69, 71]] == np.arange(600).reshape(100, 6)[[9, 21, 50, 69, 71]]).all()


def of_records(folder):
    made = np.memmap(folder / "records", np.dtype([("a", "i4"), ("b", "f8")]), "w+", shape=(7,))
    made["a"], made["b"] = range(7), np.arange(7) / 2
    return made


def of_one_number(folder):
    made = np.memmap(folder / "one", float, "w+", shape=())
    made[...] = 4
    return made


def beyond_a_page(folder):
    np.arange(20_000.0).tofile(folder / "many")
    return np.memmap(folder / "many", float, "r+", offset=8 * 5001, shape=(5000,))


def in_columns(folder):
    np.arange(600.0).tofile(folder / "columns")
    return np.memmap(folder / "columns", float, "r", shape=(100, 6), order="F")


@pytest.mark.parametrize(
    "views",
    [
        lambda folder: [made := of_records(folder), made[2:5], made["b"], made["a"][::-2]],
        lambda folder: [made := of_one_number(folder), made[None]],
        lambda folder: [made := beyond_a_page(folder), made[4000:], made[::-3], made.view("i8")],
        lambda folder: [made := in_columns(folder), made[3:, ::-2], np.broadcast_to(made[0], (4, 6), subok=True)],
    ],
    ids=["records", "one number", "beyond a page", "in columns"],
)
def test_layouts(tmp_path, views):
    for view in views(tmp_path):
        packed = pack([view])
        (arrived,) = unpack(packed)
        assert type(arrived) is np.memmap
        assert arrived.filename == str(view.filename)
        assert len(packed.data) < 1000
        assert packed.buffers == []
        assert (arrived.dtype, arrived.shape, arrived.strides) == (view.dtype, view.shape, view.strides)
        assert arrived.flags.writeable == view.flags.writeable
        assert (arrived == view).all()
        assert (unpack(pack(arrived)) == view).all(), "it goes on to another process"


def mode_of(array):
    return array.mode, bool(array.flags.writeable), array.filename is not None


def test_modes(make, numbers):
    executor = make(1)
    for mode, arrives in {"r": "r", "r+": "r+"}.items():
        array = np.memmap(numbers.filename, float, mode)
        assert executor.submit(mode_of, array).result() == (arrives, arrives != "r", True)
    assert executor.submit(mode_of, numbers).result() == ("r+", True, True)
    numbers.flags.writeable = False
    assert executor.submit(mode_of, numbers).result() == ("r", False, True)
    private = np.memmap(numbers.filename, float, "c")
    private[0] = -1
    assert executor.submit(lambda array: (array[0], array.filename), private).result() == (-1, None)
    assert executor.submit(np.sum, numbers[:0]).result() == 0


def test_a_file_that_is_gone_or_too_short(make, numbers):
    executor = make(1)
    reading = np.memmap(numbers.filename, float, "r")
    os.rename(numbers.filename, f"{numbers.filename}.1")
    for array, writable in ((numbers, True), (reading, False)):
        assert executor.submit(np.sum, array).result() == numbers.sum()
        assert executor.submit(mode_of, array).result()[1:] == (writable, False)
    with open(numbers.filename, "w") as file:
        file.write("short")
    assert executor.submit(np.sum, reading).result() == numbers.sum()
    assert os.path.getsize(numbers.filename) == len("short")


def test_a_file_that_is_not_there_on_arrival(numbers):
    packed = pack(numbers)
    os.truncate(numbers.filename, 10)
    with pytest.raises(UnpicklingFailed, match=r"numbers'.*has to be reachable.*has 10 bytes and should have 4800"):
        unpack(packed)
    assert os.path.getsize(numbers.filename) == 10
    os.remove(numbers.filename)
    with pytest.raises(UnpicklingFailed, match=r"numbers'.*has to be reachable where the call runs.*No such file"):
        unpack(packed)


class Remover:
    """Removes a file where it arrives."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.remove, (self.path,)


def second(_, array):
    return array.sum()


def test_a_call_fails_alone_if_its_file_is_gone_on_arrival(make, numbers, tmp_path):
    other = np.memmap(tmp_path / "other", float, "w+", shape=(3,))
    rows = [(None, other), (Remover(numbers.filename), numbers), (None, other)]
    first, failed, last = make(1).starmap(second, rows, return_exceptions=True, chunksize=3)
    assert (first, last) == (0, 0)
    assert "has to be reachable" in str(failed)
    assert str(numbers.filename) in str(failed)


def test_values_are_copies(make, numbers):
    value = make(1).submit(lambda array: array[:2], numbers).result()
    assert value.filename is None
    assert bytes(numbers[:2]) in bytes(to_row(numbers[:2])), "a checkpoint may outlive the file"


def test_the_state_of_a_global_is_its_file_and_not_its_contents(numbers):
    for held in (numbers, [numbers]):
        state = state_of(held)
        numbers[0] += 1
        assert state.same(held)
    state = state_of(numbers)
    assert not state.same(numbers[1:])
    assert not pack({"held": numbers}, Reducer("a global")).buffers


def test_through_joblib(executor_class, monkeypatch, numbers):
    monkeypatch.setattr(_joblib, "ChunkExecutor", executor_class)
    register_joblib()
    with joblib.parallel_config(backend="thread_chunks", n_jobs=2):
        joblib.Parallel()(joblib.delayed(write)(numbers[place:], 0, place) for place in range(100))
    executor = _joblib._executor
    executor.kill_workers()
    executor.shutdown()
    assert (numbers == np.arange(100)[:, None]).all()


IN_A_GLOBAL = """
import numpy as np
from thread_chunks import ChunkExecutor

w = np.memmap("w.bin", float, "w+", shape=(10,))
held = {"w": w}

def write(i):
    if i % 2:
        w[i] = i + 1
    else:
        held["w"][i] = i + 1

with ChunkExecutor(2) as executor:
    list(executor.map(write, range(10)))
assert (w == range(1, 11)).all(), w
"""


def test_as_a_global(python):
    python.run(IN_A_GLOBAL)
