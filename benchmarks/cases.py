"""The benchmarks of throughput and memory, one `Case` each."""

from __future__ import annotations

import gc
import heapq
import itertools
import multiprocessing
import os
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from thread_chunks import config

from .harness import OURS, Case, Contender, Goal
from .work import Holder, fast_then_slow, log_normal_durations, noop, spin, there_and_back, wait, warm

if TYPE_CHECKING:
    from thread_chunks import ChunkExecutor

PPE = "ProcessPoolExecutor"
PPE_TUNED = "ProcessPoolExecutor, chunksize=100"
QUIET: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}

config.progress_bar = False


def process_pool(workers: int) -> ProcessPoolExecutor:
    """Return the standard library's executor, without the threads that Ray has here."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver"))


def start_ray() -> None:
    """Start Ray with two CPUs, or connect to the one that stays up, which has its own number."""
    import ray

    ray.init(num_cpus=None if "RAY_ADDRESS" in os.environ else 2, **QUIET)


def chunk_executor(*args: Any, **options: Any) -> ChunkExecutor:
    """Return the package's executor. It is imported here, and Ray by it: contenders that need neither begin sooner."""
    from thread_chunks import ChunkExecutor

    return ChunkExecutor(*args, **options)


@contextmanager
def warmed_up(executor: Executor, workers: int) -> Iterator[Any]:
    """Use an executor whose workers are all up."""
    with executor:
        list(executor.map(warm, range(2 * workers)))
        yield executor


def seconds(run: Callable[[], object]) -> float:
    """Return how long something takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


# Throughput


def map_case(count: int, goals: list[Goal], *, untuned: bool) -> Case:
    """Return the case of so many no-ops through `map`."""
    case = Case(f"map-{count}", f"map of {count:,} no-ops, 2 workers", "s", goals)

    def size(quick: bool) -> int:
        return count // 20 if quick else count

    def with_executor(make: Callable[[int], Executor], **options: Any) -> Contender:
        def run(quick: bool) -> float:
            with warmed_up(make(2), 2) as executor:
                return seconds(lambda: list(executor.map(noop, range(size(quick)), **options)))

        return run

    case.contenders[OURS] = with_executor(chunk_executor)
    if untuned:
        case.contenders[PPE] = with_executor(process_pool)
        case.no_peers = frozenset([PPE])
    case.contenders[PPE_TUNED] = with_executor(process_pool, chunksize=100)

    @case.contender("ray Pool.map")
    def ray_pool(quick: bool) -> float:
        from ray.util.multiprocessing import Pool

        start_ray()
        with Pool(2) as pool:
            pool.map(warm, range(4))
            return seconds(lambda: pool.map(noop, range(size(quick))))

    @case.contender("joblib", needs="joblib")
    def joblib_parallel(quick: bool) -> float:
        from joblib import Parallel, delayed

        with Parallel(2) as parallel:
            parallel(delayed(warm)(x) for x in range(4))
            return seconds(lambda: parallel(delayed(noop)(x) for x in range(size(quick))))

    @case.contender("mpire", needs="mpire")
    def mpire_pool(quick: bool) -> float:
        from mpire import WorkerPool

        with WorkerPool(2, keep_alive=True) as pool:
            pool.map(noop, range(4))
            return seconds(lambda: pool.map(noop, range(size(quick))))

    return case


MAP_20K = map_case(20_000, [Goal(40, PPE), Goal(0.8)], untuned=True)
MAP_200K = map_case(200_000, [Goal(1.5)], untuned=False)

CHUNK = Case(
    "chunk",
    "no-ops through a Chunker, 2 at once, per call",
    "us",
    [Goal(0.7, "thread_chunks, map"), Goal(300, "thread-chunks 1.0.5")],
)


@CHUNK.contender()
def chunker_of_noops(quick: bool) -> float:
    """Measure `Chunker`, which `chunk` uses."""
    from thread_chunks import Chunker

    count = 20_000 if quick else 200_000
    parameters = [[x] for x in range(count)]
    with Chunker(noop, chunk_size=2) as chunker:
        chunker([[x] for x in range(4)], warm)
        return seconds(lambda: chunker(parameters, noop)) / count * 1e6


@CHUNK.contender("thread_chunks, map")
def map_of_noops(quick: bool) -> float:
    """Measure `map`."""
    count = 20_000 if quick else 200_000
    with warmed_up(chunk_executor(2), 2) as executor:
        return seconds(lambda: list(executor.map(noop, range(count)))) / count * 1e6


@CHUNK.contender("thread-chunks 1.0.5", needs="$THREAD_CHUNKS_1")
def chunker_of_version_1(quick: bool) -> float:
    """Measure version 1.0.5 by the Python that ``THREAD_CHUNKS_1`` names, of an environment that has it."""
    program = """if True:
        import sys, time
        from thread_chunks import Chunker
        def noop(x): return x
        chunker = Chunker(noop, chunk_size=2, progress_bar=False)
        chunker([[x] for x in range(4)])
        parameters = [[x] for x in range(int(sys.argv[1]))]
        start = time.perf_counter()
        chunker(parameters)
        print((time.perf_counter() - start) / len(parameters) * 1e6)
    """
    command = [os.environ["THREAD_CHUNKS_1"], "-c", program, "100" if quick else "2000"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/")
    return float(done.stdout.split()[-1])


# Start


class Bare:
    """An actor as Ray's documentation shows it."""

    def call(self, x: Any) -> Any:
        """Return the argument."""
        return x

    def spin_often(self, count: int) -> None:
        """Spend 10 ms so often."""
        spin_often(count)


def bare_actor(**options: Any) -> Any:
    """Return the handle of an actor that reserves nothing, as the package's do."""
    import ray

    return ray.remote(num_cpus=0, **options)(Bare).remote()


START = Case("start", "construction, first result, shutdown", "s", [Goal(1 / 1.1, "bare ray")])


@START.contender()
def first_result(quick: bool) -> float:
    """Measure the executor."""
    from thread_chunks import ChunkExecutor  # not timed

    def run() -> None:
        with ChunkExecutor(1) as executor:
            executor.submit(noop, 1).result()

    return seconds(run)


@START.contender("bare ray")
def first_result_of_ray(quick: bool) -> float:
    """Measure Ray alone, with the same options."""
    import ray

    def run() -> None:
        ray.init(address="local", **config.ray_config)
        ray.get(bare_actor().call.remote(1))
        ray.shutdown()

    return seconds(run)


# Balance

CPU = Case("cpu", "400 calls of 10 ms of CPU time, 2 workers", "s", [Goal(1.0), Goal(0.99, "two bare processes")])
CPU.no_peers = frozenset(["two bare processes", "two bare actors"])


def spin_often(count: int) -> None:
    """Spend 10 ms so often."""
    for _ in range(count):
        spin(0.01)


def map_with(
    make: Callable[[int], Executor], workers: int, fn: Any, items: Callable[[bool], Any], **options: Any
) -> Any:
    """Return a contender that maps a function."""

    def run(quick: bool) -> float:
        with warmed_up(make(workers), workers) as executor:
            return seconds(lambda: list(executor.map(fn, items(quick), **options)))

    return run


def joblib_with(workers: int, fn: Any, items: Callable[[bool], Any]) -> Contender:
    """Return joblib as a contender."""

    def run(quick: bool) -> float:
        from joblib import Parallel, delayed

        with Parallel(workers) as parallel:
            parallel(delayed(warm)(x) for x in range(2 * workers))
            return seconds(lambda: parallel(delayed(fn)(item) for item in items(quick)))

    return run


def ten_ms(quick: bool) -> list[float]:
    """Return the arguments of `CPU`."""
    return [0.01] * (40 if quick else 400)


CPU.contenders[OURS] = map_with(chunk_executor, 2, spin, ten_ms)
CPU.contenders[PPE] = map_with(process_pool, 2, spin, ten_ms)
CPU.contender("joblib", needs="joblib")(joblib_with(2, spin, ten_ms))


@CPU.contender("two bare processes")
def bare_processes(quick: bool) -> float:
    """Measure two processes that share the work in advance."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=spin_often, args=(len(ten_ms(quick)) // 2,)) for _ in range(2)]

    def run() -> None:
        for process in processes:
            process.start()
        for process in processes:
            process.join()

    return seconds(run)


@CPU.contender("two bare actors")
def bare_actors(quick: bool) -> float:
    """Measure two actors that share the work in advance, in one call of Ray's each: the limit of all that is on Ray."""
    import ray

    ray.init(**config.ray_config)
    half = len(ten_ms(quick)) // 2
    actors = [bare_actor(), bare_actor()]
    ray.get([actor.spin_often.remote(1) for actor in actors])
    return seconds(lambda: ray.get([actor.spin_often.remote(half) for actor in actors]))


BALANCE = Case(
    "balance", "400 sleeps of log-normal length, 4 workers", "s", [Goal(1.0), Goal(0.99, "ideal list scheduling")]
)
BALANCE.no_peers = frozenset(["ideal list scheduling", "four threads"])


def durations(quick: bool) -> list[float]:
    """Return the arguments of `BALANCE`."""
    return log_normal_durations(40 if quick else 400)


BALANCE.contenders[OURS] = map_with(chunk_executor, 4, time.sleep, durations)
BALANCE.contenders[PPE] = map_with(process_pool, 4, time.sleep, durations)
BALANCE.contenders["ProcessPoolExecutor, chunksize=10"] = map_with(process_pool, 4, time.sleep, durations, chunksize=10)
BALANCE.contender("joblib", needs="joblib")(joblib_with(4, time.sleep, durations))


@BALANCE.contender("four threads")
def threads(quick: bool) -> float:
    """Measure what a sleep takes beyond its length: threads that take the next one from a list, and do nothing else."""
    with ThreadPoolExecutor(4) as pool:
        return seconds(lambda: list(pool.map(time.sleep, durations(quick))))


@BALANCE.contender("ideal list scheduling")
def list_scheduling(quick: bool) -> float:
    """Compute the end if each worker took the next call without delay."""
    ends = [0.0] * 4
    for duration in durations(quick):
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)


REGIME = Case(
    "regime", "2,000 no-ops, then 8 calls of 0.5 s, one map, 4 workers", "s", [Goal(1.0), Goal(1 / 1.04, "ideal")]
)
REGIME.no_peers = frozenset(["ideal"])


def regime(quick: bool) -> range:
    """Return the arguments of `REGIME`."""
    return range(2004 if quick else 2008)


REGIME.contenders[OURS] = map_with(chunk_executor, 4, fast_then_slow, regime)
REGIME.contenders[PPE] = map_with(process_pool, 4, fast_then_slow, regime)
REGIME.contenders[PPE_TUNED] = map_with(process_pool, 4, fast_then_slow, regime, chunksize=100)
REGIME.contender("joblib", needs="joblib")(joblib_with(4, fast_then_slow, regime))
REGIME.contenders["ideal"] = lambda quick: 0.5 if quick else 1.0


# Memory and arrays

ARRAYS = Case(
    "arrays",
    "an array of 32 MB there and back, 8 times",
    "s",
    [Goal(1.5, PPE), Goal(5, PPE, "thread_chunks, zero_copy")],
)


def arrays_with(make: Callable[[int], Executor], megabytes: int = 32) -> Contender:
    """Return a contender that moves an array."""

    def run(quick: bool) -> float:
        array = np.random.default_rng(1).random((1 if quick else megabytes) * 10**6 // 8)
        with warmed_up(make(1), 1) as executor:

            def go() -> None:
                for _ in range(8):  # none is kept: the first touch of fresh memory would be most of the time
                    executor.submit(there_and_back, array).result()

            go()
            return seconds(go)

    return run


ARRAYS.contenders[OURS] = arrays_with(chunk_executor)
ARRAYS.contenders["thread_chunks, zero_copy"] = arrays_with(lambda n: chunk_executor(n, zero_copy=True))
ARRAYS.contenders[PPE] = arrays_with(process_pool)
ARRAYS.no_peers = frozenset(["a bare actor"])


@ARRAYS.contender("a bare actor")
def arrays_by_ray(quick: bool) -> float:
    """Measure Ray alone, which is the limit of what `zero_copy` can reach."""
    import ray

    array = np.random.default_rng(1).random((1 if quick else 32) * 10**6 // 8)
    ray.init(**config.ray_config)
    actor = bare_actor()

    def go() -> None:
        for _ in range(8):
            ray.get(actor.call.remote(array))

    go()
    return seconds(go)


ARRAYS_64 = Case("arrays-64", "an array of 64 MB there and back, 8 times", "s")
ARRAYS_64.contenders[OURS] = arrays_with(chunk_executor, 64)
ARRAYS_64.contenders["thread_chunks, zero_copy"] = arrays_with(lambda n: chunk_executor(n, zero_copy=True), 64)
ARRAYS_64.contenders[PPE] = arrays_with(process_pool, 64)

STORED = Case("stored", "a stored function of 256 MB, 4 workers, 64 results", "s", [Goal(1 / 1.2, "put and 4 actors")])


def megabytes(quick: bool) -> int:
    """Return the bytes of the stored function."""
    return (8 if quick else 256) * 2**20


@STORED.contender()
def stored_function(quick: bool) -> float:
    """Measure the executor; Ray is up."""
    import ray

    from thread_chunks import ChunkExecutor

    ray.init(**config.ray_config)
    holder = Holder(megabytes(quick))

    def run() -> None:
        with ChunkExecutor(holder, 4) as executor:
            list(executor.map(range(64)))

    return seconds(run)


class BareHolder:
    """An actor with a function."""

    def __init__(self, holder: Holder) -> None:
        self.holder = holder

    def call(self, x: int) -> float:
        """Call the function."""
        return self.holder(x)


@STORED.contender("put and 4 actors")
def put_and_actors(quick: bool) -> float:
    """Measure Ray alone."""
    import ray

    ray.init(**config.ray_config)
    bare_holder: Any = ray.remote(num_cpus=0)(BareHolder)
    holder = Holder(megabytes(quick))

    def run() -> None:
        reference = ray.put(holder)
        actors = [bare_holder.remote(reference) for _ in range(4)]
        ray.get([actor.call.remote(x) for x, actor in zip(range(64), itertools.cycle(actors))])

    return seconds(run)


STORED_MEMORY = Case(
    "stored-memory", "growth of all processes by it, in units of the function", "x", [Goal(1 / 1.3, "one copy")]
)


@STORED_MEMORY.contender()
def stored_memory(quick: bool) -> float:
    """Measure the proportional set size of this process and all below it."""

    def used() -> int:
        me = psutil.Process()
        return sum(process.memory_full_info().pss for process in [me, *me.children(recursive=True)])

    with warmed_up(chunk_executor(4), 4):
        holder = Holder(megabytes(quick))
        before = used()
        with warmed_up(chunk_executor(4), 4):  # what four more workers need by themselves
            workers = used() - before
        with chunk_executor(holder, 4) as executor:
            list(executor.map(warm, range(8)))
            list(executor.map(range(64)))
            return (used() - before - workers) / megabytes(quick)


STORED_MEMORY.contenders["one copy"] = lambda quick: 1.0

BUFFER = Case("buffer", "growth of the driver by map(buffersize=1000) over 10^6 calls", "MB", [Goal(1.0, "50 MB")])


@BUFFER.contender()
def buffered_map(quick: bool) -> float:
    """Measure the resident size, before and after."""
    count = 10_000 if quick else 1_000_000
    with warmed_up(chunk_executor(2), 2) as executor:
        for _ in executor.map(noop, iter(range(5_000)), buffersize=1000):
            pass
        before = psutil.Process().memory_info().rss
        for _ in executor.map(noop, (x for x in range(count)), buffersize=1000):
            pass
        return float(max(0.1, (psutil.Process().memory_info().rss - before) / 1e6))


BUFFER.contenders["50 MB"] = lambda quick: 50.0

PENDING = Case("pending", "a call of a series that waits, beyond its arguments", "bytes", [Goal(1.0, "100 bytes")])


@PENDING.contender()
def pending_calls(quick: bool) -> float:
    """Measure what Python allocates for calls that cannot start yet."""
    numbers = list(range(10_000 if quick else 200_000))
    with warmed_up(chunk_executor(1), 1) as executor:
        blocker = executor.submit(time.sleep, 0.5 if quick else 2)
        gc.collect()
        tracemalloc.start()
        values = executor.map(noop, numbers)
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        blocker.result()
        del values
        executor.shutdown(cancel_futures=True)
        return used / len(numbers)


PENDING.contenders["100 bytes"] = lambda quick: 100.0

# The dispatcher

IDLE = Case("idle", "wake-ups of the dispatcher in 3 s in which nothing happens", "times")


@IDLE.contender()
def wake_ups(quick: bool) -> float:
    """Count the context switches of the dispatcher's thread."""
    with warmed_up(chunk_executor(2), 2) as executor:
        list(executor.map(noop, range(10_000)))
        time.sleep(0.5)
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "thread_chunks-dispatcher"]

        def switches() -> int:
            with open(f"/proc/self/task/{thread.native_id}/status") as status:
                return sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)

        before = switches()
        time.sleep(0.3 if quick else 3)
        return float(switches() - before)


# For the pictures

DURATIONS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def rate_case(duration: float) -> Case:
    """Return the case of calls of so many seconds."""
    case = Case(f"rate-{duration:g}", f"calls of {duration:g} s, 2 workers, for each call", "s")

    def items(quick: bool) -> list[float]:
        return [duration] * max(4, min(200 if quick else 50_000, int((0.2 if quick else 2.0) / duration)))

    def each(contender: Contender) -> Contender:
        return lambda quick: contender(quick) / len(items(quick))

    case.contenders[OURS] = each(map_with(chunk_executor, 2, wait, items))
    case.contenders[PPE] = each(map_with(process_pool, 2, wait, items))
    case.contenders[PPE_TUNED] = each(map_with(process_pool, 2, wait, items, chunksize=100))
    case.contender("joblib", needs="joblib")(each(joblib_with(2, wait, items)))
    return case


RATES = {case.name: case for case in map(rate_case, DURATIONS)}

CASES = {
    case.name: case
    for case in (
        MAP_20K,
        MAP_200K,
        CHUNK,
        START,
        CPU,
        BALANCE,
        REGIME,
        ARRAYS,
        ARRAYS_64,
        STORED,
        STORED_MEMORY,
        BUFFER,
        PENDING,
        IDLE,
    )
}
