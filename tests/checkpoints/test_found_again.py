"""A second run takes the values of the first one, and runs only the rest."""

from __future__ import annotations

import logging
import math
import random
import sys
import threading
from collections import Counter

import numpy as np
import pytest
import ray
from checkpointed import Noted, files_beside, finished, identity, until
from fake_cluster import FakeExecutor

from thread_chunks import Checkpoint, Chunker, chunk, chunker, executor
from thread_chunks._checkpoints import rows as _rows
from thread_chunks._checkpoints.store import Store


def test_a_second_run_runs_only_the_rest(make, path, noted):
    f = noted.function()
    assert list(make(2).map(f, [1, 2, 3], path=path)) == [[1, 1], [2, 2], [3, 3]]
    assert noted.take() == ["1", "2", "3"]
    assert list(make(3).map(noted.function(), [4, 3, 1, 5], path=str(path))) == [[4, 4], [3, 3], [1, 1], [5, 5]]
    assert noted.take() == ["4", "5"]
    assert list(make(noted.function(), 2).map([5, 1], path=path)) == [[5, 5], [1, 1]]
    assert list(make(1).starmap(f, [(2,), [6]], path=path, chunksize=2)) == [[2, 2], [6, 6]]
    assert noted.take() == ["6"]
    ours = make(2)
    ours.submit = ours.submit  # as client libraries do
    assert list(ours.map(f, [6, 7], path=path)) == [[6, 6], [7, 7]]
    assert list(make(1).map(f, [7], path=path)) == [[7, 7]]
    assert noted.take() == ["7"]


def test_nothing_to_do(make, path, noted):
    assert list(make(2).map(noted.function(), [], path=path)) == []
    assert list(make(2).map(noted.function(), [1], path=path)) == [[1, 1]]
    assert list(make(2).map(noted.function(), [], path=path)) == []
    with pytest.raises(StopIteration):
        next(make(1).map(noted.function(), iter(()), path=path, buffersize=1))


def test_repeated_arguments_are_draws_of_their_own(make, path):
    def draw(x):
        return random.SystemRandom().random()

    first = list(make(2).map(draw, [1, 2, 1, 1], path=path))
    assert len(set(first)) == 4
    again = list(make(2).map(draw, [1, 1, 1, 1, 2], path=path))
    assert again[:3] == [first[0], *first[2:]]
    assert again[4] == first[1]
    assert len({*first, *again}) == 5


def test_lazily(make, path, noted):
    f = noted.function()
    list(make(2).map(f, [2, 4], path=path))
    noted.take()
    taken = []

    def numbers():
        for x in range(10**9):
            taken.append(x)
            yield x % 10

    executor_of_values = make(2)
    values = executor_of_values.map(f, numbers(), path=path, buffersize=3)
    assert [next(values)[0] for _ in range(8)] == list(range(8))
    assert len(taken) <= 12
    assert [next(values)[0] for _ in range(8)] == [8, 9, 0, 1, 2, 3, 4, 5]
    values.close()
    executor_of_values.shutdown()
    ran = Counter(noted.take())
    assert ran["2"] == ran["4"] == 1, "of two draws, one was there"
    assert list(make(1).map(f, iter([3, 4, 5]), path=path, buffersize=1)) == [[3, 3], [4, 4], [5, 5]]
    assert noted.take() == []


def test_unordered(make, path, noted):
    f = noted.function()
    list(make(2).map(f, [1, 3], path=path))
    noted.take()
    values = list(make(2).map(f, [0, 1, 2, 3], path=path, unordered=True))
    assert sorted(values) == [[x, x] for x in range(4)]
    assert sorted(values[:2]) == [[1, 1], [3, 3]], "what is there comes first"
    assert noted.take() == ["0", "2"]


def test_errors_are_not_kept(make, executor_class, path, noted):
    with pytest.raises(ValueError, match="bad"), executor_class(1) as ex:
        list(ex.map(noted.function(), [1, "bad", 2], path=path))
    noted.take()
    values = make(1).map(noted.function(), [1, "bad"], path=path)
    assert next(values) == [1, 1]
    with pytest.raises(ValueError, match="bad"):
        next(values)
    assert noted.take() == ["bad"]


def special(kind):
    if kind == "object":
        return Noted.__new__(Noted)
    if kind == "lambda":
        return lambda x: x + 1
    return {
        "none": None,
        "nan": math.nan,
        "empty": b"",
        "zero": np.zeros(0),
        "small": np.arange(10),
        "large": np.arange(300_000).reshape(-1, 2),
        "nested": {"a": [np.ones(100_000), {"b": np.ones(3)}], "c": "x" * 300_000},
        "error": ValueError("a value"),
        "bytes": b"b" * 2_000_000,
        "bytearray": bytearray(b"b" * 200_000),
    }[kind]


KINDS = ["none", "nan", "empty", "zero", "small", "large", "nested", "error", "bytes", "bytearray", "object", "lambda"]


def test_values_of_all_kinds_and_sizes(make, path, monkeypatch):
    monkeypatch.setattr(_rows, "_PIECE", 100_000)
    came = list(make(2).map(special, KINDS, path=path))
    idle = make(1)
    monkeypatch.setattr(idle, "submit", lambda *args: pytest.fail("something is run"), raising=False)
    for values in (came, list(idle.map(special, KINDS, path=path)), Checkpoint.load(path).output):
        values = dict(zip(KINDS, values, strict=True))
        assert values["none"] is None
        assert math.isnan(values["nan"])
        assert values["empty"] == b""
        assert values["zero"].size == 0
        assert values["large"].tolist() == special("large").tolist()
        values["large"][:], values["small"][:] = 0, 0  # writable
        values["nested"]["a"][0][:] = 0
        assert values["nested"]["c"] == "x" * 300_000
        assert repr(values["error"]) == "ValueError('a value')"
        assert values["bytes"] == b"b" * 2_000_000
        assert values["bytearray"] == bytearray(b"b" * 200_000)
        assert isinstance(values["object"], Noted)
        assert values["lambda"](1) == 2
    assert list(Checkpoint.load(path))[1][1] is not None


def test_a_value_that_refers_to_the_cluster_is_not_kept(ray_up, path, caplog):
    with executor.ChunkExecutor(1) as ex:
        for _ in range(2):
            (reference,) = ex.map(lambda x: [ray.put(x)], [7], path=path)
            assert ray.get(reference[0]) == 7
        assert "refers to the cluster" in caplog.text
        with pytest.raises(TypeError, match="means nothing to the next run"):
            ex.map(identity, [ray.put(1)], path=path)
        assert list(ex.map(identity, [ray.put(1)], path=path, key=lambda ref: "one")) == [1]
        assert list(ex.map(identity, [ray.put(2)], path=path, key=lambda ref: "one")) == [1]


def test_chunk_and_map_share_what_they_keep(ray_up, path, noted):
    f = noted.function()
    assert chunk(f, [[1], [2]], chunk_size=2, path=str(path)) == [[1, 1], [2, 2]]
    with executor.ChunkExecutor(1) as ex:
        assert list(ex.map(f, [2, 3], path=path)) == [[2, 2], [3, 3]]
    assert noted.take() == ["1", "2", "3"]
    with Chunker(f, chunk_size=2, path=path) as c:
        assert c.path == path
        assert c([[3], [4]]) == [[3, 3], [4, 4]]
        assert c([[1]], path=path) == [[1, 1]]
        assert chunk(None, [[4], [5]], c.actors, path=path) == [[4, 4], [5, 5]], "the actors hold the function"
        assert c([[x] for x in (1, 1)], key=str) == [[1, 1], [1, 1]]
    assert noted.take() == ["1", "1", "4", "5"]


def test_chunk_starts_nothing_if_all_is_there(ray_up, path, monkeypatch, capsys, caplog):
    caplog.set_level(logging.INFO, "thread_chunks")
    parameters = [[x] for x in range(5)]
    chunk(abs, parameters, chunk_size=2, path=path)
    assert f"0 of 5 values of abs are in {path}" in caplog.text
    monkeypatch.setattr(chunker, "ChunkExecutor", lambda *_, **__: pytest.fail("an executor is made"))
    assert chunk(abs, [[4], [0], [2]], path=path) == [4, 0, 2]
    assert f"3 of 3 values of abs are in {path}" in caplog.text
    assert capsys.readouterr() == ("", "")
    assert files_beside(path) == [path.name]


def test_the_bar_starts_at_what_is_there(make, path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    ex = make(2)
    list(ex.map(abs, range(6), path=path))
    list(ex.map(abs, range(8), path=path, progress_bar=True))
    shown = capsys.readouterr().err
    assert "6/8" in shown.split("\r")[1]
    assert "8/8" in shown
    assert "0/8" not in shown
    list(ex.map(abs, iter(range(10)), path=path, progress_bar=True, buffersize=2))
    assert "10call" in capsys.readouterr().err


def test_the_bar_in_a_log_file_begins_with_what_is_there(make, path, capsys):
    ex = make(2)
    list(ex.map(abs, range(6), path=path))
    list(ex.map(abs, range(8), path=path, progress_bar=True))
    first, last = capsys.readouterr().err.splitlines()
    assert " 6/8 " in first
    assert " 8/8 " in last


def test_values_are_kept_as_they_came_whatever_becomes_of_them(make, path):
    def filled(x):
        return np.full(100_000, x)

    plain, with_futures = make(2), make(2)
    with_futures.submit = with_futures.submit  # so that the values come through futures
    for ex, calls in ((plain, range(8)), (with_futures, range(8, 16))):
        for array in ex.map(filled, calls, path=path):
            array[:] = -1
    assert [int(array[0]) for array in make(1).map(filled, range(16), path=path)] == list(range(16))


def test_large_arguments_cost_no_memory(path, monkeypatch):
    written = []
    monkeypatch.setattr(Store, "write", lambda self, run, rows: written.extend(rows.calls))
    text = "x" * 900_000
    with FakeExecutor(1) as ex:
        assert sum(ex.starmap(lambda s, x: x, [[text, x] for x in range(300)], path=path)) == sum(range(300))
    assert [data for _, _, data in written] == [None] * 300


def test_lazy_runs_say_what_they_found_and_how_long_they_were(make, path, caplog):
    caplog.set_level(logging.INFO, "thread_chunks")
    list(make(1).map(abs, range(3), path=path))
    values = make(1).map(abs, iter(range(5)), path=path, buffersize=2)
    next(values)
    assert not Checkpoint.load(path).finished
    assert list(values) == [1, 2, 3, 4]
    assert f"3 of 5 values of abs are in {path}" in caplog.text
    assert Checkpoint.load(path).finished


def test_a_kept_error_keeps_no_thread(make, path):
    errors = []
    for own in (False, True):
        ex = make(1)
        if own:
            ex.submit = ex.submit
        try:
            list(ex.map(divmod, [1, 1], [1, 0], path=path))
        except ZeroDivisionError as error:
            errors.append(error)
    until(lambda: not [t for t in threading.enumerate() if t.name == "thread_chunks-checkpoint"])


def test_a_relative_path_is_that_of_the_beginning(ray_up, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Chunker(abs, chunk_size=1, path="p") as chunker:
        chunker([[-1]])
        (tmp_path / "folder").mkdir()
        monkeypatch.chdir(tmp_path / "folder")
        chunker([[-2]])
    assert finished(tmp_path / "p") == 1
    assert list((tmp_path / "folder").iterdir()) == []
