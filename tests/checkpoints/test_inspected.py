"""Looking inside: `Checkpoint`, and `python -m thread_chunks status`."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from checkpointed import Unhashable, finished, identity, until
from fake_cluster import FakeExecutor

from thread_chunks import Checkpoint, PicklingFailed, config
from thread_chunks.__main__ import main


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
    assert (found.index, found.done, len(found), found.finished) == (4, 3, 3, False)
    assert list(found) == [([7, 2], (3, 1)), ([9, 4], (2, 1)), ([5, 5], (1, 0))]
    assert found.to_dict() == {
        "parameters": found.parameters,
        "output": found.output,
        "completed": found.completed,
    }
    assert repr(found) == "<Checkpoint of divmod: 3 of 4 calls finished>"


def test_checkpoint_made_by_hand(path):
    made = Checkpoint("f", [[1, 2], (3,)], [None, None], [True, False], 2, 1, path)
    for found in (made, Checkpoint.load(path)):
        assert (found.func_name, found.parameters, found.output) == ("f", [[1, 2], [3]], [None, None])
        assert (found.completed, found.index, found.done, found.path) == ([True, False], 2, 1, str(path))
        assert not found.finished
        assert list(found) == [([1, 2], None)]
    assert Checkpoint("f", [], [], [], 0, 0).path is None
    with pytest.raises(ValueError, match="of different lengths"):
        Checkpoint("f", [[1]], [], [], 0, 0)
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


def test_status_watches_until_it_is_interrupted(python, path):
    with FakeExecutor(1) as ex:
        list(ex.map(identity, [1, 2], path=path))
    script = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests run in the background
runpy.run_module("thread_chunks", run_name="__main__")"""
    watching = python.start(script, "status", path, "--watch", "--json")
    lines = [json.loads(watching.stdout.readline()) for _ in range(2)]
    watching.send_signal(2)
    assert watching.wait() == 0
    assert lines[1]["functions"][0]["finished"] == 2


def test_config_is_quiet():
    assert config.progress_bar is False  # the other tests rest on it


ANOTHER = """
import sys
from thread_chunks.__main__ import main
for _ in range(3):
    assert main(["status", sys.argv[1]]) == 0
"""


def test_looks_from_within_and_without_leave_the_locks_alone(python, path, tmp_path):
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
        python.run(ANOTHER, path)
        assert Path(f"{path}-wal").exists(), "the other process took the file for unused"
        go.touch()
        assert list(values) == list(range(100))
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM outcomes").fetchone() == (100,)
    connection.close()


def test_saved_again(path):
    Checkpoint("f", [[1], [2]], [5, 6], [True, True], path=path)
    Checkpoint("f", [[1], [2]], [7, None], [True, False], path=path)
    assert Checkpoint.load(path).output == [7, None]
    with pytest.raises(PicklingFailed):
        Checkpoint("g", [[1]], [Unhashable()], [True], path=path)
    assert Checkpoint.load(path).func_name == "f"


def test_what_is_saved_as_by_version_1_is_loaded_as_by_version_1(path):
    Checkpoint("name", [[1], [2], [3]], [None] * 3, [False] * 3, 2, 0, path)
    found = Checkpoint.load(path)
    assert (found.func_name, found.index, found.done, found.finished) == ("name", 2, 0, False)
    assert (found.parameters, found.output, found.completed) == ([[1], [2], [3]], [None] * 3, [False] * 3)


def test_a_run_that_is_over_counts_all_its_calls(make, path):
    list(make(2).map(abs, range(5), path=path))
    found = Checkpoint.load(path)
    assert (found.index, found.done, found.finished) == (5, 5, True)
