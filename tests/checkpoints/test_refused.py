"""Files that are not ours, or are damaged, are refused and left as they are."""

from __future__ import annotations

import os
import pickle
import sqlite3
from pathlib import Path

import joblib
import pytest
from checkpointed import files_beside, finished, identity, killed_run
from fake_cluster import FakeExecutor

from thread_chunks import Checkpoint, CheckpointRefused, chunk


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


def test_a_damaged_file_with_a_log_beside_it_is_left_as_it_is(python, path):
    killed_run(python, path)
    log = Path(f"{path}-wal")
    path.write_bytes(path.read_bytes()[:100] + os.urandom(5000))
    log.write_bytes(os.urandom(5000))
    before = path.read_bytes(), log.read_bytes()
    with FakeExecutor(1) as ex, pytest.raises(CheckpointRefused):
        ex.map(abs, [1], path=path)
    assert (path.read_bytes(), log.read_bytes()) == before


def test_a_value_that_is_not_what_was_written_is_refused(path):
    with FakeExecutor(1) as ex:
        list(ex.map(identity, ["a" * 1000], path=path))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"a" * 1000, b"a" * 999 + b"b"))
    assert path.read_bytes() != data
    with FakeExecutor(1) as ex, pytest.raises(CheckpointRefused, match="not what was written"):
        list(ex.map(identity, ["a" * 1000], path=path))


def test_a_database_of_others_that_they_have_not_finished_with_is_left_as_it_is(path):
    write_foreign(path)
    journal = Path(f"{path}-journal")
    journal.write_bytes(os.urandom(1000))
    before = path.read_bytes(), journal.read_bytes()
    with FakeExecutor(1) as ex, pytest.raises(CheckpointRefused, match="another program"):
        ex.map(abs, [1], path=path)
    assert (path.read_bytes(), journal.read_bytes()) == before


def test_a_function_with_a_cache_of_joblib(make, tmp_path):
    @joblib.Memory(tmp_path / "cache", verbose=0).cache
    def cached(x):
        return x * x

    with pytest.raises(TypeError, match=r"'MemorizedFunc' cannot be hashed.*Pass its `func`"):
        list(make(1).map(cached, range(3), path=tmp_path / "checkpoint"))
    assert list(make(1).map(cached.func, range(3), path=tmp_path / "checkpoint")) == [0, 1, 4]
