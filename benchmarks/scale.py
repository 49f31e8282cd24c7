"""Many workers: simulated, and as many as a machine has room for. One `Case` each."""

from __future__ import annotations

import time
import tracemalloc
from functools import partial

from .cases import chunk_executor
from .harness import OURS, Case, Contender, Goal
from .simulation import Table, simulate
from .work import noop, process_after

IDEAL = "ideal"

# The workers, the duration of the calls (s), how many calls for each worker, and what is to be reached.
SIZES = {
    "scale-1s": (1000, 1.0, 20, 0.95),
    "scale-10s": (10_000, 10.0, 10, 0.90),
    "scale-10ms": (1000, 0.01, 2000, 0.97),
}


def scale_case(name: str, workers: int, duration: float, each: int, goal: float) -> Case:
    """Return the case of so many simulated workers, with `each` calls of `duration` (s) for each of them."""
    title = f"{workers:,} simulated workers, {each * workers:,} calls of {duration:g} s"
    case = Case(name, title, "s", [Goal(goal, IDEAL)])

    def table(quick: bool) -> Table:
        fewer = 100 if quick else 1
        return Table(max(10, workers // fewer), [duration], max(10, workers // fewer) * each)

    case.contenders[OURS] = lambda quick: simulate(table(quick)).seconds
    case.contenders[IDEAL] = lambda quick: duration * each
    return case


SCALE = {name: scale_case(name, *size) for name, size in SIZES.items()}

STARTING = Case("scale-start", "1,000 simulated workers start: until the first call of 1 s is over", "s")
STARTING.contenders[OURS] = lambda quick: simulate(_starting(quick)).first
STARTING.contenders["until the last worker is up"] = lambda quick: simulate(_starting(quick)).all_up


def _starting(quick: bool) -> Table:
    workers = 100 if quick else 1000
    return Table(workers, [1.0], 20 * workers, up=False)


DISPATCHER = Case(
    "dispatcher",
    "the dispatcher alone, on simulated workers: time for one block",
    "us",
    [Goal(1 / 1.5, "10 workers", "10,000 workers")],
)
MEMORY = Case("dispatcher-memory", "the dispatcher alone, on simulated workers: memory for one worker", "bytes")


def time_with(workers: int) -> Contender:
    """Return the dispatcher with so many workers as a contender."""
    # Calls so long that each is a block.
    return lambda quick: 1e6 * simulate(Table(workers, [10.5], 2_000 if quick else 100_000)).per_block


def memory_with(workers: int) -> Contender:
    """Return the memory that the package has for each of so many workers while they run calls."""

    def measure(quick: bool) -> float:
        tracemalloc.start()
        peak = 0

        def look() -> None:
            nonlocal peak
            traces = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/thread_chunks/*")])
            peak = sum(trace.size for trace in traces.statistics("filename"))

        started = workers // 100 if quick else workers
        simulate(Table(started, [1.0], 2 * started), midway=look)
        return peak / started

    return measure


for count in (10, 100, 1000, 10_000):
    DISPATCHER.contenders[f"{count:,} workers"] = time_with(count)
    if count >= 100:
        MEMORY.contenders[f"{count:,} workers"] = memory_with(count)


def actors_case(workers: int) -> Case:
    """Return the case of so many Ray actors on this machine, each of which sleeps for 5 s, 50 ms at a time.

    An idle actor takes some 6 ms of CPU time a second, as Ray's main loop wakes up every 10 ms to look for signals: 200
    take most of two CPUs before they do anything. What is left allows for no more than what one block for each worker
    reaches, for which nothing has to be found out, given out, or taken back.
    """
    case = Case(f"actors-{workers}", f"{workers} Ray actors, {100 * workers:,} calls that sleep for 50 ms", "s")
    case.goals = [Goal(0.88, IDEAL)]

    def run(quick: bool, in_one_block: bool) -> float:
        size, each = (3, 20) if quick else (workers, 100)
        with chunk_executor(noop, size) as executor:
            up: set[int] = set()
            while len(up) < executor.size:
                up.update(executor.map(process_after, [0.3] * size, chunksize=1))
            start = time.perf_counter()
            for _ in executor.map(time.sleep, [0.05] * (size * each), chunksize=each if in_one_block else None):
                pass
            return time.perf_counter() - start

    case.contenders[OURS] = partial(run, in_one_block=False)
    case.contenders["one block for each worker"] = partial(run, in_one_block=True)
    case.contenders[IDEAL] = lambda quick: 1.0 if quick else 5.0
    return case


SCALES = {case.name: case for case in (*SCALE.values(), STARTING, DISPATCHER, MEMORY, *map(actors_case, (60, 200)))}
