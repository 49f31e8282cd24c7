"""Random seeds: one for each call, on any worker and at any time."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest
from checkpointed import Noted
from fake_cluster import FakeExecutor

from thread_chunks import Checkpoint, Chunker, call_seed, chunker


def seed_of(*_, **__):
    return call_seed()


@pytest.fixture
def seeds(make):
    """What `map` gives a series of 20 calls with the seed 7."""
    return list(make(2).map(seed_of, range(20), seed=7))


def test_each_call_has_a_seed_of_its_own(make, seeds):
    assert len(set(seeds)) == 20
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert not set(seeds) & set(make(2).map(seed_of, range(20), seed=8))


def test_seeds_stay_what_they_are():
    with FakeExecutor(1) as executor:
        assert list(executor.map(seed_of, "ab", seed=7)) == [9211390842685670451, 1768380064237316329]
        assert executor.with_options(seed=7).submit(seed_of).result() == 7068475112929919134


@pytest.mark.parametrize("options", [{}, {"chunksize": 7}, {"buffersize": 3}, {"unordered": True}], ids=str)
def test_seeds_depend_on_the_place_in_the_series_alone(make, seeds, options):
    for size in (1, 2):
        executor = make(size)
        for calls in (range(20), iter("abcdefghijklmnopqrst")):
            assert sorted(executor.map(seed_of, calls, seed=7, **options)) == sorted(seeds)
    rows = [{"x": x} if x % 2 else (x, np.ones(10)) for x in range(20)]
    pairs = make(2).starmap(seed_of, rows, seed=7, with_arguments=True)
    assert [seed for _, seed in pairs] == seeds
    assert list(make(2).map(seed_of, range(10), seed=7)) == seeds[:10]


def test_retries_keep_their_seeds(make, seeds, tmp_path, executor_class):
    if executor_class is FakeExecutor:
        pytest.skip("its workers are threads")

    def dies_once(x):
        if x == 3 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            import os

            os._exit(1)
        return call_seed()

    assert list(make.fresh(2, max_retries=1).map(dies_once, range(20), seed=7)) == seeds


def test_there_is_no_seed_where_none_was_given(make):
    executor = make(1)
    assert list(executor.map(seed_of, range(3), seed=7)) != [None] * 3
    assert list(executor.map(seed_of, range(3))) == [None] * 3
    assert executor.submit(seed_of, np.ones(3), x=1).result() is None
    assert call_seed() is None


def test_seeds_by_with_options(make, seeds):
    drawn = []
    for _ in range(2):
        seeded = make(2).with_options(seed=7)
        assert list(seeded.map(seed_of, range(20))) == seeds
        second = list(seeded.map(seed_of, range(20)))
        given = list(seeded.map(seed_of, range(5), seed=7))
        calls = [future.result() for future in [seeded.submit(seed_of, x=1) for _ in range(5)]]
        limited = seeded.with_options(max_retries=1).submit(seed_of).result()
        assert given == seeds[:5]
        assert len({*seeds, *second, *calls, limited}) == 46
        drawn.append((second, calls, limited))
    assert drawn[0] == drawn[1]


def test_threads_of_a_call_know_its_seed_in_a_process_of_its_own(make, seeds, executor_class):
    if executor_class is FakeExecutor:
        pytest.skip("its workers are threads of one process")

    def by_thread(_):
        found = []
        thread = threading.Thread(target=lambda: found.append(call_seed()))
        thread.start()
        thread.join()
        return found[0]

    assert list(make(1).map(by_thread, range(20), seed=7)) == seeds


def test_a_series_with_a_checkpoint_draws_the_same_after_a_crash(make, tmp_path, seeds):
    noted, path = Noted(tmp_path), tmp_path / "checkpoint"

    def draw(x, ledger=noted.ledger):
        with ledger.open("a") as file:
            file.write("x\n")
        return call_seed()

    assert list(make(2).map(draw, ["same"] * 7, seed=7, path=path)) == seeds[:7]
    assert len(noted.take()) == 7
    assert list(make(2).map(draw, ["same"] * 20, seed=7, path=path)) == seeds
    assert len(noted.take()) == 13
    assert list(make(2).map(draw, ["same"] * 20, seed=8, path=path)) != seeds  # it counts as an argument
    assert list(make(2).map(draw, ["same"] * 3, path=path)) == [None] * 3
    noted.take()
    by_key = {"key": str, "path": path}
    assert list(make(2).map(draw, range(5), seed=7, buffersize=2, **by_key)) == seeds[:5]
    assert list(make(2).map(draw, range(5), seed=8, **by_key)) != seeds[:5]
    assert len(noted.take()) == 10
    assert Checkpoint.load(path).parameters == [[x] for x in range(5)]


def test_chunk_and_chunker(executor_class, monkeypatch, seeds):
    monkeypatch.setattr(chunker, "ChunkExecutor", executor_class)
    rows = [[x] for x in range(20)]
    assert chunker.chunk(seed_of, rows, chunk_size=2, seed=7) == seeds
    with Chunker(seed_of, chunk_size=2) as made:
        assert made(rows, seed=7) == seeds
        assert made(rows) == [None] * 20


def test_what_is_no_seed(make, executor_class):
    executor = make(1)
    for seed in ("7", 7.0):
        with pytest.raises(TypeError, match="seed must be an integer"):
            executor.map(seed_of, [1], seed=seed)
        with pytest.raises(TypeError, match="seed must be an integer"):
            executor.with_options(seed=seed)
    assert list(executor.map(seed_of, [1], seed=np.int64(7))) == list(executor.map(seed_of, [1], seed=7))
    assert random.Random(*executor.map(seed_of, [1], seed=-7)).random() < 1

    class Overriding(executor_class):
        def submit(self, fn, /, *args, **kwargs):
            return super().submit(fn, *args, **kwargs)

    with Overriding(1) as overriding, pytest.raises(ValueError, match="overridden"):
        overriding.map(seed_of, [1], seed=7)
