"""Bad arguments are refused at once."""

from __future__ import annotations

import pytest
from functions import Unpicklable, square

from thread_chunks import LabelledActor, PicklingFailed, config


@pytest.mark.parametrize(
    ("arguments", "keywords", "error"),
    [
        ((0,), {}, ValueError),
        ((-1,), {}, ValueError),
        (("4",), {}, TypeError),
        ((2.0,), {}, TypeError),
        ((square, "4"), {}, TypeError),
        ((square, 0), {}, ValueError),
        ((2, 3), {}, TypeError),
        ((2,), {"max_workers": 3}, ValueError),
        ((), {"max_workers": 0}, ValueError),
        ((2,), {"initializer": 3}, TypeError),
        ((2,), {"initializer": square, "initargs": [1]}, TypeError),
        ((square,), {"actors": []}, ValueError),
        ((square,), {"actors": ["actor"]}, TypeError),
        ((square,), {"actor_class": square}, TypeError),
        ((square,), {"actor_class": dict}, TypeError),
        ((square,), {"actors": [], "actor_class": LabelledActor}, ValueError),
        ((2,), {"max_tasks_per_child": 0}, ValueError),
        ((2,), {"max_tasks_per_child": 1.5}, TypeError),
        ((square,), {"actors": [], "max_tasks_per_child": 2}, ValueError),
        ((lambda: Unpicklable(),), {"initializer": Unpicklable().__reduce__}, PicklingFailed),
    ],
)
def test_bad_constructor_arguments(make, arguments, keywords, error):
    with pytest.raises(error):
        make(*arguments, **keywords)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"chunksize": 0}, ValueError),
        ({"chunksize": 1.5}, TypeError),
        ({"buffersize": 0}, ValueError),
        ({"buffersize": "2"}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"surprise": 1}, TypeError),
    ],
)
def test_bad_map_arguments(make, options, error):
    executor = make(1)
    with pytest.raises(error):
        executor.map(square, [1], **options)
    row = iter([1])
    with pytest.raises(error):
        executor.starmap(square, [row], **options)
    assert list(row) == [1], "nothing was taken"


def test_bad_calls(make):
    executor = make(1)
    with pytest.raises(TypeError, match="must be callable"):
        executor.submit(3, 4)
    with pytest.raises(TypeError):
        executor.map(square, 3)
    with pytest.raises(TypeError, match=r"parameters\[1\] must be a list of arguments, or a mapping of them, not 2"):
        executor.starmap(square, [[1], 2])
    with pytest.raises(TypeError, match=r"parameters\[0\] must be a list of arguments, or a mapping of them, not 'ab'"):
        executor.starmap(square, iter(["ab"]))


def test_bad_default(make, monkeypatch):
    monkeypatch.setattr(config, "default_chunk_size", 0)
    with pytest.raises(ValueError, match="default_chunk_size"):
        make()
