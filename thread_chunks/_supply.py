"""The calls of a series that are not in a block yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice, repeat, starmap
from typing import Any, TypeVar

from ._calls import Arguments

_T = TypeVar("_T")

# To iterate over these takes no time and has no effects, so nobody can tell when their items are taken.
_COLLECTIONS = (list, tuple, range, dict, set, frozenset, str, bytes, deque)


def is_collection(iterable: object) -> bool:
    """Whether the items are all there already, so that nobody can tell when they are taken."""
    return type(iterable) in _COLLECTIONS


class Supply:
    """Calls that wait, in their order: those of some columns of arguments, then those that were added.

    A call of the columns is made when it is taken, so that until then it costs a reference to each of its arguments;
    and nothing at all if they are of a ``range``. Calls may be added by one thread while another takes them.

    Parameters
    ----------
    columns : iterable of iterable
        The first arguments of the calls, their second ones, and so on; the shortest ends them. They are not
        referred to any more when this returns, but for ranges.
    """

    def __init__(self, columns: Iterable[Iterable[Any]] = ()) -> None:
        taken_over = [column if isinstance(column, range) else list(column) for column in columns]
        self._left = min(map(len, taken_over), default=0)  # calls of the columns
        for column in taken_over:
            if isinstance(column, list):
                del column[self._left :]
        self._columns = [iter(column) if isinstance(column, range) else letting_go(column) for column in taken_over]
        self._added: deque[Arguments] = deque()

    def __len__(self) -> int:
        return self._left + len(self._added)

    def __iter__(self) -> Iterator[Arguments]:
        """Take one call after the other."""
        while self:
            yield from self.take(1)

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
        """Let go of all."""
        self._left, self._columns = 0, []
        self._added.clear()


def letting_go(items: list[_T]) -> Iterator[_T]:
    """Return an iterator that takes the items out of the list, one by one; it is not to be asked for more."""
    items.reverse()
    return starmap(items.pop, repeat(()))
