"""How many calls make a block."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thread_chunks._calls.pace import TARGET, Pace


def pace_of(seconds, blocks=20):
    pace = Pace()
    for _ in range(blocks):
        length = pace.block_length(10**9, 1)
        pace.observe(length, length * seconds)
    return pace


def test_blocks_grow_to_the_target_time():
    for seconds in (1e-6, 1e-4, 1e-3):
        assert 0.5 * TARGET <= pace_of(seconds).block_length(10**9, 1) * seconds <= TARGET
    assert pace_of(1.0).block_length(10**9, 1) == 1


def test_blocks_grow_step_by_step():
    pace, lengths = Pace(), []
    for _ in range(4):
        lengths.append(pace.block_length(10**9, 1))
        pace.observe(lengths[-1], lengths[-1] * 1e-7)
    assert lengths == [1, 16, 256, 4096]


def test_blocks_grow_slowly_once_large_values_have_filled_one():
    pace = pace_of(1e-6)
    pace.observe(10, 1e-5, full=True)
    lengths = []
    for _ in range(3):
        lengths.append(pace.block_length(10**9, 1))
        pace.observe(lengths[-1], lengths[-1] * 1e-6)
    assert lengths == [10, 20, 40]


def test_calls_that_get_slower_are_noticed_at_once():
    pace = pace_of(1e-6)
    pace.observe(100, 100.0)
    assert pace.block_length(10**9, 1) == 1


def test_blocks_get_shorter_towards_the_end():
    pace, waiting, lengths = pace_of(1e-5), 20_000, []
    while waiting:
        lengths.append(pace.block_length(waiting, 4))
        waiting -= lengths[-1]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] * 1e-5 <= 0.002
    slow, waiting = pace_of(TARGET / 4), 100
    while waiting > 8:
        waiting -= slow.block_length(waiting, 4)
    assert slow.block_length(8, 4) == 1


def test_a_block_that_took_far_too_long_makes_single_calls():
    pace = pace_of(1e-6)
    pace.doubt()
    assert pace.block_length(10**9, 1) == 1


def test_a_block_is_overdue_well_after_its_time():
    for seconds in (1e-6, 1e-3, TARGET / 3):
        pace = pace_of(seconds)
        length = pace.block_length(10**9, 1)
        assert pace.overdue(length) >= max(0.02, 2 * length * seconds)
        assert pace.overdue(length) < 0.3  # so finished values are not delayed by 0.5 s


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 1e6)), max_size=20),
    st.integers(1, 10**7),
    st.integers(1, 10**4),
)
def test_blocks_are_never_empty_nor_longer_than_what_waits(observed, waiting, workers):
    pace = Pace()
    for calls, seconds in observed:
        pace.observe(calls, seconds)
    assert 1 <= pace.block_length(waiting, workers) <= waiting


def test_blocks_are_longer_where_so_many_workers_ask_for_them_that_the_driver_is_the_limit():
    pace = Pace()
    for _ in range(5):
        pace.observe(calls=100, seconds=1.0)
    seconds = {workers: pace.block_length(10**9, workers) * 0.01 for workers in (2, 20, 1000, 100_000)}
    assert seconds == pytest.approx({2: TARGET, 20: TARGET, 1000: 1.0, 100_000: 10.0}, rel=0.05)
    assert pace.block_length(waiting=10_000, workers=10_000) == 100  # longer than it takes to serve all
    assert pace.block_length(waiting=100, workers=100) == 2  # twice that
