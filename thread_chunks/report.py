"""What an executor says about the calls that it ran, and about those that it runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["FunctionReport", "Report", "RunningCall", "Spread"]

# Steps of the histograms from which medians are taken, per doubling. Two neighbours differ by 4 %.
_STEPS = 16


@dataclass(frozen=True)
class Spread:
    """How often something was measured, the median (to within 3 %) and the largest. Both are None if never."""

    count: int
    median: float | None
    max: float | None


@dataclass(frozen=True)
class FunctionReport:
    """What came of the calls of one function.

    Attributes
    ----------
    function : str
        Its name.
    calls : int
        How many came to an end, without those that were cancelled.
    failures : int
        How many of them with an error: what the function raised, or the loss of a worker.
    retries : int
        How often one was run again.
    seconds : Spread
        How long they took in the worker. Those of less than 20 ms count with the average of those that ran with them.
    memory : Spread
        The largest resident memory of the worker during the call (bytes), without what it shares with others. Only
        calls of 20 ms and more are measured; those of less than 200 ms may be said to have what the one before had.
    """

    function: str
    calls: int
    failures: int
    retries: int
    seconds: Spread
    memory: Spread


@dataclass(frozen=True)
class Report:
    """What came of an executor's calls, for each function. ``str`` makes a table of it."""

    functions: tuple[FunctionReport, ...]

    def __str__(self) -> str:
        head = ("function", "calls", "failures", "retries", "median s", "max s", "median MiB", "max MiB")
        rows = [head, *map(_row, self.functions)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if index == 0 else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        )


@dataclass(frozen=True)
class RunningCall:
    """A call that runs.

    Attributes
    ----------
    function : str
        The function's name.
    label : int
        Which call of its series, or of those that were sent together by `submit`; from 0.
    arguments : str
        The arguments, shortened.
    host, pid : str, int
        Where the worker is.
    seconds : float
        For how long it has been running.
    memory : int or None
        The worker's resident memory (bytes), without what it shares; None if the worker did not answer in time.
    stack : str or None
        The Python stack of the call, if it was asked for and the worker answered.
    """

    function: str
    label: int
    arguments: str
    host: str
    pid: int
    seconds: float
    memory: int | None = None
    stack: str | None = None


class Histogram:
    """Counts of positive numbers, on a logarithmic scale."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._max = 0.0

    def add(self, value: float, count: int = 1) -> None:
        """Count a value, `count` times."""
        self._counts[round(math.log2(max(value, 1e-9)) * _STEPS)] += count
        self._max = max(self._max, value)

    def spread(self) -> Spread:
        """Return count, median and largest."""
        total = sum(self._counts.values())
        if total == 0:
            return Spread(0, None, None)
        below = 0
        for step in sorted(self._counts):
            below += self._counts[step]
            if 2 * below >= total:
                break
        return Spread(total, min(2.0 ** (step / _STEPS), self._max), self._max)


@dataclass(slots=True)
class Tally:
    """What is counted of one function, on the dispatcher's thread."""

    calls: int = 0
    failures: int = 0
    retries: int = 0
    seconds: Histogram = field(default_factory=Histogram)
    memory: Histogram = field(default_factory=Histogram)

    def add(self, count: int, failures: int, short: float, long: Iterable[tuple[float, int]]) -> None:
        """Count calls: the `long` ones with duration (s) and memory (bytes) each, the others took `short` together."""
        self.calls += count
        self.failures += failures
        for seconds, memory in long:
            count -= 1
            self.seconds.add(seconds)
            if memory:
                self.memory.add(memory)
        if count > 0 and short > 0:
            self.seconds.add(short / count, count)

    def report(self, function: str) -> FunctionReport:
        """Return what was counted."""
        return FunctionReport(
            function, self.calls, self.failures, self.retries, self.seconds.spread(), self.memory.spread()
        )


def _row(report: FunctionReport) -> tuple[str, ...]:
    def show(value: float | None, unit: float = 1.0) -> str:
        return "-" if value is None else f"{value / unit:.4g}"

    return (
        report.function,
        str(report.calls),
        str(report.failures),
        str(report.retries),
        show(report.seconds.median),
        show(report.seconds.max),
        show(report.memory.median, 2**20),
        show(report.memory.max, 2**20),
    )
