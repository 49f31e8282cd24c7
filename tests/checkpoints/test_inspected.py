"""Looking inside: `Checkpoint`, and `python -m thread_chunks status`."""

from __future__ import annotations

import json
import sqlite3
import sys
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from checkpointed import Unhashable, finished, identity, until
from fake_cluster import FakeExecutor

from thread_chunks import Checkpoint, PicklingFailed, UnpicklingFailed, config
from thread_chunks.__main__ import main
from thread_chunks._commands import status


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
    assert "slow: 3 of 5, 60 %, " in capsys.readouterr().out
    assert main(["status", str(path), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["functions"]
    assert (found["finished"], found["total"]) == (3, 5)
    assert found["per_second"] > 0
    assert found["seconds_left"] > 0
    go.touch()
    list(values)
    assert main(["status", str(path)]) == 0
    assert "slow: 5 of 5, finished at " in capsys.readouterr().out
    path.write_text("text")
    assert main(["status", str(path)]) == 1
    assert main(["status", str(path) + "-none"]) == 1


WITH_A_CLASS = """
import sys
from fake_cluster import FakeExecutor
class Reading:
    pass
with FakeExecutor(1) as executor:
    list(executor.map(lambda x: Reading(), range(2), path=sys.argv[1]))
"""


def look(capsys, *arguments):
    assert main(["status", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_a_run_that_is_dead_has_no_rate(make, path, capsys):
    with pytest.raises(ZeroDivisionError):
        list(make(1).map(divmod, [7, 8, 1, 9], [2, 3, 0, 4], path=path, chunksize=1))
    until(lambda: finished(path) >= 2)
    until(lambda: "not running" in look(capsys, path))
    said = look(capsys, path)
    assert said == look(capsys, path)
    assert "; not running (last value at " in said
    assert "): run the program again to go on\n" in said
    assert "per s" not in said
    assert "left" not in said
    (found,) = json.loads(look(capsys, path, "--json"))["functions"]
    assert (found["running"], found["per_second"], found["seconds_left"]) == (False, None, None)


def test_another_program_does_not_go_on_with_a_run_of_an_earlier_one(path, capsys):
    with FakeExecutor(1) as ex, pytest.raises(ZeroDivisionError):
        list(ex.map(divmod, [7, 1], [2, 0], path=path, chunksize=1))
    with closing(sqlite3.connect(path)) as connection:
        with connection:
            connection.execute("UPDATE runs SET started = 1000.0")
        assert "; not running (last value at " in look(capsys, path)


def test_runs_without_a_value(path, capsys):
    with FakeExecutor(1) as ex, pytest.raises(ZeroDivisionError):
        list(ex.map(divmod, [1, 7], [0, 2], path=path))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM outcomes")
    assert "divmod: 0 of 2, 0 %" in look(capsys, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM runs")
    assert "there is nothing in it yet: no call has finished" in look(capsys, path)


def test_versions_of_a_function(path, capsys):
    for number in range(3):
        names: dict = {}
        exec(f"def simulate(x): return x + {number}", names)
        names["simulate"].__module__ = "sweep"
        with warnings.catch_warnings(), FakeExecutor(1) as ex:
            warnings.simplefilter("ignore")
            list(ex.map(names["simulate"], range(3), path=path))
    lines = [line for line in look(capsys, path).splitlines() if "simulate" in line]
    assert [line.partition(" at ")[0] for line in lines] == [
        "  sweep.simulate (older code): 3 of 3, finished",
        "  sweep.simulate (older code): 3 of 3, finished",
        "  sweep.simulate: 3 of 3, finished",
    ]


def contents(path):
    return {file.name: file.read_bytes() for file in path.parent.iterdir() if not file.name.endswith("-shm")}


def test_to_look_changes_nothing(path, capsys, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    path, target = folder / "file", tmp_path / "table.csv"
    path.touch()
    assert "there is nothing in it yet" in look(capsys, path)
    assert main(["export", str(path), str(target)]) == 0
    assert len(Checkpoint.load(path)) == 0
    assert contents(path) == {"file": b""}
    with FakeExecutor(1) as ex:
        list(ex.map(identity, [1, 2], path=path))
    for statement in (None, "UPDATE functions SET bound = 'x'"):
        if statement is not None:  # as a run that was killed leaves it, with a log
            with closing(sqlite3.connect(path)) as connection:
                with connection:
                    connection.execute(statement)
                left = contents(path)
            for name, data in left.items():
                (folder / name).write_bytes(data)
        before = contents(path)
        assert len(before) == (1 if statement is None else 2)
        assert "identity: 2 of 2" in look(capsys, path)
        assert main(["export", str(path), str(target)]) == 0
        assert contents(path) == before


def test_the_size_is_that_of_the_file(path, capsys, monkeypatch):
    with FakeExecutor(1) as ex:
        list(ex.map(identity, [1, 2], path=path))
    megabytes = f"{path.stat().st_size / 1e6:.1f} MB"
    with closing(sqlite3.connect(path)) as connection:
        with connection:
            connection.execute("UPDATE functions SET bound = 'x'")
        assert f"{path}  {megabytes}\n" in look(capsys, path)
        monkeypatch.setattr(status, "_LARGE_LOG", 1000)
        assert f"{path}  {megabytes}, and 0 MB in the log beside it" in look(capsys, path)


def test_several_files(path, capsys, tmp_path):
    with FakeExecutor(1) as ex:
        list(ex.map(identity, [1, 2], path=path))
        list(ex.map(identity, [1, 2, 3], path=tmp_path / "other"))
    said = look(capsys, path, tmp_path / "other")
    assert "identity: 2 of 2" in said
    assert "identity: 3 of 3" in said
    assert main(["status", str(tmp_path / "none"), str(path)]) == 1
    out, err = capsys.readouterr()
    assert "identity: 2 of 2" in out
    assert "none" in err


def test_a_class_of_the_script_that_wrote_the_file(python, path, tmp_path, capsys):
    python.run(WITH_A_CLASS, path)
    assert main(["export", str(path), str(tmp_path / "table.csv")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "the class 'Reading' was defined by the script that wrote it" in line
    assert str(path) in line
    with pytest.raises(UnpicklingFailed, match="a module that both scripts import, or in this script before loading"):
        list(Checkpoint.load(path))


def test_a_data_frame_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match="pip install pandas"):
        Checkpoint("f", [[1]], [2], [True]).to_dataframe()


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
from thread_chunks._commands import status
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
