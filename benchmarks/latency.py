"""What a message costs: one call after another, short series, calls by `submit`. One `Case` each.

Some cases have the *least program* that could do the job: no more than a thread, a socket and a future. What it reaches
is the limit of what the package can.
"""

from __future__ import annotations

import os
import pickle
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from multiprocessing import Pipe, get_context
from queue import SimpleQueue
from typing import Any

import numpy as np

from thread_chunks import config

from .cases import PPE, bare_actor, chunk_executor, map_with, process_pool, regime, seconds, start_ray, warmed_up
from .harness import OURS, Case, Contender, Goal
from .work import bowl, fast_then_slow, log_gauss, noop, pause, stamped, warm

LEAST = "the least program"


class LeastExecutor:
    """Pickle, send, run and answer calls with one worker, one thread and one connection, as a lower limit."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._futures: dict[int, Future[Any]] = {}
        self._connection, theirs = Pipe()
        self._process = get_context("fork").Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._dispatch, self._read)]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        """Send a call."""
        future: Future[Any] = Future()
        self._inbox.put((fn, args, future))
        return future

    def shutdown(self) -> None:
        """End the process and the threads."""
        self._inbox.put(None)
        for thread in self._threads:
            thread.join()
        self._process.join()

    def _dispatch(self) -> None:
        number = 0
        while (item := self._inbox.get()) is not None:
            if isinstance(item, bytes):
                answered, value = pickle.loads(item)
                self._futures.pop(answered).set_result(value)
            else:
                fn, args, future = item
                number += 1
                self._futures[number] = future
                self._connection.send_bytes(pickle.dumps((number, fn, args)))
        self._connection.send_bytes(b"")

    def _read(self) -> None:
        while answer := self._connection.recv_bytes():
            self._inbox.put(answer)


def _serve(connection: Any) -> None:
    while request := connection.recv_bytes():
        number, fn, args = pickle.loads(request)
        connection.send_bytes(pickle.dumps((number, fn(*args))))
    connection.send_bytes(b"")


# One call after another

ROUND_TRIP = Case(
    "round-trip",
    "one submit(...).result() after another",
    "ms",
    [Goal(4, "a bare actor"), Goal(1 / 0.7, PPE)],
)
DRIVER_CPU = Case("driver-cpu", "CPU time of the driver for one submit(...).result()", "ms", [Goal(1, "0.25 ms")])
DRIVER_CPU.no_peers = frozenset(["0.25 ms"])


def one_after_another(clock: Callable[[], float], make: Callable[[], Any]) -> Contender:
    """Return a contender that waits for each call before it submits the next; it tells what the clock does for one."""

    def run(quick: bool) -> float:
        count = 100 if quick else 3_000
        executor = make()
        try:
            for x in range(count // 10):
                executor.submit(noop, x).result()
            start = clock()
            for x in range(count):
                executor.submit(noop, x).result()
            return (clock() - start) / count * 1e3
        finally:
            executor.shutdown()

    return run


for case, clock in ((ROUND_TRIP, time.perf_counter), (DRIVER_CPU, time.process_time)):
    case.contenders[OURS] = one_after_another(clock, lambda: chunk_executor(1))
    case.contenders[PPE] = one_after_another(clock, lambda: process_pool(1))
    case.contenders[LEAST] = one_after_another(clock, LeastExecutor)


def call_and_get(clock: Callable[[], float]) -> Contender:
    """Return Ray alone as a contender."""

    def run(quick: bool) -> float:
        import ray

        count = 100 if quick else 2_000
        ray.init(**config.ray_config)
        actor = bare_actor()
        ray.get(actor.call.remote(0))
        start = clock()
        for x in range(count):
            ray.get(actor.call.remote(x))
        return (clock() - start) / count * 1e3

    return run


ROUND_TRIP.contenders["a bare actor"] = call_and_get(time.perf_counter)
DRIVER_CPU.contenders["a bare actor"] = call_and_get(time.process_time)
DRIVER_CPU.contenders["0.25 ms"] = lambda quick: 0.25

# Many calls, each of which is a message, or may travel with others

SUBMIT = Case("submit", "20,000 no-ops by submit, all results, 2 workers", "s", [Goal(12, PPE), Goal(30, "ray Pool")])
SUBMIT.no_peers = frozenset([LEAST])


def submit_with(make: Callable[[int], Executor]) -> Contender:
    """Return a contender that submits call by call."""

    def run(quick: bool) -> float:
        with warmed_up(make(2), 2) as executor:
            count = 1_000 if quick else 20_000
            return seconds(lambda: [f.result() for f in [executor.submit(noop, x) for x in range(count)]])

    return run


SUBMIT.contenders[OURS] = submit_with(chunk_executor)
SUBMIT.contenders[PPE] = submit_with(process_pool)


@SUBMIT.contender(LEAST)
def futures_alone(quick: bool) -> float:
    """Measure futures that a thread resolves: there are no workers at all."""
    count = 1_000 if quick else 20_000
    inbox: SimpleQueue[tuple[Future[int], int] | None] = SimpleQueue()

    def resolve() -> None:
        while (item := inbox.get()) is not None:
            future, value = item
            future.set_running_or_notify_cancel()
            future.set_result(value)

    def submit(x: int) -> Future[int]:
        future: Future[int] = Future()
        inbox.put((future, x))
        return future

    thread = threading.Thread(target=resolve)
    thread.start()
    try:
        return seconds(lambda: [f.result() for f in [submit(x) for x in range(count)]])
    finally:
        inbox.put(None)
        thread.join()


@SUBMIT.contender("ray Pool")
def apply_async(quick: bool) -> float:
    """Measure ray's `Pool.apply_async`, of fewer calls, for it takes a second for 2,000."""
    from ray.util.multiprocessing import Pool

    start_ray()
    count = 200 if quick else 2_000
    with Pool(2) as pool:
        pool.map(warm, range(4))
        return 20_000 / count * seconds(lambda: [r.get() for r in [pool.apply_async(noop, (x,)) for x in range(count)]])


ONE_BY_ONE = Case("chunksize-1", "map(chunksize=1) of 5,000 no-ops, 2 workers", "s", [Goal(1.2, PPE)])


def five_thousand(quick: bool) -> range:
    """Return the arguments of `ONE_BY_ONE`."""
    return range(500 if quick else 5_000)


ONE_BY_ONE.contenders[OURS] = map_with(chunk_executor, 2, noop, five_thousand, chunksize=1)
ONE_BY_ONE.contenders[PPE] = map_with(process_pool, 2, noop, five_thousand, chunksize=1)

# Short series, one after the other, as scipy and emcee make them

SHORT_SERIES = Case(
    "short-series",
    "100 maps of 8 calls of 2 ms, 2 workers, for each map",
    "ms",
    [Goal(1.0, PPE), Goal(1.0, PPE, "thread_chunks, stored function")],
)


def short_series(make: Callable[[int], Any], *, stored: bool = False) -> Contender:
    """Return a contender that maps often."""

    def run(quick: bool) -> float:
        count = 5 if quick else 100
        with warmed_up(make(2), 2) as executor:
            each = [0.002] * 8

            def go() -> None:
                for _ in range(count):
                    list(executor.map(each) if stored else executor.map(pause, each))

            go()
            return seconds(go) / count * 1e3

    return run


SHORT_SERIES.contenders[OURS] = short_series(chunk_executor)
SHORT_SERIES.contenders["thread_chunks, stored function"] = short_series(
    lambda n: chunk_executor(pause, n), stored=True
)
SHORT_SERIES.contenders[PPE] = short_series(process_pool)
SHORT_SERIES.contenders["ideal"] = lambda quick: 8.0

EMCEE = Case("emcee", "emcee, 16 walkers, 100 steps of 1 ms calls, 2 workers", "s", [Goal(1.0, PPE)])


def emcee_with(make: Callable[[int], Executor]) -> Contender:
    """Return a contender that samples."""

    def run(quick: bool) -> float:
        import emcee

        start = np.random.default_rng(1).normal(size=(16, 2))
        with warmed_up(make(2), 2) as executor:
            sampler = emcee.EnsembleSampler(16, 2, log_gauss, pool=executor)
            return seconds(lambda: sampler.run_mcmc(start, 5 if quick else 100))

    return run


EVOLUTION = Case("evolution", "differential_evolution, 1,400 calls of 5 ms, 2 workers", "s", [Goal(1.0, PPE)])


def evolution_with(make: Callable[[int], Executor]) -> Contender:
    """Return a contender that minimises."""

    def run(quick: bool) -> float:
        from scipy.optimize import differential_evolution

        with warmed_up(make(2), 2) as executor:
            return seconds(
                lambda: differential_evolution(
                    bowl,
                    [(-3.0, 3.0)] * 2,
                    workers=executor.map,
                    updating="deferred",
                    maxiter=2 if quick else 34,
                    popsize=20,
                    tol=0,
                    polish=False,
                    rng=1,
                )
            )

    return run


for case, make_contender, module in ((EMCEE, emcee_with, "emcee"), (EVOLUTION, evolution_with, "scipy")):
    for name, make in ((OURS, chunk_executor), (PPE, process_pool)):
        case.contender(name, needs=module)(make_contender(make))

# When values come

COLD = Case(
    "regime-cold",
    "2,000 no-ops, then 8 calls of 0.5 s, one map, 4 workers that were just made",
    "s",
    [Goal(1 / 1.15, "ideal")],
)


@COLD.contender()
def first_series(quick: bool) -> float:
    """Measure the first series of an executor: its workers are up, and nothing is known of the function."""
    with chunk_executor(fast_then_slow, 4) as executor:
        up: set[int] = set()
        while len(up) < 4:
            up.update(executor.map(process_of_worker, range(8)))
        return seconds(lambda: list(executor.map(regime(quick))))


def process_of_worker(x: int) -> int:
    """Return the process, a moment later."""
    time.sleep(0.05)
    return os.getpid()


COLD.contenders["ideal"] = lambda quick: 0.5 if quick else 1.0

LAG = Case(
    "lag", "from the end of a call of 10 ms in a series to its value, median, 2 workers", "ms", [Goal(1, "25 ms")]
)
LAG.no_peers = frozenset(["25 ms"])


def lag_with(make: Callable[[int], Any], **options: Any) -> Contender:
    """Return a contender that notes when values come."""

    def run(quick: bool) -> float:
        with warmed_up(make(2), 2) as executor:
            values: Iterable[float] = executor.map(stamped, [0.01] * (40 if quick else 400), **options)
            return statistics.median(_lags(values)) * 1e3

    return run


def _lags(values: Iterable[float]) -> Iterator[float]:
    for ended in values:
        yield time.time() - ended


LAG.contenders[OURS] = lag_with(chunk_executor)
LAG.contenders[PPE] = lag_with(process_pool)
LAG.contenders["25 ms"] = lambda quick: 25.0

LATENCIES = {
    case.name: case for case in (ROUND_TRIP, DRIVER_CPU, SUBMIT, ONE_BY_ONE, SHORT_SERIES, EMCEE, EVOLUTION, COLD, LAG)
}
