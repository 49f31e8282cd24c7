"""What the dispatcher counts of each function's calls."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..report import FunctionReport, Spread

# Steps of the histograms from which medians are taken, per doubling. Two neighbours differ by 4 %.
_STEPS = 16


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

    def steps(self) -> tuple[tuple[float, int], ...]:
        """Return each value, to within 3 %, and how often it was counted."""
        return tuple((2.0 ** (step / _STEPS), count) for step, count in sorted(self._counts.items()))


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
