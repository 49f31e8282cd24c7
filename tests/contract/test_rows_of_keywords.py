"""A row that is a mapping is the call's keyword arguments."""

from __future__ import annotations

import time
from collections import OrderedDict, UserDict
from functools import partial
from types import MappingProxyType

import numpy as np
import pytest
from checkpointed import Unhashable
from functions import keywords

from thread_chunks import Checkpoint, Chunker, LabelledActor, PicklingFailed, chunker
from thread_chunks.__main__ import main

MAPPINGS = [{"x": 1, "y": 2}, OrderedDict(x=1), UserDict(x=1), MappingProxyType({"x": 1}), {}]


def simulate(t, n=8):
    if n == 0:
        raise ValueError(t)
    return t * n


GRID = [{"t": t, "n": n} for t in (1.0, 2.0) for n in (16, 32)]
ENERGIES = [16.0, 32.0, 32.0, 64.0]


@pytest.mark.parametrize("mapping", MAPPINGS, ids=lambda mapping: type(mapping).__name__)
def test_a_mapping_is_keyword_arguments(make, mapping):
    executor = make(2)
    expected = ((), dict(mapping))
    for rows in ([mapping], (mapping,), iter([mapping]), [(), mapping]):
        assert list(executor.starmap(keywords, rows))[-1] == expected
    ((row, value),) = executor.starmap(keywords, [mapping], with_arguments=True)
    assert (row, value) == (dict(mapping) or (), expected)


@pytest.mark.parametrize("options", [{}, {"chunksize": 3}, {"buffersize": 2}], ids=str)
def test_rows_of_both_kinds_in_one_series(make, options):
    rows = [(1.0,), {"t": 2.0}, [3.0, 2], *GRID, {"n": 1, "t": np.ones(100_000)}]
    *values, large = make(2).starmap(simulate, iter(rows), **options)
    assert values == [8.0, 16.0, 6.0, *ENERGIES]
    assert large.sum() == 100_000


def test_names_that_the_package_might_use_itself(make):
    names = {"fn": 1, "function": 2, "self": 3, "label": 4, "args": 5, "kwargs": 6}
    executor = make(keywords, 1)
    assert list(executor.starmap([names])) == [((), names)]
    assert list(executor.starmap(keywords, [names])) == [((), names)]
    assert list(executor.starmap(partial(keywords, 0), [names])) == [((0,), names)]
    assert executor.submit(keywords, 7, **names).result() == ((7,), names)


def test_through_a_submit_that_was_overridden_and_a_run_of_the_users(executor_class):
    class Overriding(executor_class):
        def submit(self, fn, /, *args, **kwargs):
            return super().submit(fn, *args, **kwargs)

    class Telling(LabelledActor):
        def run(self, label, *args, **kwargs):
            label, value = super().run(label, *args, **kwargs)
            return label, (label, value)

    with Overriding(2) as executor:
        assert list(executor.starmap(simulate, GRID)) == ENERGIES
    with executor_class(simulate, 1, actor_class=Telling) as executor:
        assert list(executor.starmap(GRID)) == list(enumerate(ENERGIES))


def test_chunk_and_chunker(executor_class, monkeypatch):
    monkeypatch.setattr(chunker, "ChunkExecutor", executor_class)
    assert chunker.chunk(simulate, GRID, chunk_size=2) == ENERGIES
    with Chunker(simulate, chunk_size=1) as made:
        assert made(GRID) == ENERGIES


def test_the_names_are_in_what_is_said(make, tmp_path):
    executor = make(1)
    values = executor.starmap(time.sleep, [(1.0,)])
    named = executor.starmap(lambda **options: time.sleep(1), [{"t": 1.0, "text": "x" * 1000}])
    list(values)
    deadline = time.monotonic() + 60
    while not (running := [call.arguments for call in executor.running() if call.arguments.startswith("t=")]):
        assert time.monotonic() < deadline
    assert running[0].startswith("t=1.0, text='xxx")
    list(named)
    (error,) = executor.starmap(simulate, [{"t": lambda: iter(()).__reduce__(), "n": open}], return_exceptions=True)
    assert isinstance(error, TypeError)
    with (tmp_path / "file").open("w") as file, pytest.raises(PicklingFailed, match="argument 'n'"):
        list(executor.starmap(simulate, [{"t": 1, "n": file}]))
    with pytest.raises(TypeError, match=r"simulate\(t=1, n=.*Unhashable.* cannot be found again in a checkpoint"):
        executor.starmap(simulate, [{"t": 1, "n": Unhashable()}], path=tmp_path / "checkpoint")


def test_they_are_found_again(make, tmp_path):
    path, executor = tmp_path / "checkpoint", make(2)
    ran = tmp_path / "ran"

    def noted(t, n=8):
        with ran.open("a") as file:
            file.write("x")
        return t * n

    assert list(executor.starmap(noted, GRID, path=path)) == ENERGIES
    turned = [dict(reversed(row.items())) for row in reversed(GRID)]
    assert list(executor.starmap(noted, turned, path=path)) == ENERGIES[::-1]
    assert len(ran.read_text()) == 4
    assert list(executor.starmap(noted, [({"t": 1.0, "n": 16},)], path=path, return_exceptions=True)) != [16.0]
    by_key = {"path": path, "key": lambda t, n: f"{t} {n}"}
    ran.write_text("")
    for _ in range(2):
        assert list(executor.starmap(noted, GRID, **by_key)) == ENERGIES
    assert len(ran.read_text()) == 4


def test_the_names_are_in_the_checkpoint(make, tmp_path):
    path = tmp_path / "checkpoint"
    rows = [*GRID, {"t": 5.0, "n": 0}]
    list(make(2).starmap(simulate, rows, path=path, return_exceptions=True))
    found = Checkpoint.load(path)
    assert found.parameters == rows
    assert list(found) == list(zip(GRID, ENERGIES, strict=True))
    records = [{**row, "output": energy} for row, energy in zip(GRID, ENERGIES, strict=True)]
    assert found.to_records() == records
    saved = Checkpoint("simulate", found.parameters, found.output, found.completed, path=tmp_path / "saved")
    for copy in (saved, Checkpoint.load(tmp_path / "saved")):
        assert (copy.parameters, copy.to_records()) == (rows, records)


def test_records_of_arguments_without_names(make, tmp_path):
    path = tmp_path / "checkpoint"
    list(make(1).map(pow, [2, 3], [5, 2], path=path))
    assert Checkpoint.load(path).to_records() == [{0: 2, 1: 5, "output": 32}, {0: 3, 1: 2, "output": 9}]
    assert Checkpoint("f", [None, [1]], [3, None], [True, False]).to_records() == [{"output": 3}]
    with pytest.raises(ValueError, match="called 'output'"):
        Checkpoint("f", [{"output": 1}], [3], [True]).to_records()


def test_a_data_frame(make, tmp_path):
    pytest.importorskip("pandas")
    path = tmp_path / "checkpoint"
    list(make(2).starmap(simulate, GRID, path=path))
    frame = Checkpoint.load(path).to_dataframe()
    assert list(frame.columns) == ["t", "n", "output"]
    assert frame.groupby("t")["output"].max().to_dict() == {1.0: 32.0, 2.0: 64.0}


@pytest.mark.parametrize(
    "around",
    [
        lambda t: simulate(t, n=16),
        lambda t: float(np.float64(simulate(t, n=16))),
        lambda t: sum(simulate(t, n) for n in (8, 8)),
        partial(lambda n, t: simulate(t, n), 16),
        (lambda inner: lambda t: inner(t, 16))(simulate),
    ],
)
def test_the_function_within_a_lambda_is_named(make, tmp_path, capsys, around):
    path = tmp_path / "checkpoint"
    for _ in range(2):
        assert list(make(1).starmap(around, [{"t": 2.0}], path=path)) == [32.0]
    assert Checkpoint.load(path).func_name == "simulate"
    main(["status", str(path)])
    assert f"{__name__}.simulate: 1 of 1" in capsys.readouterr().out


def test_a_lambda_around_nothing_is_a_lambda(make, tmp_path):
    path = tmp_path / "checkpoint"
    list(make(1).map(lambda x: -x, [1], path=path))
    assert Checkpoint.load(path).func_name == "<lambda>"
