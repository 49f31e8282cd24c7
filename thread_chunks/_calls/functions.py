"""Functions as the dispatcher knows them, and how they travel."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, SupportsIndex

from .pace import Pace

# What to say where a function is wanted, and something else is there.
NOT_ITS_VALUE = ". Pass the function itself: simulate, not simulate(...)"


@dataclass(eq=False)
class Parcel:
    """How a function travels; calls of one function share it. Workers refer to it weakly.

    `key` is the name under which a worker keeps the function.
    """

    key: bytes
    shipment: Any = None  # dispatcher thread: what the cluster made of the function, to make it once
    pace: Pace = field(default_factory=Pace)  # dispatcher thread
    failure: BaseException | None = None  # why the function cannot travel
    latest: weakref.ref[Future[Any]] | None = None  # of the call that was submitted last

    @property
    def pending(self) -> bool:
        """Whether the call that was submitted last is not over yet."""
        future = None if self.latest is None else self.latest()
        return future is not None and not future.done()

    def travels_with(self, other: Parcel) -> bool:
        """Return whether calls of the two may be in one block."""
        return self.key == other.key and self.pace is other.pace


@dataclass(slots=True, eq=False)
class Function:
    """A function as the dispatcher knows it; `fn` is None for the stored function, whose name is `stored_name`.

    `keeps` is whether the values of its calls stay in the cluster. Such calls travel one by one. `view` has the
    globals that it uses, if it uses any of ``__main__``.
    """

    fn: Callable[..., Any] | None
    parcel: Parcel
    stored_name: str = "the stored function"
    keeps: bool = False
    view: Any = None

    def travels_with(self, other: Function) -> bool:
        """Return whether calls of the two may be in one block."""
        return self.view is other.view and self.parcel.travels_with(other.parcel)

    @property
    def name(self) -> str:
        """The function's name, for messages."""
        return self.stored_name if self.fn is None else name_of(self.fn)


class Batch:
    """Calls that travel as one, as those of joblib do; on arrival it is `run`, which runs them.

    Attributes
    ----------
    calls : list of tuple
        Function, arguments and keyword arguments of each, for messages.
    """

    __slots__ = ("_run", "calls")

    def __init__(self, run: Callable[[], Any], calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]):
        self._run = run
        self.calls = calls

    def __call__(self) -> Any:
        """Run the calls."""
        return self._run()

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Return the reduction of `run`."""
        return self._run.__reduce_ex__(protocol)


def name_of(fn: Callable[..., Any]) -> str:
    """Return a function's name, for messages."""
    if type(fn) is Batch:
        return ", ".join(dict.fromkeys(name_of(each) for each, _, _ in fn.calls))
    if type(fn) is partial:
        return name_of(fn.func)
    # Not by `repr` or `getattr`, which are the user's code for an object and may raise.
    if isinstance(fn, (FunctionType, BuiltinFunctionType, MethodType, type)):
        return fn.__qualname__
    return f"an object of type {type(fn).__qualname__!r}"
