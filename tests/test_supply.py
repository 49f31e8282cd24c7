"""The calls of a series that wait."""

from __future__ import annotations

import threading
import weakref
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from thread_chunks._calls.supply import Supply

COLUMNS = st.lists(
    st.lists(st.integers(), max_size=8)
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.dictionaries(st.integers(), st.integers(), max_size=8)
    | st.builds(range, st.integers(-5, 5), st.integers(-5, 5), st.sampled_from([1, 2, -1, -3]))
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


def test_a_range_may_be_longer_than_any_list():
    supply = Supply([range(10**20), range(0, -(10**20), -3), "ab"])
    assert len(supply) == 2
    assert list(supply) == [(0, 0, "a"), (1, -3, "b")]


def test_calls_are_added_by_one_thread_while_another_takes_them():
    supply, taken = Supply([range(100)]), []

    def add():
        for number in range(100, 50_000):
            supply.append((number,))

    thread = threading.Thread(target=add)
    thread.start()
    while len(taken) < 50_000:
        taken += supply.take(min(7, len(supply)))
    thread.join()
    assert taken == [(number,) for number in range(50_000)]


def test_nothing_refers_to_the_arguments_of_calls_that_were_taken():
    supply = Supply([[Item(), Item()], [Item(), Item()]])
    for _ in range(2):
        ((first, second),) = supply.take(1)
        references = weakref.ref(first), weakref.ref(second)
        del first, second
        assert [reference() for reference in references] == [None, None]


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
