"""Seeds for random numbers: one for each call, on any worker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count

from .calls import Arguments, extended, parts_of

# Digits of a seed. More, and PyTorch and JAX do not take it.
_BITS = 63


@dataclass(slots=True, frozen=True)
class Seeds:
    """The seeds of a series: a digest of what `path` says, and of the call's place."""

    path: tuple[int, ...]

    def of(self, place: int) -> int:
        """Return the seed of the call at a place."""
        digest = blake2b(repr((*self.path, place)).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> (64 - _BITS)

    def sow(self, calls: Iterable[Arguments]) -> Iterator[Arguments]:
        """Yield calls with their seeds."""
        for place, args in enumerate(calls):
            positional, extras = parts_of(args)
            yield extended(positional, extras.keywords, self.of(place))


@dataclass(slots=True, frozen=True)
class SeedBed:
    """The seeds of an executor: each of its series, and each call of `submit`, gets others.

    Any thread may take some.
    """

    seed: int
    _series: count[int] = field(default_factory=count)
    _calls: count[int] = field(default_factory=count)

    def for_series(self) -> Seeds:
        """Return the seeds of the next series; those of the first are what the seed itself gives."""
        number = next(self._series)
        return Seeds((self.seed, number) if number else (self.seed,))

    def for_call(self) -> int:
        """Return the seed of the next call of `submit`."""
        return Seeds((self.seed, -1)).of(next(self._calls))
