"""What the dispatcher asks of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from .._calls.blocks import Block
from ..errors import ExecutorBroken
from .messages import Message
from .worker import Worker

GONE = "Ray was shut down, or is gone, while the executor had need of it"


def executor_broken(text: str, cause: BaseException | None = None) -> ExecutorBroken:
    """Return the error that says why no worker can run calls any more, and what is behind it."""
    error = ExecutorBroken(text if cause is None else f"{text}: {type(cause).__name__}: {cause}")
    error.__cause__ = cause
    return error


class Cluster(Protocol):
    """Where workers come from."""

    replaceable: bool  # whether a lost worker can be replaced, or there is one fewer from then on
    interruptible: bool  # whether workers can surrender a block

    @property
    def alive(self) -> bool:
        """Whether it is there, and can be heard from again."""

    def reachable(self) -> bool:
        """Whether it still answers. May take seconds, and is asked while something is expected of it."""

    @property
    def leaving(self) -> Collection[str]:
        """The nodes that are about to go, as `reachable` found out."""

    @property
    def needs(self) -> str:
        """What a worker needs, and what there is of it, for messages."""

    def home_of(self, block: Block) -> str:
        """Return the node that has most of what a block needs, if that is large; empty if there is none."""

    def start_worker(self, post: Callable[[Message], None]) -> Worker:
        """Begin to start a worker. Later `Started` is posted, or `Lost`, or `Broken`."""

    def close(self) -> None:
        """Let go of everything. No worker is used after this."""
