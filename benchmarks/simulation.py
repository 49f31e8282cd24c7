"""The dispatcher on simulated workers, without Ray and without threads.

Time is simulated, but for what the dispatcher itself takes: that is measured, and a message to a worker and its answer
cost what they cost with Ray (`RAY`). So a simulated minute of ten thousand workers is what this machine's driver
could do with them.
"""

from __future__ import annotations

import random
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any

from thread_chunks._calls.blocks import Block
from thread_chunks._calls.calls import Limits, Outcomes
from thread_chunks._calls.functions import Function, Parcel
from thread_chunks._calls.mailbox import Mailbox
from thread_chunks._calls.series import Series
from thread_chunks._dispatch.dispatcher import Dispatcher
from thread_chunks._dispatch.inbox import Inbox
from thread_chunks._dispatch.messages import Finished, Lost, Message, StartAll, Started, Surrendered
from thread_chunks.errors import WorkerLost

# CPU time of the driver for a block (s), on top of the dispatcher's: to send it by Ray, and to take in its answer. With
# Ray 2.60 `driver_time` measures 0.6 ms a block in all threads of the driver.
RAY = 0.0006

# What it takes the driver to ask Ray for an actor (s), as measured with Ray 2.60.
START = 0.003


@dataclass
class Table:
    """A simulated run: how many workers, how long each of the calls takes, and what else happens."""

    workers: int
    durations: Sequence[float]  # of the calls (s), in turn
    calls: int
    latency: tuple[float, float] = (0.001, 0.005)  # of a message, either way (s)
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
    per_block: float  # CPU time of the dispatcher (s), without Ray's
    first: float  # when the first call was over (s)
    all_up: float  # when the last worker was (s)


@dataclass(eq=False)
class Run:
    """A block at a worker."""

    block: Block
    sent: float
    began: float = -1.0
    handed: int = 0  # outcomes that were handed over
    end: int = 0  # the first call that is given back, and not run
    left: int = 0  # how many were given back
    times: list[float] = field(default_factory=list)  # when each call is over


class SimulatedWorker:
    """Runs its blocks one after the other, gives back what it has not begun, and may die."""

    handle: Any = None
    host, pid, node, place = "simulated", 0, "", "simulated"

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._runs: deque[Run] = deque()
        self._plans = count()  # what was planned for a block is void when there is a later plan
        self._plan = 0
        self._arrived = 0.0  # when the last message to it does
        self.dead = False

    def run(self, block: Block) -> bool:
        """Take a block, when the message arrives."""
        world = self._cluster
        with world.aside(RAY):
            world.blocks += 1
            run = Run(block, world.now, end=len(block.calls))
            self._receive(lambda: self._arrive(run))
        return True

    def surrender(self, block: Block) -> None:
        """Give back what is not begun, when the message arrives."""
        with self._cluster.aside(RAY):
            self._receive(lambda: self._surrender(block))

    def look(self, block: Block, with_stack: bool) -> None:
        """Have nothing to say."""

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

    def _receive(self, action: Callable[[], None]) -> None:
        """Do something when a message arrives, which overtakes none that was sent before."""
        world = self._cluster
        self._arrived = max(self._arrived + 1e-9, world.now + world.delay())
        world.at(self._arrived - world.now, action)

    def _arrive(self, run: Run) -> None:
        if not self.dead:
            self._runs.append(run)
            if len(self._runs) == 1:
                self._begin()

    def _begin(self) -> None:
        run = self._runs[0]
        run.began = over = self._cluster.now
        run.times = []
        for index in range(run.end):
            over += self._cluster.duration(run.block, index)
            run.times.append(over)
        self._finish_at(over)

    def _finish_at(self, when: float) -> None:
        self._plan = plan = next(self._plans) + 1
        self._cluster.at(when - self._cluster.now, lambda: self._finish(plan))

    def _finish(self, plan: int) -> None:
        if self.dead or plan != self._plan:
            return
        run = self._runs.popleft()
        self._post(Finished(self, run.block, self._outcomes(run, run.end)))
        if self._runs:
            self._begin()

    def _surrender(self, block: Block) -> None:
        run = next((run for run in self._runs if run.block is block), None)
        if self.dead or run is None:
            return
        now, total = self._cluster.now, len(block.calls)
        if run.began < 0:
            run.end, done = 0, 0
        else:
            done = sum(over <= now for over in run.times)
            run.end = min(run.end, done + 1)
        left, run.left = total - run.end - run.left, total - run.end
        outcomes = self._outcomes(run, done)
        if run.began >= 0:
            self._finish_at(run.times[run.end - 1] if run.end else now)
        self._post(Surrendered(self, block, outcomes, left))

    def _outcomes(self, run: Run, stop: int) -> Callable[[], Outcomes]:
        start, run.handed = run.handed, stop
        seconds = run.times[stop - 1] - run.began if stop else 0.0
        self._cluster.worked += sum(self._cluster.duration(run.block, index) for index in range(start, stop))
        outcomes = Outcomes([None] * (stop - start), offset=start, seconds=seconds)
        return lambda: outcomes

    def _post(self, message: Message) -> None:
        self._cluster.at(self._cluster.delay(), lambda: self._cluster.inbox.post(message), True)


class SimulatedCluster:
    """The world: its clock, and what is going to happen in it."""

    replaceable = True
    interruptible = True
    alive = True
    leaving = ()
    needs = "nothing"

    def __init__(self, table: Table) -> None:
        self.inbox = Inbox()
        self.workers: list[SimulatedWorker] = []
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
        return self._now if self._turn is None else self._now + time.perf_counter() - self._turn

    @contextmanager
    def aside(self, seconds: float) -> Iterator[None]:
        """Do something within the dispatcher's turn that takes so many seconds there, whatever it takes here."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._now += seconds
            if self._turn is not None:
                self._turn += time.perf_counter() - began

    def delay(self) -> float:
        """Return how long a message travels (s)."""
        return self._random.uniform(*self._table.latency)

    def duration(self, block: Block, index: int) -> float:
        """Return how long a call takes (s)."""
        return self._table.durations[(block.first + index) % len(self._table.durations)]

    def at(self, seconds: float, action: Callable[[], None], news: bool = False) -> None:
        """Let something happen so many seconds from now; if it is `news`, the dispatcher is woken."""
        heappush(self._events, (self.now + seconds, next(self._order), action, news))

    def start_worker(self, post: Callable[[Message], None]) -> SimulatedWorker:
        """Make a worker, which comes up later."""
        worker = SimulatedWorker(self)
        self.workers.append(worker)
        with self.aside(START):
            delay = 0.0 if self._table.up else self._random.uniform(*self._table.start)
            self.at(delay, lambda: self._come_up(worker), True)
            if self._table.deaths:
                self.at(self._random.expovariate(self._table.deaths), worker.die)
        return worker

    def _come_up(self, worker: SimulatedWorker) -> None:
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
        """Let happen what happens, and the dispatcher take its turns."""
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
                self._turn = time.perf_counter()
                dispatcher.turn([])
                self._now, self._turn = self.now, None
                self.spent += self._now - began


def simulate(table: Table, midway: Callable[[], None] | None = None) -> Result:
    """Play a run, and return what came of it; `midway` is called when half of the calls are over."""
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
        per_block=spent / blocks - RAY,
        first=first,
        all_up=cluster.all_up - began,
    )
