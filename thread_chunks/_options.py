"""What an executor holds beside its workers: the options of a series, and the stored function."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, SupportsFloat

from ._arguments import check_positive
from ._calls import Function


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
    results: str = "values"

    def __post_init__(self) -> None:
        """Raise TypeError or ValueError if they make no sense."""
        check_positive("chunksize", self.chunksize)
        check_positive("buffersize", self.buffersize)
        if self.timeout is not None and not isinstance(self.timeout, SupportsFloat):
            raise TypeError(f"timeout must be a number of seconds, not {self.timeout!r}")
        if self.timeout is not None and not self.timeout >= 0:
            raise ValueError(f"timeout must not be negative: {self.timeout!r}")
        if self.key is not None and self.path is None:
            raise ValueError("key is for checkpoints: give path too")
        if self.results not in ("values", "refs"):
            raise ValueError(f"results must be 'values' or 'refs', not {self.results!r}")
        if self.keeps and (self.chunksize is not None or self.path is not None):
            raise ValueError("results='refs' goes with neither chunksize (calls travel one by one) nor path")

    @property
    def keeps(self) -> bool:
        """Whether values stay in the cluster."""
        return self.results == "refs"


@dataclass(slots=True)
class StoredFunction:
    """What the stored function is, and how the dispatcher knows it. Both are replaced at once."""

    pair: tuple[Callable[..., Any] | None, Function] | None
