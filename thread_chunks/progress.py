"""A bar that says how many calls are finished, have failed and run now, or nothing."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

__all__ = ["Bar", "progress"]

# How often a line is written where there is no terminal (s).
_MINUTE = 60.0

# How often a bar is drawn anew though no call has finished (s).
_SECOND = 1.0


class Bar(Protocol):
    """Count finished calls, as a context manager.

    Attributes
    ----------
    pause : float
        After how long without an update `refresh` is to be called (s).
    """

    pause: float

    def update(self, n: int, failed: int = 0) -> object:
        """Count `n` more calls, `failed` of which failed."""

    def refresh(self) -> object:
        """Show how much time has passed, and how many calls run now."""

    def __enter__(self) -> Bar: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def _nothing_runs() -> int:
    return 0


class _NoBar:
    pause = math.inf

    def update(self, n: int, failed: int = 0) -> None:
        pass

    def refresh(self) -> None:
        pass

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


class _Counts:
    """What a bar says beside the finished calls: how many failed, and how many run."""

    def __init__(self, running: Callable[[], int]) -> None:
        self.failed = 0
        self.running = running

    def __str__(self) -> str:
        counts = {"failed": self.failed, "running": self.running()}
        return ", ".join(f"{name}={count}" for name, count in counts.items() if count)


class _TqdmBar:
    pause = _SECOND

    def __init__(self, total: int | None, initial: int, running: Callable[[], int]) -> None:
        # Imported late: tqdm.auto looks for notebooks, which each worker would pay for at its start.
        from tqdm.auto import tqdm

        self._tqdm = tqdm(total=total, initial=initial, unit="call")
        self._counts = _Counts(running)

    def update(self, n: int, failed: int = 0) -> None:
        self._counts.failed += failed
        self._tqdm.set_postfix_str(str(self._counts), refresh=False)
        self._tqdm.update(n)

    def refresh(self) -> None:
        self._tqdm.set_postfix_str(str(self._counts))

    def __enter__(self) -> _TqdmBar:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._counts.running = _nothing_runs
        self._tqdm.set_postfix_str(str(self._counts), refresh=False)
        # A finished bar stays on the screen; one that an error cut short goes away.
        self._tqdm.leave = exc_info[0] is None
        self._tqdm.close()


class _LineBar:
    """For a log file: a line a minute, and one at the end, without control characters."""

    pause = _MINUTE

    def __init__(self, total: int | None, initial: int, running: Callable[[], int]) -> None:
        self._total = total
        self._count = self._initial = initial
        self._counts = _Counts(running)
        self._began = self._last = time.monotonic()

    def update(self, n: int, failed: int = 0) -> None:
        self._count += n
        self._counts.failed += failed
        self.refresh()

    def refresh(self) -> None:
        if time.monotonic() - self._last >= _MINUTE:
            self._write()

    def __enter__(self) -> _LineBar:
        if self._initial:
            self._write()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._counts.running = _nothing_runs
        if exc_info[0] is None:
            self._write()

    def _write(self) -> None:
        from tqdm import tqdm

        self._last = time.monotonic()
        line = tqdm.format_meter(
            self._count,
            self._total,
            self._last - self._began,
            initial=self._initial,
            ncols=0,
            unit="call",
            postfix=str(self._counts),
        )
        print(line, file=sys.stderr, flush=True)


def progress(show: bool, total: int | None, initial: int = 0, running: Callable[[], int] = _nothing_runs) -> Bar:
    """Return a bar over `total` calls (None: unknown), `initial` of them finished, or one that shows nothing.

    It shows the rate, how many calls failed, and how many run now: `running` returns that. In a terminal and in a
    notebook it is a bar of tqdm; elsewhere, as in a log file, a line a minute.
    """
    if not show or sys.stderr is None:
        return _NoBar()
    kind = _TqdmBar if sys.stderr.isatty() or "ipykernel" in sys.modules else _LineBar
    return kind(total, initial, running)
