"""What the dispatcher asks of a worker."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Protocol

from .._calls.blocks import Block
from .._calls.functions import Function


class Worker(Protocol):
    """One actor, as the dispatcher sees it."""

    handle: Any
    interruptible: bool  # once it is up: whether it can surrender a block, and so gets more than one call at a time
    host: str  # empty until the worker is up
    pid: int
    node: str  # of the cluster, as far as it is known; or where the worker is meant to go; or empty

    @property
    def place(self) -> str:
        """Process and host, for messages."""

    def run(self, block: Block) -> bool:
        """Send a block, which waits for its turn. Later `Finished` is posted, or `Failed`, or `Lost`.

        Returns whether another one may be sent before this one is over.
        """

    def surrender(self, block: Block) -> None:
        """Ask for the finished calls of the block, and the others back. `Surrendered` is posted, unless it is over."""

    def look(self, block: Block, with_stack: bool) -> Future[Any] | None:
        """Ask which call of a block runs. The answer is an `actor.Look`. None if the worker cannot be asked."""

    def replace_function(self, function: Function) -> None:
        """Replace the stored function, after what the worker runs now."""

    def dismiss(self) -> None:
        """Release the worker, which is idle, starting or lost."""

    def kill(self) -> None:
        """End the worker at once, whatever it runs."""
