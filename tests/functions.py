"""Functions for calls to run, and objects that are hard to pickle or compare."""

from __future__ import annotations

import sys
import time

import numpy as np


def square(x):
    return x * x


def keywords(*args, **kwargs):
    return args, kwargs


def wait_for(path, timeout=60):
    deadline = time.monotonic() + timeout
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.005)


def note_and_wait(folder, name, until):
    (folder / name).touch()
    wait_for(folder / until)
    return name


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * x

    def method(self, x):
        return -self.factor * x


class Unpicklable:
    def __reduce__(self):
        raise TypeError("refuses to be pickled")


class BreaksOnArrival:
    def __reduce__(self):
        return sys.exit, (3,)


class Counter:
    def __init__(self):
        self.n = 0
        self.large = np.zeros(100_000)

    def count(self, _=None):
        self.n += 1
        return self.n

    def write(self):
        self.large[0] = 1
        return self.large[0]


def meet(folder, number, of):
    """Return at once, except for the last `of` numbers, each of which waits for the next."""
    if number >= 0:
        (folder / str(number)).touch()
        if number + 1 < of:
            wait_for(folder / str(number + 1))
    return number


class BreaksOnArrivalFunction(BreaksOnArrival):
    def __call__(self):
        raise AssertionError


class ReducesToNoException(Exception):
    def __reduce__(self):
        return str, ("no exception",)


class Frozen(Exception):
    def __setattr__(self, name, value):
        raise TypeError(name)


class LiesAboutItsClass:
    @property
    def __class__(self):
        raise RuntimeError("not telling")


def raise_it(kind):
    raise kind()
