"""What the contenders run, in a module that every worker can import."""

from __future__ import annotations

import os
import time

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def warm(x: int) -> int:
    """Start a worker, without teaching anybody how long other functions take."""
    time.sleep(0.05)
    return x


def noop(x: int) -> int:
    """Return the argument."""
    return x


def spin(seconds: float) -> None:
    """Use so much CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def wait(seconds: float) -> None:
    """Return after so many seconds, however few."""
    if seconds >= 0.001:
        time.sleep(seconds)
    else:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass


def process_after(seconds: float) -> int:
    """Sleep, and return the process."""
    time.sleep(seconds)
    return os.getpid()


def noted(x: int) -> tuple[int, float, float, bool]:
    """Run `fast_then_slow`; return the process, start, end (s), and whether it was a slow one."""
    start = time.time()
    fast_then_slow(x)
    return os.getpid(), start, time.time(), x >= 2000


def fast_then_slow(x: int) -> int:
    """Return at once for numbers below 2,000, and after half a second for others."""
    if x >= 2000:
        time.sleep(0.5)
    return x


def there_and_back(array: Array) -> Array:
    """Return the argument."""
    return array


class Holder:
    """A callable that holds an array of so many bytes."""

    def __init__(self, size: int) -> None:
        self.array: Array = np.ones(size // 8)

    def __call__(self, x: int) -> float:
        """Read one number."""
        return float(self.array[x])


def log_normal_durations(count: int) -> list[float]:
    """Return durations (s) with a median of 10 ms, some of which are ten times as long."""
    return [float(seconds) for seconds in np.random.default_rng(1).lognormal(np.log(0.01), 1.0, count)]


def pause(seconds: float) -> float:
    """Use no CPU time for so many seconds."""
    time.sleep(seconds)
    return seconds


def stamped(seconds: float) -> float:
    """Return when a call of so many seconds ended (s since the epoch)."""
    time.sleep(seconds)
    return time.time()


def log_gauss(x: Array) -> float:
    """Return a density's logarithm, 1 ms later."""
    time.sleep(0.001)
    return -0.5 * float(x @ x)


def bowl(x: Array) -> float:
    """Return a value that is least in the middle, after 5 ms."""
    time.sleep(0.005)
    return float(((x - 1) ** 2).sum())


def mean_of(array: Array, x: int) -> float:
    """Return a number that depends on all of an array."""
    return float(array.mean()) + x


def fit(alpha: float, array: Array) -> float:
    """Return what a model would be fitted to: a few passes over an array that leave it as it is."""
    return sum(float(np.dot(array, array)) * alpha for _ in range(5))
