"""The options of `map` and `starmap`, and an executor with other limits for its calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

from ._arguments import check_positive


@dataclass(slots=True, frozen=True)
class SeriesOptions:
    """What `map` and `starmap` take by name."""

    timeout: float | None = None
    chunksize: int | None = None
    buffersize: int | None = None
    unordered: bool = False
    progress_bar: bool = False
    path: str | os.PathLike[str] | None = None
    key: Callable[..., str] | None = None

    def check(self) -> None:
        """Raise TypeError or ValueError if they make no sense."""
        check_positive("chunksize", self.chunksize)
        check_positive("buffersize", self.buffersize)
        if self.timeout is not None and self.timeout < 0:
            raise ValueError(f"timeout must not be negative: {self.timeout!r}")
        if self.key is not None and self.path is None:
            raise ValueError("key is for checkpoints: give path too")


class ExecutorWithOptions(Executor):
    """The same executor, the same workers, other limits. Made by `ChunkExecutor.with_options`.

    Parameters
    ----------
    submit, map, starmap, shutdown : callable
        What the methods of these names do.
    """

    def __init__(
        self,
        submit: Callable[..., Future[Any]],
        map: Callable[..., Iterator[Any]],  # noqa: A002 (the method's name)
        starmap: Callable[..., Iterator[Any]],
        shutdown: Callable[..., None],
    ) -> None:
        self._submit = submit
        self._map = map
        self._starmap = starmap
        self._shutdown = shutdown

    def submit(self, fn: Callable[..., Any] | None, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Do what `ChunkExecutor.submit` does."""
        return self._submit(fn, args, kwargs)

    def map(self, fn: Any, *iterables: Any, **options: Any) -> Iterator[Any]:
        """Do what `ChunkExecutor.map` does, with the same options."""
        return self._map(fn, *iterables, **options)

    def starmap(self, fn: Any, iterable: Any = None, /, **options: Any) -> Iterator[Any]:
        """Do what `ChunkExecutor.starmap` does, with the same options."""
        return self._starmap(fn, iterable, **options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the executor itself."""
        self._shutdown(wait, cancel_futures=cancel_futures)
