"""What is recorded of a run over time."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Mark(str, Enum):
    """What is marked on a span."""

    NONE = ""
    STARTING = "starting"  # the worker comes up
    RUNNING = "running"  # it is not over yet
    RETRIED = "retried"  # its call was run before, and lost with its worker
    LOST = "lost"  # the worker died
    KILLED = "killed"  # the executor ended the worker: for a time-out, a memory limit, or a cancelled call


@dataclass(frozen=True, slots=True)
class Span:
    """What a worker did for a time: a block of calls, or one that took long.

    Attributes
    ----------
    worker : int
        The number of the worker. One that replaces another has its number.
    function : str
        The function's name; empty for what is no call.
    begin, end : float
        In seconds since the run began.
    calls, failures : int
        How many calls came to an end in it, and how many of them failed.
    memory : int
        The most memory that a call had which took long (bytes); 0 if that is not known.
    mark : Mark
    """

    worker: int
    function: str
    begin: float
    end: float
    calls: int
    failures: int
    memory: int = 0
    mark: Mark = Mark.NONE


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often something was measured, on a logarithmic scale: pairs of a value and a count."""

    function: str
    seconds: tuple[tuple[float, int], ...]
    memory: tuple[tuple[float, int], ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run.

    Attributes
    ----------
    began : float
        When it began (s since the epoch).
    seconds : float
        For how long it has lasted.
    spans : tuple of Span
        In the order in which they ended. Short ones that follow each other are put together in a long run.
    failures : tuple of (float, int)
        Calls that failed without an end of their own, as with their worker: when (s), and how many.
    histograms : tuple of Histogram
        Of each function.
    """

    began: float = 0.0
    seconds: float = 0.0
    spans: tuple[Span, ...] = ()
    failures: tuple[tuple[float, int], ...] = ()
    histograms: tuple[Histogram, ...] = field(default=(), repr=False)
