"""A bar, or nothing."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol

__all__ = ["Bar", "progress"]

# How often a line is written where there is no terminal (s).
_MINUTE = 60.0


class Bar(Protocol):
    """Count finished calls, as a context manager."""

    def update(self, n: int, failed: int = 0) -> object:
        """Count `n` more calls, `failed` of which failed."""

    def __enter__(self) -> Bar: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class _NoBar:
    def update(self, n: int, failed: int = 0) -> None:
        pass

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


class _TqdmBar:
    def __init__(self, total: int | None, initial: int) -> None:
        # Imported late: tqdm.auto looks for notebooks, which each worker would pay for at its start.
        from tqdm.auto import tqdm

        self._tqdm = tqdm(total=total, initial=initial, unit="call")
        self._failed = 0

    def update(self, n: int, failed: int = 0) -> None:
        if failed:
            self._failed += failed
            self._tqdm.set_postfix(failed=self._failed, refresh=False)
        self._tqdm.update(n)

    def __enter__(self) -> _TqdmBar:
        return self

    def __exit__(self, *exc_info: object) -> None:
        # A finished bar stays on the screen; one that an error cut short goes away.
        self._tqdm.leave = exc_info[0] is None
        self._tqdm.close()


class _LineBar:
    """For a log file: a line a minute, and one at the end, without control characters."""

    def __init__(self, total: int | None, initial: int) -> None:
        self._total = total
        self._count = self._initial = initial
        self._failed = 0
        self._began = self._last = time.monotonic()

    def update(self, n: int, failed: int = 0) -> None:
        self._count += n
        self._failed += failed
        if time.monotonic() - self._last >= _MINUTE:
            self._write()

    def __enter__(self) -> _LineBar:
        return self

    def __exit__(self, *exc_info: object) -> None:
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
            postfix=f"failed={self._failed}" if self._failed else None,
        )
        print(line, file=sys.stderr, flush=True)


def progress(show: bool, total: int | None, initial: int = 0) -> Bar:
    """Return a bar over `total` calls (None: unknown), `initial` of them finished, or one that shows nothing.

    In a terminal and in a notebook it is a bar of tqdm; elsewhere, as in a log file, a line a minute.
    """
    if not show or sys.stderr is None:
        return _NoBar()
    return _TqdmBar(total, initial) if sys.stderr.isatty() or "ipykernel" in sys.modules else _LineBar(total, initial)
