"""One sending of a block to a worker, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from enum import Enum, auto

from .._calls.blocks import Block
from ..errors import WorkerLost
from .alarms import Alarm, Alarms


class Progress(Enum):
    """How far an assignment is known to have come."""

    SENT = auto()  # it waits for its turn, or runs
    PASSED = auto()  # its worker has begun the next one, so its answer is on the way
    ANSWERED = auto()  # its worker is done with it; what was surrendered before may still be on the way


SENT, PASSED, ANSWERED = Progress


class Reason(Enum):
    """Why a worker is asked to surrender a block."""

    OVERDUE = auto()  # it takes longer than it should
    BLOCKED = auto()  # the block before it takes longer than it should, or the worker's node is about to go
    WANTED = auto()  # another worker has nothing to do
    ENDING = auto()  # a call of the worker is to end, or may have to


@dataclass(slots=True, eq=False)
class Assignment:
    """A block at a worker. It belongs to the dispatcher's thread.

    Attributes
    ----------
    block : Block
        What was sent.
    followable : bool
        Whether the worker can take another block before this one is over.
    began : float
        When the call that runs was begun, by the dispatcher's clock.
    progress : Progress
        How far it has come.
    asked : Reason or None
        Why the worker was asked to surrender it; None if it was not, or has answered.
    end_error : BaseException or None
        What the call that runs gets when it is ended; a `CancelledError` if only unwanted calls are to end.
    alarms : tuple of Alarm
        Those that were set for it.
    """

    block: Block
    followable: bool = False
    began: float = 0.0
    progress: Progress = SENT
    asked: Reason | None = None
    end_error: BaseException | None = None
    alarms: tuple[Alarm, ...] = ()

    def end_with(self, error: BaseException) -> None:
        """Set `end_error`: a lost worker is certain, a time-out is presumed, and a cancellation gives way to both."""
        known = self.end_error
        if known is None or not (isinstance(known, WorkerLost) or isinstance(error, CancelledError)):
            self.end_error = error

    def ring_at(self, alarms: Alarms, when: float, action: Callable[[], None]) -> None:
        """Do `action` at `when`, unless the assignment is over by then."""
        self.alarms += (alarms.set(when, action),)

    def close(self) -> None:
        """End the assignment: none of its alarms rings any more."""
        for alarm in self.alarms:
            alarm.cancel()
