"""Any history of a file: the values that a run takes are those that earlier runs finished."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest
from checkpointed import Noted
from fake_cluster import FakeExecutor
from hypothesis import given, settings
from hypothesis import strategies as st


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
