"""What `zero_copy` saves: one large array to a worker and back, again and again.

::

    python -m benchmarks.arrays [--megabytes 64] [--times 8] [--rounds 5]

Prints the median over the rounds of the seconds for one array there and back, and the ratio to
`ProcessPoolExecutor`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from thread_chunks import ChunkExecutor

Array = NDArray[np.float64]

EXECUTORS: dict[str, Callable[[], Executor]] = {
    "ProcessPoolExecutor": lambda: ProcessPoolExecutor(2, get_context("forkserver")),
    "ChunkExecutor": lambda: ChunkExecutor(2),
    "ChunkExecutor, zero_copy=True": lambda: ChunkExecutor(2, zero_copy=True),
}


def there_and_back(array: Array) -> Array:
    """Return the argument."""
    return array


def measure(executor: Executor, array: Array, times: int) -> float:
    """Return the seconds that one array takes there and back."""
    executor.submit(there_and_back, array).result()  # not the first, which starts the worker
    start = time.perf_counter()
    for _ in range(times):
        executor.submit(there_and_back, array).result()
    return (time.perf_counter() - start) / times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=64)
    parser.add_argument("--times", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    array = np.random.default_rng(1).random(int(arguments.megabytes * 1e6 / 8))
    seconds: dict[str, list[float]] = {name: [] for name in EXECUTORS}
    for _ in range(arguments.rounds):
        for name, make in EXECUTORS.items():
            with make() as executor:
                seconds[name].append(measure(executor, array, arguments.times))
    reference = statistics.median(seconds["ProcessPoolExecutor"])
    for name, measured in seconds.items():
        median = statistics.median(measured)
        print(f"{name:32}{median:8.4f} s {reference / median:8.2f} x")


if __name__ == "__main__":
    main()
