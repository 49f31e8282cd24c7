"""The calls of a series that are not in a block yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice, repeat, starmap
from typing import Any

from .calls import Arguments

_COLLECTIONS = (list, tuple, range, dict, set, frozenset, str, bytes, deque)


def is_collection(iterable: object) -> bool:
    """Return whether the items are all there already, so that it makes no difference when they are taken."""
    return type(iterable) in _COLLECTIONS


class Supply(Iterator[Arguments]):
    """Calls that wait, in their order: those of some columns of arguments, then those that were added.

    A call of the columns is made when it is taken, so that until then it costs a reference to each of its arguments;
    and nothing at all if they are of a ``range``. Calls may be added by one thread while another takes them.

    Parameters
    ----------
    columns : iterable of iterable
        The first arguments of the calls, their second ones, and so on; the shortest ends them. They are not
        referred to any more when this returns, except for ranges.
    """

    def __init__(self, columns: Iterable[Iterable[Any]] = ()) -> None:
        taken_over = [column if isinstance(column, range) else list(column) for column in columns]
        self._left = min(map(_length, taken_over), default=0)  # calls of the columns
        self._columns = [_items(column, self._left) for column in taken_over]
        self._added: deque[Arguments] = deque()

    def __len__(self) -> int:
        return self._left + len(self._added)

    def __next__(self) -> Arguments:
        """Take the next call."""
        if not self:
            raise StopIteration
        return self.take(1)[0]

    def append(self, call: Arguments) -> None:
        """Add a call."""
        self._added.append(call)

    def extend(self, calls: Iterable[Arguments]) -> None:
        """Add calls."""
        self._added.extend(calls)

    def take(self, count: int) -> list[Arguments]:
        """Take the next `count` calls; no more than there are."""
        of_columns = min(count, self._left)
        # A `zip` of its own each time, as one refers to what came from it first for as long as it lives.
        calls: list[Arguments] = list(zip(*(islice(column, of_columns) for column in self._columns), strict=True))
        self._left -= of_columns
        calls += [self._added.popleft() for _ in range(count - len(calls))]
        return calls

    def clear(self) -> None:
        """Drop all calls."""
        self._left, self._columns = 0, []
        self._added.clear()


def _length(column: range | list[Any]) -> int:
    # `len` refuses what is longer than a list can be, though another column may be short.
    return len(column) if isinstance(column, list) else max(0, -((column.start - column.stop) // column.step))


def _items(column: range | list[Any], count: int) -> Iterator[Any]:
    """Return an iterator over the first `count` items, which drops each."""
    if isinstance(column, range):
        return iter(column)
    del column[count:]
    column.reverse()
    return starmap(column.pop, repeat((), count))
