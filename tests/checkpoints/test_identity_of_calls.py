"""A value is found by its function and arguments, as they were when `map` was called."""

from __future__ import annotations

import warnings

import pytest
import ray
from checkpointed import Unhashable, identity, until
from fake_cluster import FakeExecutor

from thread_chunks import Checkpoint, CheckpointStaleWarning, Chunker, LabelledActor, chunk, chunker


def version(x):
    names = {"__name__": "module"}
    exec(f"def f(x):\n    return x + {x}", names)
    return names["f"]


def test_values_of_older_code_are_kept_and_not_used(make, path):
    ex = make(2)
    one, two = version(1), version(2)
    assert list(ex.map(one, [1, 2], path=path)) == [2, 3]
    with pytest.warns(CheckpointStaleWarning, match=r"2 values of module.f with another code.* anew$") as caught:
        assert list(ex.map(two, [1, 2], path=path)) == [3, 4]
    assert caught[0].filename == __file__
    one = version(1)
    ex.submit = lambda *args: pytest.fail("something is run")
    assert list(ex.map(one, [1, 2], path=path)) == [2, 3], "and used again when the code is as it was"
    assert len(Checkpoint.load(path)) == 2


def test_the_users_line_is_in_the_warning(path, monkeypatch):
    monkeypatch.setattr(chunker, "ChunkExecutor", FakeExecutor)
    uses = [
        lambda function: chunk(function, [[1]], path=path, progress_bar=False),
        lambda function: Chunker(function, chunk_size=1, progress_bar=False, path=path)([[1]]),
        lambda function: list(FakeExecutor(1).starmap(function, [[1]], path=path)),
        lambda function: FakeExecutor(1).with_options(path=path).submit(function, 1).result(),
    ]
    chunk(version(0), [[1]], path=path, progress_bar=False)
    for number, use in enumerate(uses, 1):
        with pytest.warns(CheckpointStaleWarning) as caught:
            use(version(number))
        assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, use.__code__.co_firstlineno)]


def test_arguments_that_have_no_hash(make, path, noted):
    ex = make(1)
    with pytest.raises(TypeError, match=r"cannot be found again in a checkpoint.*key="):
        ex.map(noted.function(), [1, Unhashable()], path=path)
    assert noted.take() == [], "nothing is run before"
    values = ex.map(lambda x, y: y, ["a", "b"], [1, 2], path=path, key=lambda x, y: x)
    assert list(values) == [1, 2]
    assert list(ex.map(lambda x, y: y, ["b", "a"], [7, 8], path=path, key=lambda x, y: x)) == [2, 1]
    with pytest.raises(TypeError, match="key returned 'int', not a string"):
        ex.map(identity, [1], path=path, key=lambda x: 1)
    with pytest.raises(ValueError, match="give path too"):
        ex.map(identity, [1], key=str)


def test_the_class_of_the_actors_belongs_to_the_function(make, path):
    class Shifted(LabelledActor):
        def run(self, label, *args):
            label, value = super().run(label, *args)
            return label, value + 100

    assert list(make(abs, 1).map([-1], path=path)) == [1]
    with pytest.warns(CheckpointStaleWarning):
        assert list(make(abs, 1, actor_class=Shifted).map([-1], path=path)) == [101]


def test_arguments_that_change_after_map_do_not_poison_the_file(make, path, caplog):
    def points(count):
        point = {}
        for x in range(count):
            point["x"] = x
            yield point

    def f(point):
        return point["x"]

    list(make(2).map(f, points(8), path=path))
    assert "arguments were changed" in caplog.text
    assert list(make(2).map(f, [{"x": x} for x in range(8)], path=path)) == list(range(8))


def test_functions_that_share_keys_do_not_share_arguments(make, path):
    ex = make(1)
    assert list(ex.map(lambda x, y: y, ["a"], [1], path=path, key=lambda x, y: x)) == [1]
    with pytest.warns(CheckpointStaleWarning):
        assert list(ex.map(lambda x, y: y + 1, ["a"], [2], path=path, key=lambda x, y: x)) == [3]
    assert Checkpoint.load(path).parameters == [["a", 2]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none is stale: both have their values
        assert list(ex.map(lambda x, y: y, ["a"], [1], path=path, key=lambda x, y: x)) == [1]


def test_the_class_of_actors_that_were_given_counts(ray_up, path):
    @ray.remote
    class Shifted(LabelledActor):
        def run(self, label, *args):
            label, value = super().run(label, *args)
            return label, value + 100

    assert chunk(abs, [[-1]], path=path) == [1]
    with pytest.warns(CheckpointStaleWarning):
        assert chunk(abs, [[-1]], [Shifted.remote(None)], path=path) == [101]
    assert chunk(abs, [[-1]], [Shifted.remote(None)], path=path) == [101]
    assert chunk(abs, [[-1]], path=path) == [1]


@pytest.mark.parametrize("own", [False, True])
def test_what_changes_after_map_does_not_get_into_the_file(make, path, tmp_path, own):
    go = tmp_path / "go"
    blocked = make(1)
    if own:
        blocked.submit = blocked.submit
    blocker = blocked.submit(until, go.exists)
    numbers = [1]
    values = blocked.map(sum, [numbers], path=path)
    numbers[0] = 50
    go.touch()
    blocker.result()
    assert list(values) == [50]
    assert list(make(1).map(sum, [[1]], path=path)) == [1]


def test_a_function_is_sent_as_it_was_when_it_was_identified(make, path, tmp_path):
    factor = [2]

    def times(x):
        return factor[0] * x

    go = tmp_path / "go"
    blocked = make(1)
    blocker = blocked.submit(until, go.exists)
    values = blocked.map(times, [1], path=path)
    factor[0] = 100
    go.touch()
    blocker.result()
    assert list(values) == [2]
    assert list(make(1).map(times, [1], path=path)) == [100]
