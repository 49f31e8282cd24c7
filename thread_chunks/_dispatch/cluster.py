"""What the dispatcher, and the executors themselves, ask of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

from .._calls.blocks import Block
from .._calls.functions import Function
from .._wire.parcels import Parcels
from ..errors import ExecutorBroken
from .messages import Message
from .worker import Worker

GONE = "Ray was shut down, or is gone, while the executor needed it"


def executor_broken(text: str, cause: BaseException | None = None) -> ExecutorBroken:
    """Return the error that says why no worker can run calls any more, and what is behind it."""
    error = ExecutorBroken(text if cause is None else f"{text}: {type(cause).__name__}: {cause}")
    error.__cause__ = cause
    return error


class Cluster(Protocol):
    """Where workers come from."""

    replaceable: bool  # whether a lost worker can be replaced, or there is one fewer from then on

    @property
    def alive(self) -> bool:
        """Whether it is there, and can be heard from again."""

    def reachable(self) -> bool:
        """Return whether it still answers. May take seconds, and is asked while something is expected of it."""

    @property
    def leaving(self) -> Collection[str]:
        """The nodes that are about to go, as `reachable` found out."""

    def why_late(self, size: int) -> str:
        """Return why workers, of so many, are not up after some time, for messages."""

    def home_of(self, block: Block) -> str:
        """Return the node that has most of what a block needs, if that is large; else an empty string."""

    def start_worker(self, post: Callable[[Message], None], index: int) -> Worker:
        """Begin to start a worker, which is to know its number. Later `Started` is posted, or `Lost`, or `Broken`."""

    def close(self) -> None:
        """Release everything. No worker is used after this."""


class WholeCluster(Cluster, Protocol):
    """What executors ask of it, beside what their dispatcher does."""

    stored: Function  # the stored function; without one, what the user's actors hold
    parcels: Parcels  # makes functions that travel

    @property
    def default_size(self) -> int:
        """How many workers there are where the user does not say."""

    def replace_function(self, func: Callable[..., Any]) -> Function:
        """Make `func` the stored function of all workers, those to come included."""

    def pack_function(self, func: Callable[..., Any]) -> Any:
        """Return the shipment of a function, see `Parcel`."""

    def may_wait(self) -> bool:
        """Return whether the thread that asks may wait for the end: it does not start or stop the cluster itself."""

    def ask(self, handle: Any, question: str) -> Any:
        """Return what a method of an actor returns, after what it runs now."""
