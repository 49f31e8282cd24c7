"""What an executor says about the calls that it ran, and about those that it runs."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from html import escape

from ._pictures.page import page
from ._pictures.timeline import Timeline
from ._pictures.trace import trace

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
    """What came of an executor's calls, for each function. ``str`` makes a table of it, and so do notebooks.

    Attributes
    ----------
    functions : tuple of FunctionReport
        One for each name of a function.
    timeline : Timeline
        What each worker did when, for `save`.
    facts : dict
        The executor's options and the versions of what it ran on, for `save`.
    """

    functions: tuple[FunctionReport, ...]
    timeline: Timeline = field(default_factory=Timeline, repr=False, compare=False)
    facts: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __str__(self) -> str:
        rows = [_HEAD, *map(_row, self.functions)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if index == 0 else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        )

    def _repr_html_(self) -> str:
        return _table(_HEAD, list(map(_row, self.functions)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a picture of the run to a file.

        Parameters
        ----------
        path : path-like
            If it ends in ``.html``, the file is a page that needs nothing else, and no network: what each worker did
            when, calls and failures over time, durations and memory, options and versions. If it ends in ``.json``, it
            is the same as a trace for `Perfetto <https://ui.perfetto.dev>`_ or ``chrome://tracing``.

        Raises
        ------
        ValueError
            If the path ends in something else.
        OSError
            If the file cannot be written.

        Notes
        -----
        Of a long run, some 16,000 spans are kept: those that follow each other are put together.

        Examples
        --------
        >>> import os, tempfile
        >>> from thread_chunks import ChunkExecutor
        >>> with ChunkExecutor(2) as executor:
        ...     values = list(executor.map(abs, range(100)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "run.html")
        ...     executor.report().save(path)
        ...     os.path.getsize(path) > 0
        True
        """
        ending = os.path.splitext(os.fspath(path))[1].lower()
        if ending == ".html":
            text = page(self.timeline, _HEAD, list(map(_row, self.functions)), self.facts)
        elif ending == ".json":
            text = json.dumps(trace(self.timeline, self.facts))
        else:
            raise ValueError(f"the file's name must end in .html or .json, not in {ending!r}: {os.fspath(path)!r}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


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


class RunningCalls(list[RunningCall]):
    """What runs now: a list, which notebooks show as a table."""

    def _repr_html_(self) -> str:
        head = ("function", "call", "arguments", "host", "process", "seconds", "MiB")
        return _table(head, [_row_of_running(call) for call in self])


_HEAD = ("function", "calls", "failures", "retries", "median s", "max s", "median MiB", "max MiB")


def _row_of_running(call: RunningCall) -> tuple[str, ...]:
    memory = _shown(call.memory, 2**20)
    return call.function, str(call.label), call.arguments, call.host, str(call.pid), _shown(call.seconds), memory


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    def line(tag: str, cells: tuple[str, ...]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<table><thead>{line('th', head)}</thead><tbody>{body}</tbody></table>"


def _shown(value: float | None, unit: float = 1.0) -> str:
    return "-" if value is None else f"{value / unit:.4g}"


def _row(report: FunctionReport) -> tuple[str, ...]:
    return (
        report.function,
        str(report.calls),
        str(report.failures),
        str(report.retries),
        _shown(report.seconds.median),
        _shown(report.seconds.max),
        _shown(report.memory.median, 2**20),
        _shown(report.memory.max, 2**20),
    )
