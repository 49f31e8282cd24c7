"""A bar, or nothing."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

__all__ = ["Bar", "progress"]


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


def progress(show: bool, total: int | None, initial: int = 0) -> Bar:
    """Return a tqdm bar over `total` calls (None: unknown), `initial` of them finished, or one that shows nothing."""
    return _TqdmBar(total, initial) if show else _NoBar()
