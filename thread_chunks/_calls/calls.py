"""The nouns: what the threads and processes of the package hand to each other.

Outcomes travel in columns (`Outcomes`): one object for the outcomes of a whole block, not one
for each, because a million no-ops must not cost a million objects on the dispatcher's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, Protocol

from .functions import Function

_log = logging.getLogger("thread_chunks")

Arguments = tuple[Any, ...]


@dataclass(slots=True, eq=False)
class Extras:
    """What a call has beside its positional arguments: the last of them, where there is anything.

    So a call that has nothing of the kind carries nothing for it, through queues, blocks and messages.
    """

    keywords: dict[str, Any]
    seed: int | None = None


_NO_EXTRAS = Extras({})


def extended(args: Arguments, keywords: dict[str, Any], seed: int | None = None) -> Arguments:
    """Return the arguments of a call, with what it has beside the positional ones."""
    return (*args, Extras(keywords, seed)) if keywords or seed is not None else args


def parts_of(args: Arguments) -> tuple[Arguments, Extras]:
    """Return the positional arguments of a call, and what it has beside them."""
    return (args[:-1], args[-1]) if args and type(args[-1]) is Extras else (args, _NO_EXTRAS)


def written(args: Arguments, show: Callable[[Any], str] = repr) -> str:
    """Return arguments as they are written in a call."""
    positional, extras = parts_of(args)
    return ", ".join([*map(show, positional), *(f"{name}={show(value)}" for name, value in extras.keywords.items())])


def row_of(args: Arguments) -> Arguments | dict[str, Any]:
    """Return the arguments of a call of a series in the form that users know: a tuple, or those by keyword."""
    positional, extras = parts_of(args)
    return extras.keywords or positional


@dataclass(slots=True, frozen=True)
class Limits:
    """What a call may take: so many seconds (None: any), and so many more runs after its worker was lost."""

    timeout: float | None = None
    retries: int = 0


UNLIMITED = Limits()


@dataclass(slots=True, eq=False)
class Outcomes:
    """What came of consecutive calls of a block: a value each, or an error.

    `values` has an item for each call, None where `errors` has one. Indices count from 0. The first
    of the calls is the `offset`-th of those that were sent; all took `seconds` together. `packed` has what
    some of the values were made from, for who stores them. `running`, `short` and `long` are as in `Reply`. `abandoned`
    is whether the executor ended the calls because it was to end at once, or broke: none of them has failed.
    """

    values: list[Any]
    errors: dict[int, BaseException] = field(default_factory=dict)
    offset: int = 0
    seconds: float = 0.0
    packed: dict[int, Any] = field(default_factory=dict)
    running: float = 0.0
    short: float = 0.0
    long: dict[int, tuple[float, int]] = field(default_factory=dict)
    abandoned: bool = False

    @classmethod
    def all_failed(cls, count: int, error: BaseException, offset: int = 0) -> Outcomes:
        """Return the outcomes of `count` calls that share one fate."""
        return cls([None] * count, dict.fromkeys(range(count), error), offset)


@dataclass(slots=True, eq=False)
class Given:
    """What a call is made with. Apart from the call, so that the future can refer to it without a cycle."""

    args: Arguments

    def drop(self, _: Future[Any] | None = None) -> None:
        """Drop what it holds: the future is resolved, though the call may still wait in the queue."""
        self.args = ()


@dataclass(slots=True, eq=False)
class Call:
    """One ``fn(*args, **kwargs)`` from `submit`, and the future that the user holds."""

    function: Function
    given: Given
    limits: Limits = UNLIMITED
    future: Future[Any] = field(default_factory=Future)
    unwanted: bool = False  # dispatcher thread: it is to be cancelled, though it was sent

    def __post_init__(self) -> None:
        self.future.add_done_callback(self.given.drop)

    def claim(self) -> bool:
        """Take the call for running: from here on it cannot be cancelled. False if it was before."""
        try:
            return self.future.set_running_or_notify_cancel()
        except RuntimeError:  # the user's code resolved it; the standard library logs that
            return False

    def travels_with(self, other: Call) -> bool:
        """Return whether the two may be in one block."""
        return type(self) is type(other) and self.limits == other.limits and self.function.travels_with(other.function)

    def cancel(self) -> None:
        """Cancel the call, which runs the user's callbacks here."""
        try:
            cancelled = self.future.cancel()
        except BaseException:
            _log.exception("a callback of a future of %s raised", self.function.name)
            cancelled = True
        if cancelled:
            self.claim()  # which tells `wait` and `as_completed`

    def resolve(self, value: Any, error: BaseException | None) -> None:
        """Resolve the future, which runs the user's callbacks here, on the dispatcher's thread."""
        try:
            if error is None:
                self.future.set_result(value)
            else:
                self.future.set_exception(error)
        except InvalidStateError:
            _log.warning("a future of %s was resolved by other code; its outcome is dropped", self.function.name)
        except BaseException:  # a callback's SystemExit, say, must not end the dispatcher
            _log.exception("a callback of a future of %s raised", self.function.name)


class Keeper(Protocol):
    """Keep the value of a call of `submit`, or have it."""

    def find(self, args: Arguments) -> tuple[Any] | None:
        """Return the value of the call with these arguments, if it is there; raise TypeError if none can be."""

    def sent(self, args: Arguments) -> None:
        """Look at the arguments once more, as they are sent."""

    def record(self, outcomes: Outcomes) -> None:
        """Keep the value of the call, whose only outcome this is."""


@dataclass(slots=True, eq=False, kw_only=True)
class KeptCall(Call):
    """A call of `submit` whose value is kept."""

    keeper: Keeper
