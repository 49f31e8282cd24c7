"""The dispatcher on simulated workers, without Ray and without threads.

Time is simulated, except for what the dispatcher itself takes: that is measured. A message to a worker and its answer
cost what they cost by the channel (`CHANNEL`). So a simulated minute of ten thousand workers is what the driver of this
machine could do with them.
"""

from __future__ import annotations

import random
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any

from thread_chunks._calls.blocks import Block
from thread_chunks._calls.calls import Limits
from thread_chunks._calls.functions import Function, Parcel
from thread_chunks._calls.mailbox import Mailbox
from thread_chunks._calls.series import Series
from thread_chunks._dispatch.dispatcher import Dispatcher
from thread_chunks._dispatch.inbox import Inbox
from thread_chunks._dispatch.messages import Lost, Message, StartAll, Started
from thread_chunks.errors import WorkerLost

from .simulated_worker import Run, SimulatedWorker

# CPU time of the driver for a block (s), on top of the dispatcher's: to pickle and send it, and to take in its answer.
# One `submit` after another takes 0.12 to 0.25 ms in all threads of the driver, of which the dispatcher's turn and the
# caller's thread have more than half.
CHANNEL = 0.0001

# What it takes the driver to ask Ray for an actor (s), as measured with Ray 2.60.
START = 0.003


@dataclass
class Table:
    """A simulated run: how many workers, how long each of the calls takes, and what else happens."""

    workers: int
    durations: Sequence[float]  # of the calls (s), in turn
    calls: int
    latency: tuple[float, float] = (0.0002, 0.001)  # of a message, either way (s)
    start: tuple[float, float] = (1.0, 3.0)  # how long a worker takes to come up (s)
    up: bool = True  # whether the workers are up when the calls come
    deaths: float = 0.0  # of workers, per worker and second


@dataclass
class Result:
    """What came of it."""

    utilisation: float  # of the workers: the share of the time that they spend with calls
    seconds: float  # how long all took
    busy: float  # the share of the time in which the driver had something to do
    blocks: int
    per_block: float  # CPU time of the dispatcher (s), without the channel's
    first: float  # when the first call was over (s)
    all_up: float  # when the last worker was (s)


class TimedWorker(SimulatedWorker):
    """Runs its blocks by the clock of its cluster, and may die. Messages to it take their time, and so do its own."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        super().__init__(lambda message: cluster.at(cluster.delay(), lambda: cluster.inbox.post(message), True))
        self._cluster = cluster
        self._plans = count()  # what was planned for a block is void when there is a later plan
        self._plan = 0
        self._arrived = 0.0  # when the last message to it does
        self._began = 0.0  # when the block that runs did
        self._over: list[float] = []  # when each of its calls is
        self.dead = False

    def run(self, block: Block) -> bool:
        """Take a block, when the message arrives."""
        with self._cluster.aside(CHANNEL):
            self._cluster.blocks += 1
            labels = range(block.first, block.first + len(block.calls))
            self._arrive(lambda: self.receive(block, labels))
        return True

    def surrender(self, block: Block) -> None:
        """Give back what is not begun, when the message arrives."""
        with self._cluster.aside(CHANNEL):
            self._arrive(lambda: self._surrender(block))

    def replace_function(self, function: Function) -> None:
        """Keep nothing."""

    def dismiss(self) -> None:
        """End."""
        self.dead = True

    def kill(self) -> None:
        """End at once."""
        self.dead = True

    def die(self) -> None:
        """Be lost; the executor learns of it."""
        if not self.dead:
            self.dead = True
            self._post(Lost(self, WorkerLost("it died")))

    def begin(self) -> None:
        """Begin the first block: from now on it is known when each of its calls will be over."""
        run = self.runs[0]
        self._began = over = self._cluster.now
        self._over = []
        for label in run.calls[: run.stop]:
            over += self._cluster.duration(label)
            self._over.append(over)
        self._end_at(over)

    def compute(self, calls: Sequence[int]) -> list[None]:
        """Return nothing, but count what the calls took."""
        self._cluster.worked += sum(map(self._cluster.duration, calls))
        return [None] * len(calls)

    def seconds(self, run: Run) -> float:
        """Return how long the calls of a block that were run took together (s)."""
        return self._over[run.done - 1] - self._began if run.done else 0.0

    def _arrive(self, action: Callable[[], None]) -> None:
        """Do something when a message arrives, which overtakes none that was sent before; the dead do nothing."""
        world = self._cluster
        self._arrived = max(self._arrived + 1e-9, world.now + world.delay())
        world.at(self._arrived - world.now, lambda: None if self.dead else action())

    def _surrender(self, block: Block) -> None:
        now = self._cluster.now
        if self.runs:
            self.run_up_to(min(self.runs[0].stop, sum(over <= now for over in self._over)))
        if self.give_back(block, keep=1) and block is self.runs[0].block:
            self._end_at(self._over[self.runs[0].stop - 1] if self.runs[0].stop else now)

    def _end_at(self, when: float) -> None:
        self._plan = plan = next(self._plans) + 1
        self._cluster.at(when - self._cluster.now, lambda: self._end(plan))

    def _end(self, plan: int) -> None:
        if not self.dead and plan == self._plan:
            self.run_up_to(self.runs[0].stop)
            self.end()


class SimulatedCluster:
    """The simulated world: its clock and the events to come."""

    replaceable = True
    alive = True
    leaving = ()

    def __init__(self, table: Table) -> None:
        self.inbox = Inbox()
        self.workers: list[TimedWorker] = []
        self.worked = self.spent = 0.0
        self.blocks = 0
        self.first = self.all_up = 0.0
        self._table = table
        self._random = random.Random(1)
        self._now = 0.0
        self._turn: float | None = None  # when the dispatcher's turn began, by the real clock
        self._events: list[tuple[float, int, Callable[[], None], bool]] = []
        self._order = count()

    @property
    def now(self) -> float:
        """The simulated time; while the dispatcher has its turn, the real one goes on in it."""
        return self._now if self._turn is None else self._now + time.thread_time() - self._turn

    @contextmanager
    def aside(self, seconds: float) -> Iterator[None]:
        """Do something in the dispatcher's turn that takes so many simulated seconds."""
        began = time.thread_time()
        try:
            yield
        finally:
            self._now += seconds
            if self._turn is not None:
                self._turn += time.thread_time() - began

    def delay(self) -> float:
        """Return how long a message travels (s)."""
        return self._random.uniform(*self._table.latency)

    def duration(self, label: int) -> float:
        """Return how long a call takes (s)."""
        return self._table.durations[label % len(self._table.durations)]

    def at(self, seconds: float, action: Callable[[], None], news: bool = False) -> None:
        """Let something happen so many seconds from now; if it is `news`, the dispatcher is woken."""
        heappush(self._events, (self.now + seconds, next(self._order), action, news))

    @staticmethod
    def why_late(size: int) -> str:
        """Return why workers are not up."""
        return f"{size} are simulated"

    def start_worker(self, post: Callable[[Message], None], index: int) -> TimedWorker:
        """Make a worker, which comes up later."""
        worker = TimedWorker(self)
        self.workers.append(worker)
        with self.aside(START):
            delay = 0.0 if self._table.up else self._random.uniform(*self._table.start)
            self.at(delay, lambda: self._come_up(worker), True)
            if self._table.deaths:
                self.at(self._random.expovariate(self._table.deaths), worker.die)
        return worker

    def _come_up(self, worker: TimedWorker) -> None:
        self.all_up = self.now
        self.inbox.post(Started(worker))

    def reachable(self) -> bool:
        """Say that it is there."""
        return True

    def home_of(self, block: Block) -> str:
        """Have nothing in particular."""
        return ""

    def close(self) -> None:
        """End."""

    def play(self, dispatcher: Dispatcher, until: Callable[[], bool]) -> None:
        """Process the events in their order, and let the dispatcher take its turns."""
        while not until():
            patience = dispatcher.patience()
            due = self._events[0][0] if self._events else float("inf")
            wakes = self._now + (float("inf") if patience is None else patience)
            assert min(due, wakes) < float("inf"), "nothing will ever happen"
            self._now = max(self._now, min(due, wakes))
            woken = wakes <= self._now
            while self._events and self._events[0][0] <= self._now:
                when, _, action, news = heappop(self._events)
                late, self._now = self._now, when  # what happens elsewhere does not wait for the driver
                action()
                self._now = late
                woken = woken or news
            if woken:
                began = self._now
                self._turn = time.thread_time()
                dispatcher.turn([])
                self._now, self._turn = self.now, None
                self.spent += self._now - began


def simulate(table: Table, midway: Callable[[], None] | None = None) -> Result:
    """Simulate a run and return its results. `midway` is called when half of the calls are over."""
    cluster = SimulatedCluster(table)
    dispatcher = Dispatcher(cluster, cluster.inbox, table.workers, clock=lambda: cluster.now)
    outbox: Any = Mailbox()
    series = Series(Function(None, Parcel(b"")), weakref.ref(outbox), None, limits=Limits(retries=100))
    if table.up:
        cluster.at(0.0, lambda: cluster.inbox.post(StartAll()), news=True)
        crew = dispatcher.crew
        cluster.play(dispatcher, lambda: len(crew) >= table.workers and not crew.starting)
    series.calls.extend(() for _ in range(table.calls))
    began, blocks, spent = cluster.now, cluster.blocks, cluster.spent
    cluster.at(0.0, lambda: cluster.inbox.post(series), news=True)
    done, first = 0, 0.0

    def over() -> bool:
        nonlocal done, first, midway
        while len(outbox):
            done += len(outbox.get().outcomes.values)
            first = first or cluster.now - began
        if midway is not None and 2 * done >= table.calls:
            midway()
            midway = None
        return done >= table.calls

    cluster.play(dispatcher, over)
    seconds, blocks, spent = cluster.now - began, cluster.blocks - blocks, cluster.spent - spent
    return Result(
        utilisation=cluster.worked / (table.workers * seconds),
        seconds=seconds,
        busy=spent / seconds,
        blocks=blocks,
        per_block=spent / blocks - CHANNEL,
        first=first,
        all_up=cluster.all_up - began,
    )
