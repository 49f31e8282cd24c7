"""Values are written as they arrive, also if no consumer waits, and by several processes."""

from __future__ import annotations

import contextlib
import signal
import sqlite3

import pytest
from checkpointed import files_beside, finished, identity, until
from fake_cluster import FakeExecutor


def test_values_are_written_as_they_come_and_not_as_they_are_asked_for(make, path, noted):
    values = make(1).map(noted.function(), range(5), path=path)
    until(lambda: finished(path) == 5)
    del values


def test_what_finishes_after_its_series_was_closed_is_kept(make, path, tmp_path):
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
from fake_cluster import FakeExecutor
def f(x): return [x, x]
with FakeExecutor(2) as executor:
    values = list(executor.map(f, range(int(sys.argv[2]), 3000, int(sys.argv[3])), path=sys.argv[1], chunksize=7))
    assert values == [[x, x] for x in range(int(sys.argv[2]), 3000, int(sys.argv[3]))]
"""


def test_processes_that_share_a_file(python, path):
    processes = [python.start(WRITERS, path, *span) for span in ((0, 1), (1000, 1), (0, 3))]
    assert [process.wait() for process in processes] == [0, 0, 0]
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("SELECT count(*), count(DISTINCT key) FROM outcomes").fetchone() == (3000, 3000)
    connection.close()


AT_EXIT = """
import sys
from fake_cluster import FakeExecutor
def f(x): return x
executor = FakeExecutor(1)
executor.submit(f, 0).result()  # a thread stands for the worker, and none can start once the program ends
values = executor.map(f, range(500), path=sys.argv[1])
"""


def test_the_end_of_the_program_waits_for_the_disk(python, path):
    python.run(AT_EXIT, path)
    assert finished(path) == 500


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


CREATION = """
import os, sys
from thread_chunks._checkpoints.opening import open_store
for number in range(30):
    open_store(f"{sys.argv[1]}-{number}").close()
"""


def test_processes_that_make_a_file_at_the_same_time(python, path):
    processes = [python.start(CREATION, path) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    for number in range(30):
        connection = sqlite3.connect(f"{path}-{number}")
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.close()


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
