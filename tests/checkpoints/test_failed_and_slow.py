"""`python -m thread_chunks status` names the calls that failed, and those that took longest."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from checkpointed import change, identity, until
from fake_cluster import FakeExecutor

from thread_chunks import Checkpoint, CheckpointRefused, WorkerLost
from thread_chunks.__main__ import main


@pytest.fixture
def status(path, capsys):
    """Return a function that reads `status --json`, for the only function in the file."""

    def look():
        assert main(["status", str(path), "--json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)["functions"]
        return found

    return look


def lines_of(path, capsys):
    assert main(["status", str(path)]) == 0
    return capsys.readouterr().out.splitlines()


def sweep(tmp_path):
    """Return a function that fails for an argument if a file of its name exists."""
    folder = str(tmp_path)

    def inverse(x, scale=1):
        if Path(folder, f"bad{x}").exists():
            raise ValueError(f"not\n\tso {x}")
        return scale / x

    return inverse


def test_what_failed_is_named_until_it_has_a_value(make, path, tmp_path, status, capsys):
    for x in (2, 4, 5, 6):
        (tmp_path / f"bad{x}").touch()
    calls = [{"x": x, "scale": 3} for x in range(1, 8)]
    values = list(make(1).starmap(sweep(tmp_path), calls, path=path, return_exceptions=True))
    assert sum(isinstance(value, ValueError) for value in values) == 4
    found = status()
    assert (found["finished"], found["failed"]) == (3, 4)
    assert len(found["last_failures"]) == 3
    assert {failure["error"] for failure in found["last_failures"]} <= {f"ValueError: not so {x}" for x in (2, 4, 5, 6)}
    assert all(failure["times"] == 1 and failure["failed"] <= time.time() for failure in found["last_failures"])
    (tmp_path / "bad2").unlink()
    (tmp_path / "bad4").unlink()
    list(make(1).starmap(sweep(tmp_path), calls, path=path, return_exceptions=True))
    found = status()
    assert (found["finished"], found["failed"]) == (5, 2)
    assert {(failure["call"], failure["times"]) for failure in found["last_failures"]} == {
        ("x=5, scale=3", 2),
        ("x=6, scale=3", 2),
    }
    _, line, *named = lines_of(path, capsys)
    assert ": 5 of 7, 71 %, 2 failed; not running (last value at " in line
    named = [text for text in named if text.startswith("    failed at ")]
    assert len(named) == 2
    assert all(", 2 times: inverse(x=" in text for text in named)
    (tmp_path / "bad5").unlink()
    (tmp_path / "bad6").unlink()
    list(make(1).starmap(sweep(tmp_path), calls, path=path))
    assert (status()["failed"], status()["last_failures"]) == (0, [])
    list(make(1).starmap(sweep(tmp_path), calls, path=path))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM failures").fetchone() == (0,)


def test_failures_of_other_parameters_do_not_count(make, path, status):
    def run(*columns):
        ex = make.fresh(1)
        list(ex.map(divmod, *columns, path=path, return_exceptions=True))
        ex.shutdown()  # what failed may be written a little later than it is returned

    run([1], [0])
    assert status()["failed"] == 1
    run([7, 9], [2, 2])
    assert status()["failed"] == 0
    run([1, 7], [0, 2])
    (failure,) = status()["last_failures"]
    assert (failure["call"], failure["times"]) == ("1, 0", 2)


def test_a_call_of_submit_that_failed(make, path, status):
    kept = make.fresh(1).with_options(path=path)
    assert isinstance(kept.submit(divmod, 1, 0).exception(), ZeroDivisionError)
    assert kept.submit(divmod, 3, 2).result() == (1, 1)
    kept.submit(divmod, 5, 0).exception()
    kept.shutdown()
    found = status()
    assert (found["finished"], found["failed"]) == (1, 2)
    assert [failure["call"] for failure in found["last_failures"]] == ["5, 0", "1, 0"]


def test_calls_that_go_through_an_overridden_submit(make, path, status):
    ex = make.fresh(1)
    ex.submit = ex.submit
    with pytest.raises(ZeroDivisionError):
        list(ex.map(divmod, [1], [0], path=path))
    ex.shutdown()
    assert status()["last_failures"][0]["call"] == "1, 0"


def test_what_was_cancelled_has_not_failed(make, path, status):
    ex = make.fresh(1)
    values = ex.map(time.sleep, [0, 0.2, 0.2, 0.2], path=path, chunksize=1)
    next(values)
    ex.shutdown(cancel_futures=True)
    assert status()["failed"] == 0


@pytest.mark.parametrize("way", ["map", "submit"])
def test_what_the_executor_ended_with_all_else_has_not_failed(make, path, tmp_path, status, way):
    running = tmp_path / "running"

    def f(x):
        if x == 0:
            raise ValueError(x)
        if x == 2:
            running.touch()
            time.sleep(600)
        return x

    ex = make.fresh(1)
    if way == "map":
        series = ex.map(f, range(4), path=path, chunksize=1, return_exceptions=True)
        assert isinstance(next(series), ValueError)
    else:
        kept = ex.with_options(path=path)
        calls = [kept.submit(f, x) for x in range(4)]
    until(running.exists)
    ex.kill_workers()
    ex.shutdown()
    assert [failure["error"] for failure in status()["last_failures"]] == ["ValueError: 0"]
    if way == "submit":
        assert isinstance(calls[2].exception(), WorkerLost)


TEXTS = {"surrogate": "\ud800 and \x00", "escape": "\x1b]0;owned\x07", "long": "x" * 2_000_000}


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_any_error_and_any_argument(make, path, status, capsys, text):
    def fail(x):
        raise ValueError(text)

    ex = make.fresh(1)
    with pytest.raises(ValueError):
        list(ex.map(fail, [text], path=path))
    ex.shutdown()
    (failure,) = status()["last_failures"]
    assert len(failure["call"]) < 300
    assert len(failure["error"]) <= 300
    assert all(line.isprintable() for line in lines_of(path, capsys))
    list(make(1).map(abs, [1], path=path))  # the file can still be written to


def test_the_slowest_calls(make, path, status, capsys):
    durations = [0.03, 0, 0.2, 0, 0.8, 0.045, 0.5, 0]  # far from each other: a busy machine adds to each
    assert list(make(1).map(time.sleep, durations, path=path)) == [None] * 8
    assert [slow["call"] for slow in status()["slowest"]] == ["0.8", "0.5", "0.2"]
    assert all(slow["seconds"] >= float(slow["call"]) for slow in status()["slowest"])
    took = [line for line in lines_of(path, capsys) if line.startswith("    took ")]
    assert len(took) == 3
    assert took[0].endswith(" s: sleep(0.8)")
    list(make(1).map(time.sleep, [1.2, 0.02], path=path))  # another run of the function
    assert [slow["call"] for slow in status()["slowest"]] == ["1.2", "0.8", "0.5"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM slowest").fetchone() == (3,)


def test_the_slowest_call_of_submit(make, path, status):
    kept = make.fresh(1).with_options(path=path)
    kept.submit(time.sleep, 0.03).result()
    kept.shutdown()
    (slow,) = status()["slowest"]
    assert slow["call"] == "0.03"


def test_short_calls_leave_no_durations(make, path, status):
    list(make(1).map(identity, range(1000), path=path))
    assert status()["slowest"] == []
    with closing(sqlite3.connect(path)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert not {"failures", "slowest"} & tables


def test_a_file_that_knows_neither_is_read_and_written_to(path, status):
    """Check a file of an older version, and one that is read-only."""
    with FakeExecutor(1) as ex:
        list(ex.map(divmod, [7], [2], path=path))
    assert (status()["failed"], status()["slowest"]) == (0, [])
    path.chmod(0o400)
    assert (status()["failed"], status()["slowest"]) == (0, [])
    path.chmod(0o600)
    with FakeExecutor(1) as ex, pytest.raises(ZeroDivisionError):
        list(ex.map(divmod, [7, 1], [2, 0], path=path))
    assert (status()["finished"], status()["failed"]) == (1, 1)
    assert Checkpoint.load(path).to_records() == [{0: 7, 1: 2, "output": (3, 1)}]


STRANGE = {
    "a blob for an error": "UPDATE failures SET error = x'1b5b'",
    "a blob for a call": "UPDATE failures SET call = x'1b5b'",
    "an error that is no text": "UPDATE failures SET error = CAST(x'fffe' AS TEXT)",
    "a text for a time": "UPDATE failures SET failed = 'yesterday'",
    "an infinite time": "UPDATE failures SET failed = 9e999",
    "a text for a count": "UPDATE failures SET times = '\x1b[2J'",
    "half a time": "UPDATE failures SET times = 1.5",
    "a failure that never was": "UPDATE failures SET times = 0",
    "a text for a duration": "UPDATE slowest SET seconds = 'long'",
    "an infinite duration": "UPDATE slowest SET seconds = 9e999",
    "a negative duration": "UPDATE slowest SET seconds = -1.0",
    "a blob for a slow call": "UPDATE slowest SET call = x'41'",
    "a view for the failures": "DROP TABLE failures; "
    "CREATE VIEW failures (function, key, run, call, error, failed, times) AS "
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 1, x'00', 1, 'a', 'b', 1.0, i FROM n",
    "a view for the slowest": "DROP TABLE slowest; CREATE VIEW slowest (function, key, call, seconds) AS "
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 1, x'00', 'a', 1.0 * i FROM n",
    "a column that is missing": "DROP TABLE failures; CREATE TABLE failures (function, key, run); "
    "INSERT INTO failures SELECT id, x'00', 1 FROM functions",
    "a column of the slowest that is missing": "DROP TABLE slowest; CREATE TABLE slowest (function, key)",
}


@pytest.fixture
def failed(path):
    with FakeExecutor(1) as ex:
        list(ex.map(time.sleep, [0.03, -1], path=path, return_exceptions=True))
    return path


@pytest.mark.parametrize("what", STRANGE)
def test_what_no_checkpoint_has_is_refused(failed, capsys, what):
    change(failed, STRANGE[what])
    assert main(["status", str(failed)]) == 1
    assert main(["status", "--json", str(failed)]) == 1
    assert str(failed) in capsys.readouterr().err


@pytest.mark.parametrize("what", ["a view for the failures", "a view for the slowest"])
def test_it_is_not_loaded_either(failed, what):
    change(failed, STRANGE[what])
    with pytest.raises(CheckpointRefused):
        Checkpoint.load(failed)


@pytest.mark.parametrize(
    "text", ["\x1b]0;owned\x07\x1b[2J", "a\rb", "a\nb", "\u202eevil", "\x9b31m", "ok\x00no", "x" * 10**6], ids=range(7)
)
def test_texts_of_a_stranger_are_one_printable_line(failed, capsys, text):
    with closing(sqlite3.connect(failed)) as connection, connection:
        connection.execute("UPDATE failures SET call = ?, error = ?, failed = 1e300, times = 5", (text, text))
        connection.execute("UPDATE slowest SET call = ?, seconds = 1e300", (text,))
    lines = lines_of(failed, capsys)
    assert len(lines) == 4
    assert all(line.isprintable() and len(line) < 1000 for line in lines)


def test_an_end_beyond_all_calendars(failed, capsys):
    change(failed, "UPDATE runs SET total = 9000000000000000000")
    with closing(sqlite3.connect(failed)) as connection:  # as its program has
        connection.execute("SELECT * FROM runs").fetchall()
        assert "over at no time" in "".join(lines_of(failed, capsys))
