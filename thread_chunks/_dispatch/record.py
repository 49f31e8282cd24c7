"""What is kept of the calls that came to an end: counts for each function, and what each worker did when."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from operator import attrgetter

from .._calls.blocks import Block
from .._calls.calls import Outcomes
from .._pictures.timeline import Histogram, Mark, Span, Timeline
from ..report import Report
from .crew import Member
from .tally import Tally

# At most so many spans are kept, 300 bytes each. When there are more, those next to each other become one. More, and
# that takes the dispatcher longer than the 20 ms that it takes now.
_MOST = 16_384

# At most so many moments at which calls failed with their worker.
_MOST_FAILURES = 4096

SEVERAL = "several functions"


class Record:
    """What came of the calls. It belongs to the dispatcher's thread.

    Parameters
    ----------
    clock : callable
        The dispatcher's.

    Attributes
    ----------
    tallies : dict of Tally
        By the names of functions.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self._clock = clock
        self._origin = clock()
        self._began = time.time()
        self._spans: list[Span] = []
        self._failures: list[tuple[float, int]] = []
        self._ends: dict[int, float] = {}  # until when the last span of each worker lasts
        self._resolution = 0.001

    def settled(self, member: Member, block: Block, outcomes: Outcomes) -> None:
        """Take in outcomes of a block that a worker has run."""
        count, failures = len(outcomes.values), len(outcomes.errors)
        self.tallies[block.function.name].add(count, failures, outcomes.short, outcomes.long.values())
        memory = max((memory for _, memory in outcomes.long.values()), default=0)
        mark = Mark.RETRIED if block.runs else Mark.NONE
        now = self._now()
        self._add(member.index, block.function.name, now - outcomes.seconds, now, count, failures, memory, mark)

    def failed(self, block: Block, count: int) -> None:
        """Take in calls that failed without having come to their end."""
        self.tallies[block.function.name].add(count, count, 0.0, ())
        if len(self._failures) >= _MOST_FAILURES:  # then two neighbours are one
            pairs = zip(self._failures[::2], self._failures[1::2], strict=False)
            self._failures = [(when, one + other) for (when, one), (_, other) in pairs]
        self._failures.append((self._now(), count))

    def retried(self, block: Block, count: int) -> None:
        """Take in calls that are to be run again."""
        self.tallies[block.function.name].retries += count

    def came_up(self, member: Member) -> None:
        """Note that a worker is up."""
        self._add(member.index, "", member.called - self._origin, self._now(), 0, 0, 0, Mark.STARTING)

    def ended(self, member: Member, mark: Mark) -> None:
        """Note that a worker is gone, before it is stripped of what it had, and how long its call ran."""
        name, began = "", self._now()
        if member.assignments:
            first = member.assignments[0]
            name, began = first.block.function.name, first.began - self._origin
            if first.block.open_calls == 1:  # else it is not known which of them ran
                self.tallies[name].seconds.add(self._now() - began)
        self._add(member.index, name, began, self._now(), 0, 0, 0, mark)

    def report(self, crew: Iterable[Member]) -> Report:
        """Return what is known, with what the crew runs."""
        now = self._now()
        spans = list(self._spans)
        for member in crew:
            if member.assignments:
                name, began = member.assignments[0].block.function.name, member.assignments[0].began - self._origin
                began = min(now, max(began, self._ends.get(member.index, 0.0)))
                spans.append(Span(member.index, name, began, now, 0, 0, mark=Mark.RUNNING))
        tallies = sorted(self.tallies.items())
        histograms = (Histogram(name, tally.seconds.steps(), tally.memory.steps()) for name, tally in tallies)
        timeline = Timeline(self._began, now, tuple(spans), tuple(self._failures), tuple(histograms))
        return Report(tuple(tally.report(name) for name, tally in tallies), timeline)

    def _now(self) -> float:
        return self._clock() - self._origin

    def _add(
        self, row: int, name: str, begin: float, end: float, calls: int, failures: int, memory: int, mark: Mark
    ) -> None:
        # What was given back has begun with what came before; and a worker's clock is not the driver's.
        begin = min(end, max(begin, self._ends.get(row, 0.0)))
        self._ends[row] = end
        self._spans.append(Span(row, name, begin, end, calls, failures, memory, mark))
        if len(self._spans) > _MOST:
            self._shorten()

    def _shorten(self) -> None:
        """Put spans together that follow each other at a worker, until half of them are left."""
        self._resolution = max(self._resolution, self._now() / _MOST)
        self._spans = list(self._put_together())
        while len(self._spans) > _MOST // 2 and self._resolution < 2 * self._now() + 1:
            self._resolution *= 2
            self._spans = list(self._put_together())
        self._spans.sort(key=attrgetter("end"))

    def _put_together(self) -> Iterable[Span]:
        last: Span | None = None
        for span in sorted(self._spans, key=attrgetter("worker", "begin")):
            if last is not None and self._belong_together(last, span):
                last = _joined(last, span)
            else:
                if last is not None:
                    yield last
                last = span
        if last is not None:
            yield last

    def _belong_together(self, first: Span, second: Span) -> bool:
        # What is marked stays as it is; but there may be too much of it, as when all calls are retried.
        is_alike = first.mark is second.mark or self._resolution > self._now() / 64
        return first.worker == second.worker and is_alike and second.end - first.begin <= self._resolution


def _joined(first: Span, second: Span) -> Span:
    return replace(
        first,
        function=first.function if first.function == second.function else SEVERAL,
        end=second.end,
        calls=first.calls + second.calls,
        failures=first.failures + second.failures,
        memory=max(first.memory, second.memory),
        mark=second.mark if first.mark is Mark.NONE else first.mark,
    )
