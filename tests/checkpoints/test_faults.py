"""A fault of the disk costs a warning, and a driver that is killed loses nothing."""

from __future__ import annotations

import logging
import os
import warnings

import pytest
from checkpointed import finished, killed_run, until

from thread_chunks import Checkpoint, CheckpointFailedWarning, chunk
from thread_chunks._series import recorder as _recorder


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
    is_there = fault is make_read_only
    said = "The computation goes on" if is_there else "the run goes on, but the next one begins from nothing"
    assert said in str(caught[0].message)
    assert caught[0].filename == __file__


FULL_DISK = """
import resource, signal, sys, warnings
from fake_cluster import FakeExecutor
from thread_chunks import Checkpoint, CheckpointFailedWarning
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def f(x): return bytes(10_000)
with FakeExecutor(2) as executor, warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    assert list(executor.map(f, range(300), path=sys.argv[1])) == [bytes(10_000)] * 300
    assert [w.category for w in caught] == [CheckpointFailedWarning], caught
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
kept = len(Checkpoint.load(sys.argv[1]))
assert kept < 300, kept
with FakeExecutor(2) as executor:
    list(executor.map(f, range(300), path=sys.argv[1]))
assert len(Checkpoint.load(sys.argv[1])) == 300
"""


def test_a_full_disk(python, path):
    python.run(FULL_DISK, path)


# A driver that says which values were written, is killed at some moment, and is followed by another.
KILLED = """
import os, pickle, random, signal, sqlite3, sys, time
from fake_cluster import FakeExecutor
from thread_chunks import Checkpoint
path, rounds = sys.argv[1], int(sys.argv[2])
CALLS = [x % 300 for x in range(400)]
def f(x):
    time.sleep(0.0001)
    return [x, str(x)]
def kept():
    connection = sqlite3.connect(path)
    tables = [name for name, in connection.execute("SELECT name FROM sqlite_master")]  # none, if it was killed early
    query = "SELECT pickle FROM outcomes" if tables else "SELECT NULL LIMIT 0"
    values = [pickle.loads(data) for data, in connection.execute(query)]
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


def test_a_driver_that_is_killed_at_any_moment_loses_nothing(python, path):
    drivers = [python.start(KILLED, f"{path}-{number}", 60) for number in range(2)]
    assert [driver.wait(500) for driver in drivers] == [0, 0]


def test_what_a_killed_driver_left_in_the_log_is_found(python, path, caplog):
    killed_run(python, path)
    caplog.set_level(logging.INFO, "thread_chunks")
    assert len(Checkpoint.load(path)) == 2000
    assert chunk(abs, [[x] for x in range(2000)], path=path) == list(range(2000))


FULL_AT_THE_START = """
import resource, signal, sys, warnings
from fake_cluster import FakeExecutor
from thread_chunks import Checkpoint, CheckpointFailedWarning, chunk
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = sys.argv[1]
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


def test_a_disk_that_is_full_from_the_start(python, path):
    python.run(FULL_AT_THE_START, path)


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
