"""What an executor says about the calls that it ran, and about those that it runs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FunctionReport", "Report", "RunningCall", "Spread"]


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
