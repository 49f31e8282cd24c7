"""Checkpoints: what is kept, what is found again, what is refused, and what a fault costs."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import pickle
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import ray
from fake_cluster import FakeExecutor
from hypothesis import given, settings
from hypothesis import strategies as st

from thread_chunks import (
    Checkpoint,
    CheckpointFailedWarning,
    CheckpointRefused,
    CheckpointStaleWarning,
    Chunker,
    LabelledActor,
    PicklingFailed,
    chunk,
    chunker,
    config,
    executor,
)
from thread_chunks.__main__ import main
from thread_chunks._checkpoints import rows as _rows
from thread_chunks._checkpoints.store import Store
from thread_chunks._series import recorder as _recorder


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint"


class Noted:
    """Makes functions that leave a line in a ledger for each call; they are all the same function."""

    def __init__(self, folder):
        self.ledger = folder / "ledger"
        self.ledger.touch()

    def function(self):
        ledger = str(self.ledger)

        def noted(x):
            with open(ledger, "a") as file:
                file.write(f"{x}\n")
            if x == "bad":
                raise ValueError(x)
            return [x, x]

        return noted

    def take(self):
        """Return what ran since the last time."""
        lines = self.ledger.read_text().split()
        self.ledger.write_text("")
        return sorted(lines)


@pytest.fixture
def noted(tmp_path):
    return Noted(tmp_path)


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def finished(path):
    return len(Checkpoint.load(path))


def files_beside(path):
    return sorted(file.name for file in path.parent.iterdir() if file.name.startswith(path.name))


# What is found again


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


def identity(x):
    return x


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


# When it is written


def test_values_are_written_as_they_come_and_not_as_they_are_asked_for(make, path, noted):
    values = make(1).map(noted.function(), range(5), path=path)
    until(lambda: finished(path) == 5)
    del values


def test_what_finishes_after_nobody_wants_it_any_more_is_kept(make, path, tmp_path):
    go, begun = tmp_path / "go", tmp_path / "begun"

    def slow(x):
        begun.touch()
        until(go.exists)
        return x

    values = make(1).map(slow, range(3), path=path)
    until(begun.exists)
    with contextlib.suppress(StopIteration):
        values.close()
    del values
    go.touch()
    until(lambda: finished(path) >= 1)


def test_the_last_value_comes_when_all_are_on_disk(make, path, noted):
    values = make(2).map(noted.function(), range(50), path=path)
    for _ in range(50):
        next(values)
    assert finished(path) == 50


def test_the_end_of_the_executor_waits_for_the_disk(executor_class, path, noted):
    with executor_class(2) as ex:
        values = ex.map(noted.function(), range(20), path=path)
    assert finished(path) == 20
    assert next(values) == [0, 0]
    assert len(list(values)) == 19
    assert files_beside(path) == [path.name], "no file is left beside it"


# Several at the same time


def test_what_another_process_finished_before_a_call_starts_is_used(make, executor_class, path, tmp_path, noted):
    go, begun = tmp_path / "go", tmp_path / "begun"
    ledger = str(noted.ledger)

    def f(x):
        with open(ledger, "a") as file:
            file.write(f"{x}\n")
        if x == 0:
            begun.touch()
            until(go.exists)
        return -x

    values = make(1).map(f, [0, 1, 2, 3, 4], path=path)
    until(begun.exists)
    with executor_class(1) as other:
        assert list(other.map(f, [3, 1, 2], path=path)) == [-3, -1, -2]
    go.touch()
    assert list(values) == [0, -1, -2, -3, -4]
    assert noted.take() == ["0", "1", "2", "3", "4"]
    values = make(1).map(f, [0, 1, 5], path=path, unordered=True)
    assert sorted(values) == [-5, -1, 0]
    assert noted.take() == ["5"]


WRITERS = """
import sys
sys.path.insert(0, sys.argv[1])
from fake_cluster import FakeExecutor
def f(x): return [x, x]
with FakeExecutor(2) as executor:
    values = list(executor.map(f, range(int(sys.argv[3]), 3000, int(sys.argv[4])), path=sys.argv[2], chunksize=7))
    assert values == [[x, x] for x in range(int(sys.argv[3]), 3000, int(sys.argv[4]))]
"""


def test_processes_that_share_a_file(path):
    here = str(Path(__file__).parent)
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITERS, here, str(path), *span], cwd=path.parent)
        for span in (("0", "1"), ("1000", "1"), ("0", "3"))
    ]
    assert [process.wait() for process in processes] == [0, 0, 0]
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("SELECT count(*), count(DISTINCT key) FROM outcomes").fetchone() == (3000, 3000)
    connection.close()


# The identity of a call


def version(x):
    names = {"__name__": "module"}
    exec(f"def f(x):\n    return x + {x}", names)
    return names["f"]


def test_values_of_older_code_are_kept_and_not_used(make, path):
    ex = make(2)
    one, two = version(1), version(2)
    assert list(ex.map(one, [1, 2], path=path)) == [2, 3]
    with pytest.warns(CheckpointStaleWarning, match="2 values of module.f with another code") as caught:
        assert list(ex.map(two, [1, 2], path=path)) == [3, 4]
    assert caught[0].filename == __file__
    one = version(1)
    ex.submit = lambda *args: pytest.fail("something is run")
    assert list(ex.map(one, [1, 2], path=path)) == [2, 3], "and used again when the code is as it was"
    assert len(Checkpoint.load(path)) == 2


class Unhashable:
    def __reduce__(self):
        raise TypeError("no")


def test_arguments_that_have_no_hash(make, path, noted):
    ex = make(1)
    with pytest.raises(TypeError, match=r"cannot be found again in a checkpoint.*key="):
        ex.map(noted.function(), [1, Unhashable()], path=path)
    assert noted.take() == [], "nothing is run before"
    values = ex.map(lambda x, y: y, ["a", "b"], [1, 2], path=path, key=lambda x, y: x)
    assert list(values) == [1, 2]
    assert list(ex.map(lambda x, y: y, ["b", "a"], [7, 8], path=path, key=lambda x, y: x)) == [2, 1]
    with pytest.raises(TypeError, match="key returned 'int', not a string"):
        ex.map(identity, [1], path=path, key=lambda x: 1)
    with pytest.raises(ValueError, match="give path too"):
        ex.map(identity, [1], key=str)


def test_the_class_of_the_actors_belongs_to_the_function(make, path):
    class Shifted(LabelledActor):
        def run(self, label, *args):
            label, value = super().run(label, *args)
            return label, value + 100

    assert list(make(abs, 1).map([-1], path=path)) == [1]
    with pytest.warns(CheckpointStaleWarning):
        assert list(make(abs, 1, actor_class=Shifted).map([-1], path=path)) == [101]


# The interface of thread-chunks 1


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
    assert "0 of 5 values are in" in caplog.text
    monkeypatch.setattr(chunker, "ChunkExecutor", lambda *_, **__: pytest.fail("an executor is made"))
    assert chunk(abs, [[4], [0], [2]], path=path) == [4, 0, 2]
    assert "3 of 3 values are in" in caplog.text
    assert capsys.readouterr() == ("", "")
    assert files_beside(path) == [path.name]


def test_the_bar_starts_at_what_is_there(make, path, capsys):
    ex = make(2)
    list(ex.map(abs, range(6), path=path))
    list(ex.map(abs, range(8), path=path, progress_bar=True))
    shown = capsys.readouterr().err
    assert "6/8" in shown.split("\r")[1]
    assert "8/8" in shown
    assert "0/8" not in shown
    list(ex.map(abs, iter(range(10)), path=path, progress_bar=True, buffersize=2))
    assert "10call" in capsys.readouterr().err


# What is refused


def write_foreign(path, statement="CREATE TABLE t (x)"):
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


# The beginning of one that thread-chunks 1.0.5 wrote.
LEGACY = b"\x80\x05\x95\xad\0\0\0\0\0\0\0\x8c\x19thread_chunks._checkpoint\x94\x8c\nCheckpoint\x94\x93\x94)\x81"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"some text\n", "text"),
        (b"\x00\xff\x00", "a file of another kind"),
        (pickle.dumps([1, 2]), "a pickle"),
        (LEGACY, "a checkpoint of thread-chunks 1.0.5"),
        (b"SQLite format 3\0" + bytes(2000), "a database of another program"),
    ],
)
def test_other_files_are_refused_and_left_as_they_are(path, content, message):
    path.write_bytes(content)
    with FakeExecutor(1) as ex, pytest.raises(CheckpointRefused, match=message):
        ex.map(abs, [1], path=path)
    with pytest.raises(CheckpointRefused, match=message):
        chunk(abs, [[1]], path=path)
    with pytest.raises(CheckpointRefused, match=message):
        Checkpoint.load(path)
    with pytest.raises(CheckpointRefused, match=message):
        Checkpoint("f", [], [], [], path=path)
    assert path.read_bytes() == content
    assert files_beside(path) == [path.name]


def test_a_directory_and_other_things_are_refused(path):
    path.mkdir()
    with FakeExecutor(1) as ex:
        with pytest.raises(CheckpointRefused, match="is a directory"):
            ex.map(abs, [1], path=path)
        with pytest.raises(OSError, match="there is no directory"):
            ex.map(abs, [1], path=path / "no" / "file")
        with pytest.raises(TypeError):
            ex.map(abs, [1], path=5)
        os.mkfifo(path / "fifo")
        with pytest.raises(CheckpointRefused, match="special file"):
            ex.map(abs, [1], path=path / "fifo")


def test_databases_of_others_and_of_the_future_are_refused(path):
    write_foreign(path)
    before = path.read_bytes()
    with FakeExecutor(1) as ex:
        with pytest.raises(CheckpointRefused, match="another program"):
            ex.map(abs, [1], path=path)
        assert path.read_bytes() == before
    path.unlink()
    with FakeExecutor(1) as ex:
        list(ex.map(abs, [1], path=path))
    write_foreign(path, "PRAGMA user_version = 2")
    before = path.read_bytes()
    with FakeExecutor(1) as ex, pytest.raises(CheckpointRefused, match=r"format 2.* up to 1"):
        ex.map(abs, [1], path=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["cut", "zeros", "noise"])
def test_a_damaged_file_is_refused_and_left_as_it_is(path, damage):
    with FakeExecutor(1) as ex:
        list(ex.map(lambda x: [x] * 50, range(500), path=path))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    if damage == "cut":
        del data[middle:]
    else:
        data[65536:middle] = bytes(middle - 65536) if damage == "zeros" else os.urandom(middle - 65536)
    path.write_bytes(data)
    with FakeExecutor(1) as ex, pytest.raises(CheckpointRefused, match="damaged"):
        ex.map(abs, [1], path=path)
    with pytest.raises(CheckpointRefused, match="damaged"):
        Checkpoint.load(path)
    assert path.read_bytes() == data


def test_an_empty_file_is_taken_for_a_new_one(path):
    path.touch()
    with FakeExecutor(1) as ex:
        assert list(ex.map(abs, [-1], path=path)) == [1]
    assert finished(path) == 1


# Faults


def remove_directory(path):
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()


def make_read_only(path):
    path.chmod(0o444)


@pytest.mark.parametrize("fault", [remove_directory, make_read_only, os.remove])
def test_a_fault_of_the_file_costs_a_warning_once(make, path, tmp_path, fault):
    path = tmp_path / "folder" / "checkpoint"
    path.parent.mkdir()
    go = tmp_path / "go"

    def f(x):
        if x == 10:
            until(go.exists)
        return x

    values = make(1).map(f, range(3000), path=path, chunksize=1)
    assert next(values) == 0
    until(lambda: finished(path) == 10)
    fault(path)
    go.touch()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert list(values) == list(range(1, 3000))
    assert [w.category for w in caught] == [CheckpointFailedWarning]
    assert "The computation goes on" in str(caught[0].message)
    assert caught[0].filename == __file__


FULL_DISK = """
import resource, signal, sys, warnings
sys.path.insert(0, sys.argv[1])
from fake_cluster import FakeExecutor
from thread_chunks import Checkpoint, CheckpointFailedWarning
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def f(x): return bytes(10_000)
with FakeExecutor(2) as executor, warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    assert list(executor.map(f, range(300), path=sys.argv[2])) == [bytes(10_000)] * 300
    assert [w.category for w in caught] == [CheckpointFailedWarning], caught
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
kept = len(Checkpoint.load(sys.argv[2]))
assert kept < 300, kept
with FakeExecutor(2) as executor:
    list(executor.map(f, range(300), path=sys.argv[2]))
assert len(Checkpoint.load(sys.argv[2])) == 300
"""


def test_a_full_disk(path):
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", FULL_DISK, here, str(path)], check=True, cwd=path.parent)


# A driver that says which values were written, is killed at some moment, and is followed by another.
KILLED = """
import os, pickle, random, signal, sqlite3, sys, time
sys.path.insert(0, sys.argv[1])
from fake_cluster import FakeExecutor
from thread_chunks import Checkpoint
path, rounds = sys.argv[2], int(sys.argv[3])
CALLS = [x % 300 for x in range(400)]
def f(x):
    time.sleep(0.0001)
    return [x, str(x)]
def kept():
    connection = sqlite3.connect(path)
    values = [pickle.loads(data) for data, in connection.execute("SELECT pickle FROM outcomes")]
    connection.close()
    return values
def drive(said):
    with FakeExecutor(2) as executor:
        values = executor.map(f, CALLS, path=path, chunksize=random.randrange(1, 20))
        while True:
            os.write(said, len(kept()).to_bytes(4, "big"))
            next(values)
written = 0
for number in range(rounds):
    ours, said = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            drive(said)
        finally:
            os._exit(0)
    os.close(said)
    time.sleep(random.random() * random.choice([0.01, 0.1, 0.4]))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while words := os.read(ours, 4):
        written = max(written, int.from_bytes(words, "big"))
    os.close(ours)
    if not os.path.exists(path):
        assert not written
        continue
    Checkpoint.load(path)
    there = kept()
    assert all(value == f(value[0]) for value in there) and len(there) >= written, (number, len(there), written)
    if len(there) == len(CALLS) or number % 20 == 19:
        with FakeExecutor(2) as executor:
            assert list(executor.map(f, CALLS, path=path)) == [f(x) for x in CALLS]
        for end in ("", "-wal", "-shm"):
            if os.path.exists(path + end):
                os.remove(path + end)
        written = 0
"""


def test_a_driver_that_is_killed_at_any_moment_loses_nothing(path):
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", KILLED, here, str(path), "200"], check=True, cwd=path.parent, timeout=500)


# Looking inside


def test_checkpoint_of_a_run(make, path):
    list(make(1).map(divmod, [7, 8, 9], [2, 3, 4], path=path))
    with pytest.raises(ZeroDivisionError):
        list(make(1).map(divmod, [7, 1, 9, 5], [2, 0, 4, 5], path=path, chunksize=4))
    until(lambda: finished(path) >= 3)
    found = Checkpoint.load(path)
    assert found.func_name == "divmod"
    assert found.path == str(path)
    assert found.parameters == [[7, 2], [1, 0], [9, 4], [5, 5]]
    assert found.output == [(3, 1), None, (2, 1), (1, 0)]
    assert found.completed == [True, False, True, True]
    assert (found.index, found.done, len(found)) == (1, False, 3)
    assert list(found) == [([7, 2], (3, 1)), ([9, 4], (2, 1)), ([5, 5], (1, 0))]
    assert found.to_dict() == {
        "parameters": found.parameters,
        "output": found.output,
        "completed": found.completed,
    }
    assert repr(found) == "<Checkpoint of divmod: 3 of 4 calls finished>"


def test_checkpoint_made_by_hand(path):
    made = Checkpoint("f", [[1, 2], (3,)], [None, None], [True, False], 1, False, path)
    for found in (made, Checkpoint.load(path)):
        assert (found.func_name, found.parameters, found.output) == ("f", [[1, 2], [3]], [None, None])
        assert (found.completed, found.index, found.done, found.path) == ([True, False], 1, False, str(path))
        assert list(found) == [([1, 2], None)]
    assert Checkpoint("f", [], [], [], 0, True).path is None
    with pytest.raises(ValueError, match="of different lengths"):
        Checkpoint("f", [[1]], [], [], 0, True)
    with pytest.raises(FileNotFoundError):
        Checkpoint.load(path.parent / "none")
    with pytest.raises(PicklingFailed):
        Checkpoint("f", [[1]], [Unhashable()], [True], path=path)


def test_large_arguments_are_not_kept(make, path):
    arguments = [np.ones(10), np.ones(1_000_000), b"x" * 2_000_000]
    assert list(make(1).map(len, arguments, path=path)) == [10, 1_000_000, 2_000_000]
    (small,), *large = Checkpoint.load(path).parameters
    assert small.tolist() == [1] * 10
    assert large == [None, None]
    assert path.stat().st_size < 1_000_000


def test_status(make, path, capsys, tmp_path):
    go = tmp_path / "go"

    def slow(x):
        if x == 3:
            until(go.exists)
        return x

    values = make(1).map(slow, range(5), path=path, chunksize=1)
    until(lambda: finished(path) == 3)
    assert main(["status", str(path)]) == 0
    assert "slow: 3 of 5, 60 %" in capsys.readouterr().out
    assert main(["status", str(path), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["functions"]
    assert (found["finished"], found["total"]) == (3, 5)
    assert found["per_second"] > 0
    assert found["seconds_left"] > 0
    go.touch()
    list(values)
    assert main(["status", str(path)]) == 0
    assert "5 of 5, 100 %" in capsys.readouterr().out
    path.write_text("text")
    assert main(["status", str(path)]) == 1
    assert main(["status", str(path) + "-none"]) == 1


def test_status_reads_no_pickle(path, capsys):
    with FakeExecutor(1) as ex:
        list(ex.map(identity, [1, 2], path=path))
    connection = sqlite3.connect(path)
    connection.execute("UPDATE outcomes SET pickle = ?", (b"cos\nsystem\n(S'echo'\ntR.",))
    connection.execute("UPDATE calls SET pickle = ?", (b"garbage",))
    connection.commit()
    connection.close()
    assert main(["status", str(path)]) == 0
    assert "identity: 2 of 2" in capsys.readouterr().out


def test_status_watches_until_it_is_interrupted(path):
    with FakeExecutor(1) as ex:
        list(ex.map(identity, [1, 2], path=path))
    script = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests run in the background
runpy.run_module("thread_chunks", run_name="__main__")"""
    watching = subprocess.Popen(
        [sys.executable, "-c", script, "status", str(path), "--watch", "--json"], stdout=subprocess.PIPE, text=True
    )
    with watching:
        lines = [json.loads(watching.stdout.readline()) for _ in range(2)]
        watching.send_signal(2)
    assert watching.returncode == 0
    assert lines[1]["functions"][0]["finished"] == 2


# Any history of a file


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), max_size=8), max_size=5), st.data())
def test_any_history(histories, data):
    folder = Path(data.draw(st.just(os.environ["PYTEST_CHECKPOINTS"]))) / str(time.monotonic_ns())
    folder.mkdir()
    noted, path = Noted(folder), folder / "checkpoint"
    there = Counter()
    with FakeExecutor(2) as ex:
        for calls in histories:
            how = data.draw(st.sampled_from(["map", "unordered", "lazy"]))
            options = {"unordered": how == "unordered", "buffersize": 2 if how == "lazy" else None}
            values = list(ex.map(noted.function(), calls, path=path, **options))
            expected = [[x, x] for x in calls]
            assert values == expected or (how == "unordered" and sorted(values) == sorted(expected))
            missing = Counter(calls) - there
            assert noted.take() == sorted(str(x) for x in missing.elements())
            there |= Counter(calls)


@pytest.fixture(autouse=True)
def _folder_of_histories(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_CHECKPOINTS", str(tmp_path))


AT_EXIT = """
import sys
sys.path.insert(0, sys.argv[1])
from fake_cluster import FakeExecutor
def f(x): return x
executor = FakeExecutor(2)
values = executor.map(f, range(500), path=sys.argv[2])
"""


def test_the_end_of_the_program_waits_for_the_disk(path):
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", textwrap.dedent(AT_EXIT), here, str(path)], check=True, cwd=path.parent)
    assert finished(path) == 500


def test_config_is_quiet():
    assert config.progress_bar is False  # the other tests rest on it


# What hard use found


ANOTHER = """
import sys
from thread_chunks.__main__ import main
for _ in range(3):
    assert main(["status", sys.argv[1]]) == 0
"""


def test_looks_from_within_and_without_leave_the_locks_alone(path, tmp_path):
    """To close the file otherwise than by SQLite would end its locks, and another process would take it for unused."""
    go = tmp_path / "go"

    def f(x):
        if x == 50:
            until(go.exists)
        return x

    with FakeExecutor(1) as ex:
        values = ex.map(f, range(100), path=path, chunksize=1)
        until(lambda: finished(path) == 50)  # looks at the file again and again
        list(ex.map(abs, range(0), path=path))
        subprocess.run([sys.executable, "-c", ANOTHER, str(path)], check=True, stdout=subprocess.DEVNULL)
        assert Path(f"{path}-wal").exists(), "the other process took the file for unused"
        go.touch()
        assert list(values) == list(range(100))
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM outcomes").fetchone() == (100,)
    connection.close()


def test_arguments_that_change_after_map_do_not_poison_the_file(make, path, caplog):
    def points(count):
        point = {}
        for x in range(count):
            point["x"] = x
            yield point

    def f(point):
        return point["x"]

    list(make(2).map(f, points(8), path=path))
    assert "arguments were changed" in caplog.text
    assert list(make(2).map(f, [{"x": x} for x in range(8)], path=path)) == list(range(8))


def test_values_are_kept_as_they_came_whatever_becomes_of_them(make, path):
    def filled(x):
        return np.full(100_000, x)

    plain, with_futures = make(2), make(2)
    with_futures.submit = with_futures.submit  # so that the values come through futures
    for ex, calls in ((plain, range(8)), (with_futures, range(8, 16))):
        for array in ex.map(filled, calls, path=path):
            array[:] = -1
    assert [int(array[0]) for array in make(1).map(filled, range(16), path=path)] == list(range(16))


def test_ctrl_c_is_seen_while_another_process_holds_the_file(path):
    with FakeExecutor(1) as ex:
        list(ex.map(abs, [1], path=path))
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                ex.map(abs, [2], path=path)
        finally:
            signal.signal(signal.SIGALRM, before)
            holder.execute("ROLLBACK")
            holder.close()
        assert list(ex.map(abs, [-2], path=path)) == [2]


def killed_run(path):
    """Leave a file as a driver does that is killed: with what it wrote last in the log beside it."""
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from fake_cluster import FakeExecutor
executor = FakeExecutor(1)
values = executor.map(abs, range(2000), path={str(path)!r})
print(sum(1 for _ in range(2000) if next(values) is not None), flush=True)
os._exit(1)
"""
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=path.parent).stdout == b"2000\n"
    assert Path(f"{path}-wal").exists()


def test_a_damaged_file_with_a_log_beside_it_is_left_as_it_is(path):
    killed_run(path)
    log = Path(f"{path}-wal")
    path.write_bytes(path.read_bytes()[:100] + os.urandom(5000))
    log.write_bytes(os.urandom(5000))
    before = path.read_bytes(), log.read_bytes()
    with FakeExecutor(1) as ex, pytest.raises(CheckpointRefused):
        ex.map(abs, [1], path=path)
    assert (path.read_bytes(), log.read_bytes()) == before


def test_what_a_killed_driver_left_in_the_log_is_found(path, caplog):
    killed_run(path)
    caplog.set_level(logging.INFO, "thread_chunks")
    assert len(Checkpoint.load(path)) == 2000
    assert chunk(abs, [[x] for x in range(2000)], path=path) == list(range(2000))


def test_a_value_that_is_not_what_was_written_is_refused(path):
    with FakeExecutor(1) as ex:
        list(ex.map(identity, ["a" * 1000], path=path))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"a" * 1000, b"a" * 999 + b"b"))
    assert path.read_bytes() != data
    with FakeExecutor(1) as ex, pytest.raises(CheckpointRefused, match="not what was written"):
        list(ex.map(identity, ["a" * 1000], path=path))


CREATION = """
import os, sys
from thread_chunks._checkpoints.store import open_store
for number in range(30):
    open_store(f"{sys.argv[1]}-{number}").close()
"""


def test_processes_that_make_a_file_at_the_same_time(path):
    processes = [subprocess.Popen([sys.executable, "-c", CREATION, str(path)], cwd=path.parent) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    for number in range(30):
        connection = sqlite3.connect(f"{path}-{number}")
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.close()


FULL_AT_THE_START = """
import resource, signal, sys, warnings
sys.path.insert(0, sys.argv[1])
from fake_cluster import FakeExecutor
from thread_chunks import Checkpoint, CheckpointFailedWarning, chunk
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = sys.argv[2]
with FakeExecutor(2) as executor:
    list(executor.map(abs, range(10), path=path))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
with FakeExecutor(2) as executor:
    for calls in (range(10), range(-5, 5)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert list(executor.map(abs, calls, path=path)) == [abs(x) for x in calls]
        assert [w.category for w in caught] == [CheckpointFailedWarning], caught
    assert len(Checkpoint.load(path)) == 10
    try:
        list(executor.map(abs, range(10), path=path + "-new"))
    except OSError as error:
        assert "cannot be" in str(error)
    else:
        raise AssertionError
"""


def test_a_disk_that_is_full_from_the_start(path):
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", FULL_AT_THE_START, here, str(path)], check=True, cwd=path.parent)


def test_large_arguments_cost_no_memory(path, monkeypatch):
    written = []
    monkeypatch.setattr(Store, "write", lambda self, run, calls, values: written.extend(calls))
    text = "x" * 900_000
    with FakeExecutor(1) as ex:
        assert sum(ex.starmap(lambda s, x: x, [[text, x] for x in range(300)], path=path)) == sum(range(300))
    assert [data for _, _, data in written] == [None] * 300


def test_what_others_finish_costs_no_memory(path):
    with FakeExecutor(1) as ex, FakeExecutor(1) as other:
        values = ex.map(identity, iter(range(2000)), path=path, buffersize=5)
        next(values)
        list(other.map(identity, range(2000), path=path))
        for _ in range(1900):
            next(values)
        recorder = values.gi_frame.f_locals["self"]._recorder
        assert len(recorder._keys) < 20
        values.close()


def test_saved_again(path):
    Checkpoint("f", [[1], [2]], [5, 6], [True, True], path=path)
    Checkpoint("f", [[1], [2]], [7, None], [True, False], path=path)
    assert Checkpoint.load(path).output == [7, None]
    with pytest.raises(PicklingFailed):
        Checkpoint("g", [[1]], [Unhashable()], [True], path=path)
    assert Checkpoint.load(path).func_name == "f"


def test_functions_that_share_keys_do_not_share_arguments(make, path):
    ex = make(1)
    assert list(ex.map(lambda x, y: y, ["a"], [1], path=path, key=lambda x, y: x)) == [1]
    with pytest.warns(CheckpointStaleWarning):
        assert list(ex.map(lambda x, y: y + 1, ["a"], [2], path=path, key=lambda x, y: x)) == [3]
    assert Checkpoint.load(path).parameters == [["a", 2]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is stale: both have their values
        assert list(ex.map(lambda x, y: y, ["a"], [1], path=path, key=lambda x, y: x)) == [1]


def test_the_class_of_actors_that_were_given_counts(ray_up, path):
    @ray.remote
    class Shifted(LabelledActor):
        def run(self, label, *args):
            label, value = super().run(label, *args)
            return label, value + 100

    assert chunk(abs, [[-1]], path=path) == [1]
    with pytest.warns(CheckpointStaleWarning):
        assert chunk(abs, [[-1]], [Shifted.remote(None)], path=path) == [101]
    assert chunk(abs, [[-1]], [Shifted.remote(None)], path=path) == [101]
    assert chunk(abs, [[-1]], path=path) == [1]


def test_lazy_runs_say_what_they_found_and_how_long_they_were(make, path, caplog):
    caplog.set_level(logging.INFO, "thread_chunks")
    list(make(1).map(abs, range(3), path=path))
    values = make(1).map(abs, iter(range(5)), path=path, buffersize=2)
    next(values)
    assert not Checkpoint.load(path).done
    assert list(values) == [1, 2, 3, 4]
    assert "3 of 5 values are in" in caplog.text
    assert Checkpoint.load(path).done


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


@pytest.mark.parametrize("own", [False, True])
def test_what_changes_after_map_does_not_get_into_the_file(make, path, tmp_path, own):
    go = tmp_path / "go"
    blocked = make(1)
    if own:
        blocked.submit = blocked.submit
    blocker = blocked.submit(until, go.exists)
    numbers = [1]
    values = blocked.map(sum, [numbers], path=path)
    numbers[0] = 50
    go.touch()
    blocker.result()
    assert list(values) == [50]
    assert list(make(1).map(sum, [[1]], path=path)) == [1]


def test_a_function_is_sent_as_it_was_when_it_was_identified(make, path, tmp_path):
    factor = [2]

    def times(x):
        return factor[0] * x

    go = tmp_path / "go"
    blocked = make(1)
    blocker = blocked.submit(until, go.exists)
    values = blocked.map(times, [1], path=path)
    factor[0] = 100
    go.touch()
    blocker.result()
    assert list(values) == [2]
    assert list(make(1).map(times, [1], path=path)) == [100]


@pytest.mark.parametrize("own", [False, True])
def test_a_value_for_which_memory_does_not_suffice_is_not_kept(make, path, monkeypatch, own):
    def out_of_memory(value, packed=None):
        raise MemoryError

    monkeypatch.setattr(_recorder, "to_row", out_of_memory)
    ex = make(2)
    if own:
        ex.submit = ex.submit
    assert list(ex.map(abs, range(10), path=path)) == list(range(10))
    assert finished(path) == 0


def test_a_database_of_others_that_they_have_not_finished_with_is_left_as_it_is(path):
    write_foreign(path)
    journal = Path(f"{path}-journal")
    journal.write_bytes(os.urandom(1000))
    before = path.read_bytes(), journal.read_bytes()
    with FakeExecutor(1) as ex, pytest.raises(CheckpointRefused, match="another program"):
        ex.map(abs, [1], path=path)
    assert (path.read_bytes(), journal.read_bytes()) == before
