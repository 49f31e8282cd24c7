"""The interface of thread-chunks 1, on Ray."""

from __future__ import annotations

import itertools
import os
import time

import pytest
import ray

import thread_chunks
from thread_chunks import Chunker, LabelledActor, RemoteLabelledActor, chunk, config

pytestmark = pytest.mark.usefixtures("ray_up")


power = pow  # in a module that each actor can import, since Ray imports the arguments of actors


def total(*args):
    return sum(args)


def slow_pid():
    time.sleep(0.1)  # so that no worker takes all the calls
    return os.getpid()


@pytest.fixture(autouse=True)
def _two_workers(monkeypatch):
    monkeypatch.setattr(config, "default_chunk_size", 2)


@pytest.fixture
def custom():
    @ray.remote
    class Custom(LabelledActor):
        def __init__(self, func, offset=100):
            super().__init__(func)
            self.offset = offset

        def run(self, label, *args):
            label, value = super().run(label, *args)
            return label, (label, self.offset + value)

    return Custom


PARAMETERS = [[2, 1], (2, 2), [2, 3], [2, 4]]


def test_chunk():
    assert chunk(power, PARAMETERS, chunk_size=1) == [2, 4, 8, 16]
    assert chunk(power, PARAMETERS) == [2, 4, 8, 16]
    assert chunk(total, [[], [1, 2]], chunk_size=9) == [0, 3]
    assert chunk(power, iter(PARAMETERS), None, 2, False, None) == [2, 4, 8, 16]


def test_parameters_that_change_as_they_are_iterated_over():
    def rows():
        for row[0] in range(4):
            yield row

    row = [0]
    assert chunk(total, rows()) == [0, 1, 2, 3]
    assert chunk(total, (group for _, group in itertools.groupby([1, 1, 5]))) == [2, 5]
    with pytest.raises(TypeError, match=r"parameters\[0\]"):
        chunk(total, itertools.count())


def test_chunk_runs_the_next_call_as_soon_as_one_finishes(tmp_path):
    def f(x):
        (tmp_path / str(x)).touch()
        if x == 0:  # ends only when all others, which one other worker must run, have begun
            deadline = time.monotonic() + 60
            while len(os.listdir(tmp_path)) < 6:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        return x

    assert chunk(f, [[x] for x in range(6)], chunk_size=2) == list(range(6))


def test_chunk_with_actors():
    actors = [RemoteLabelledActor.remote(power) for _ in range(2)]
    assert chunk(None, PARAMETERS, actors) == [2, 4, 8, 16]
    assert chunk(None, PARAMETERS, actors, chunk_size=2) == [2, 4, 8, 16]
    assert chunk(total, PARAMETERS, actors) == [3, 4, 5, 6]
    assert chunk(None, PARAMETERS, actors) == [3, 4, 5, 6], "the function stays"
    assert ray.get(actors[0].get_func.remote())(1, 1) == 2
    assert ray.get(actors[0].run.remote("label", 1, 2)) == ("label", 3)
    ray.get(actors[0].set_func.remote(power))
    assert ray.get(actors[0].run.remote("label", 2, 3)) == ("label", 8)


def test_custom_actors(custom):
    actors = [custom.remote(power), custom.options(num_cpus=0).remote(power, offset=100)]
    expected = [(0, 102), (1, 104), (2, 108), (3, 116)]
    assert chunk(None, PARAMETERS, actors) == expected
    assert chunk(total, PARAMETERS, actors) == [(0, 103), (1, 104), (2, 105), (3, 106)]
    chunker = Chunker(actors=actors)
    assert chunker.chunk_size == 2
    assert chunker([[1, 1]]) == [(0, 102)]
    assert chunker(PARAMETERS, power) == expected
    assert ray.get(actors[1].run.remote(5, 2, 2)) == (5, (5, 104))


def test_chunker():
    chunker = Chunker(power, chunk_size=2, progress_bar=True)
    assert (chunker.chunk_size, chunker.progress_bar, chunker.persistent, chunker.path) == (2, True, False, None)
    pids = set(chunker([[]] * 20, slow_pid))
    assert len(pids) == 2
    assert chunker([[2, 3]], power, progress_bar=False) == [8]
    assert chunker(PARAMETERS, total, False) == [3, 4, 5, 6]
    assert chunker(PARAMETERS) == [3, 4, 5, 6], "the function is replaced for good"
    assert set(chunker([[]] * 20, slow_pid)) == pids, "and the actors are kept"
    assert chunker([]) == []
    chunker(PARAMETERS, total)
    actors = chunker.actors
    assert len(actors) == 2
    assert chunk(None, PARAMETERS, actors) == [3, 4, 5, 6]
    assert chunk(power, PARAMETERS, chunker.actors) == [2, 4, 8, 16]
    del chunker
    assert chunk(None, PARAMETERS, actors) == [2, 4, 8, 16], "handles that the user took stay alive"


def test_chunker_as_context_manager():
    with Chunker(power, chunk_size=1) as chunker:
        assert chunker(PARAMETERS) == [2, 4, 8, 16]
    with pytest.raises(RuntimeError, match="after shutdown"):
        chunker(PARAMETERS)


def test_error_of_a_call():
    with pytest.raises(ZeroDivisionError):
        chunk(power, [[1, 1], [0, -1], [2, 2]], chunk_size=2)


def test_dead_actors_of_the_user():
    actors = [RemoteLabelledActor.remote(power) for _ in range(2)]
    ray.get(actors[0].run.remote(0, 1, 1))

    def attempt():  # the death may be noticed by the first call only
        try:
            return chunk(None, [[2, 3]], actors)
        except thread_chunks.WorkerLost:
            return chunk(None, [[2, 3]], actors)

    ray.kill(actors[0])
    assert attempt() == [8]
    ray.kill(actors[1])
    with pytest.raises(thread_chunks.ExecutorBroken, match="all actors"):
        attempt()


def test_bad_arguments():
    actors = [RemoteLabelledActor.remote(power)]
    with pytest.raises(ValueError, match="func, or actors"):
        chunk(None, PARAMETERS)
    with pytest.raises(ValueError, match="differs from the number of actors"):
        chunk(None, PARAMETERS, actors, chunk_size=2)
    with pytest.raises(TypeError, match=r"parameters\[3\] must be a list of arguments, or a mapping of them, not 5"):
        chunk(power, [[1, 2], [1, 2], [1, 2], 5])
    with pytest.raises(TypeError, match="must be callable"):
        chunk("power", PARAMETERS)
    with pytest.raises(ValueError, match="greater than 0"):
        chunk(power, PARAMETERS, chunk_size=0)
    with pytest.raises(TypeError, match="derived from LabelledActor"):
        chunk(None, PARAMETERS, ["actor"])
    with pytest.raises(TypeError, match="derived from LabelledActor"):
        chunk(None, PARAMETERS, [ray.remote(dict).remote()])
    with pytest.raises(ValueError, match="either func, or actors"):
        Chunker()
    with pytest.raises(ValueError, match="either func, or actors"):
        Chunker(power, actors)
    with pytest.raises(ValueError, match="differs from the number of actors"):
        Chunker(actors=actors, chunk_size=3)


def test_defaults_are_read_when_they_are_used(monkeypatch, capsys):
    monkeypatch.setattr(config, "default_chunk_size", 1)
    monkeypatch.setattr(config, "progress_bar", True)
    with Chunker(power) as chunker:
        assert chunker.chunk_size == 1
        chunker(PARAMETERS)
        assert "4/4" in capsys.readouterr().err
        chunker.progress_bar = False
        chunker(PARAMETERS)
        assert capsys.readouterr().err == ""
    chunk(power, PARAMETERS)
    assert "4/4" in capsys.readouterr().err
    chunk(power, PARAMETERS, progress_bar=False)
    assert capsys.readouterr().err == ""


def test_labelled_actor_without_ray():
    actor = LabelledActor(power)
    assert actor.run("label", 2, 3) == ("label", 8)
    actor.set_func(total)
    assert actor.get_func() is total
    with pytest.raises(ValueError, match="no stored function"):
        LabelledActor().run(1)
