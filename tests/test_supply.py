"""The calls of a series that wait."""

from __future__ import annotations

import weakref
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from thread_chunks._supply import Supply

COLUMNS = st.lists(
    st.lists(st.integers(), max_size=8)
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.dictionaries(st.integers(), st.integers(), max_size=8)
    | st.builds(range, st.integers(-5, 5), st.integers(-5, 5), st.sampled_from([1, 2, -1]))
    | st.lists(st.integers(), max_size=8).map(tuple)
    | st.lists(st.integers(), max_size=8).map(deque),
    max_size=3,
)


@given(COLUMNS, st.lists(st.tuples(st.integers()), max_size=4), st.lists(st.integers(0, 5)))
def test_calls_come_in_their_order(columns, added, counts):
    supply = Supply(columns)
    supply.extend(added)
    calls = [*zip(*columns, strict=False), *added]
    for count in counts:
        assert len(supply) == len(calls)
        taken, calls = calls[:count], calls[count:]
        assert supply.take(len(taken)) == taken
    assert list(supply) == calls
    assert not supply


def test_later_changes_of_a_collection_are_not_seen():
    items = [1, 2, 3]
    supply = Supply([items])
    items.clear()
    assert supply.take(3) == [(1,), (2,), (3,)]


class Item:
    """May be referred to weakly."""


def test_an_argument_is_let_go_of_when_its_call_is_taken():
    items = [Item() for _ in range(4)]
    references = [weakref.ref(item) for item in items]
    supply = Supply([items, range(3)])  # the last has no partner
    items.clear()
    assert references[3]() is None
    supply.take(1)
    assert [reference() is None for reference in references] == [True, False, False, True]
    supply.clear()
    assert not supply
    assert [reference() is None for reference in references] == [True] * 4
