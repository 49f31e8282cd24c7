"""What `map` and `starmap` take by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypedDict

# The arguments of one call, as users give them, and as they get them back.
Row = Iterable[Any]


@dataclass(slots=True, frozen=True)
class SeriesOptions:
    """What `map` and `starmap` take by name, validated."""

    timeout: float | None = None
    chunksize: int | None = None
    buffersize: int | None = None
    unordered: bool = False
    progress_bar: bool = False
    path: str | os.PathLike[str] | None = None
    key: Callable[..., str] | None = None
    results: str = "values"
    return_exceptions: bool = False
    with_arguments: bool = False
    seed: int | None = None

    @property
    def keeps(self) -> bool:
        """Whether values stay in the cluster."""
        return self.results == "refs"


class SeriesKeywords(TypedDict, total=False):
    """The same for type checkers, without those by which the overloads differ."""

    timeout: float | None
    chunksize: int | None
    buffersize: int | None
    unordered: bool
    progress_bar: bool
    path: str | os.PathLike[str] | None
    key: Callable[..., str] | None
    seed: int | None
