"""`python -m thread_chunks export`, `status` of a run that goes on, and the bar in a log file."""

from __future__ import annotations

import csv
import json
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from checkpointed import finished, until
from fake_cluster import FakeExecutor

from thread_chunks import progress
from thread_chunks.__main__ import main
from thread_chunks._commands.status import _rate


def measure(t, size=1):
    return {"energy": t / size, "size": np.int64(size), "spins": np.ones(3)}


def test_columns_of_keywords_and_of_values(path, tmp_path, capsys):
    with FakeExecutor(1) as ex:
        list(ex.starmap(measure, [{"t": 1.0, "size": 2}, {"t": 3.0, "size": 4}], path=path))
    assert main(["export", str(path), str(tmp_path / "out.csv")]) == 0
    assert "2 calls" in (said := capsys.readouterr().err)
    assert "without 2 cells" in said
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"t": "1.0", "size": "2", "output.energy": "0.5", "output.size": "2", "output.spins": ""}
    assert main(["export", str(path), str(tmp_path / "out.json")]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())
    assert rows[1] == {"t": 3.0, "size": 4, "output.energy": 0.75, "output.size": 4, "output.spins": None}


def test_columns_of_places(path, tmp_path):
    with FakeExecutor(1) as ex:
        list(ex.map(divmod, [7, math.inf], [2, 3], path=path))
    assert main(["export", str(path), str(tmp_path / "out.json")]) == 0
    first, second = json.loads((tmp_path / "out.json").read_text())
    assert first == {"0": 7, "1": 2, "output.0": 3, "output.1": 1}
    assert second == {"0": None, "1": 3, "output.0": None, "output.1": None}


def test_parquet(path, tmp_path, capsys):
    with FakeExecutor(1) as ex:
        list(ex.map(divmod, [7, 9], [2, 3], path=path))
    parquet = pytest.importorskip("pyarrow.parquet")
    assert main(["export", str(path), str(tmp_path / "out.parquet")]) == 0
    assert parquet.read_table(tmp_path / "out.parquet").to_pydict()["output.0"] == [3, 3]
    with FakeExecutor(1) as ex:
        list(ex.map(str, [7, "a"], path=path))
    assert main(["export", str(path), str(tmp_path / "out.parquet")]) == 1
    assert "has one type" in capsys.readouterr().err


def test_an_export_that_cannot_be(path, tmp_path, capsys):
    assert main(["export", str(path), str(tmp_path / "out.xlsx")]) == 1
    assert ".csv, .json or .parquet" in capsys.readouterr().err
    assert main(["export", str(path), str(tmp_path / "out.csv")]) == 1
    assert not (tmp_path / "out.csv").exists()


def test_the_start_does_not_count_for_the_rate():
    since, now = 0.0, 110.0  # the workers took 100 s to start, then there was a value each second
    assert _rate([109.0, 108.0, 107.0, 106.0, 105.0, 104.0, 103.0, 102.0, 101.0, 100.0], since, now) == 0.9
    assert _rate([100.0, 100.0], since, now) == 2 / 110  # all at once
    assert _rate([], since, now) == 0


WATCH = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests run in the background
runpy.run_module("thread_chunks", run_name="__main__")"""


def test_watch_waits_for_the_file(python, path):
    watching = python.start(WATCH, "status", path, "--watch", "--json")
    with FakeExecutor(1) as ex:
        list(ex.map(abs, [1, 2], path=path))
        until(lambda: finished(path) == 2)
    status = json.loads(watching.stdout.readline())
    assert status["path"] == str(path)
    watching.send_signal(2)
    assert watching.wait() == 0


def test_a_program_that_has_the_file_open_is_named(python, path):
    holds = "import sqlite3, sys, time; file = sqlite3.connect(sys.argv[1])\n"
    holds += "print(file.execute('SELECT count(*) FROM runs').fetchone()[0], flush=True)\ntime.sleep(600)"
    with FakeExecutor(1) as ex:
        list(ex.map(abs, [1, 2], path=path))
    program = python.start(holds, path)
    assert program.stdout.readline() == "1\n"
    (found,) = json.loads(python.run(WATCH, "status", path, "--json"))["programs"]
    assert found["pid"] == program.pid
    assert found["memory"] > 2**20
    program.kill()
    program.wait()
    assert json.loads(python.run(WATCH, "status", path, "--json"))["programs"] == []


def test_the_bar_in_a_log_file(monkeypatch, capsys):
    times = iter([0.0, 30.0, 61.0, 61.0, 62.0, 70.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(times)))
    with progress.progress(True, 4) as bar:
        bar.update(1)
        bar.update(2, 1)
        bar.update(1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(" 75%")
    assert "3/4" in lines[0]
    assert "failed=1" in lines[0]
    assert "4/4" in lines[1]
    assert all(line.isprintable() for line in lines)


def test_where_there_is_no_standard_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with progress.progress(True, 1) as bar:
        bar.update(1)
