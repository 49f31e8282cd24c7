"""What runs on joblib and scikit-learn, and one large argument for many calls. One `Case` each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import numpy as np
import psutil

from .cases import bare_actor, chunk_executor, seconds, start_ray, warmed_up
from .harness import OURS, Case, Contender, Goal
from .work import Array, fit, mean_of, noop, warm

LOKY = "joblib, loky"
RAYS = "joblib, ray.util.joblib"
BESIDE_RAY = "joblib, loky, beside an idle Ray"  # and two actors that do nothing

_GOALS = [Goal(1.0, LOKY), Goal(1.0, BESIDE_RAY), Goal(1.5, RAYS)]

NOOPS = Case("joblib-noops", "2,000 no-ops by joblib.Parallel, 2 workers", "s", [*_GOALS])
ARGUMENT = Case("joblib-array", "40 sums of an array of 200 MB by joblib.Parallel, 2 workers", "s", [*_GOALS])
GRID = Case("joblib-grid", "GridSearchCV of SVC on digits, 2 workers", "s", [*_GOALS])


def shared(quick: bool) -> Array:
    """Return the argument that all calls share."""
    return np.random.default_rng(1).random(250_000 if quick else 25_000_000)


def noops(quick: bool) -> Callable[[], object]:
    """Return `NOOPS`."""
    from joblib import Parallel, delayed

    return lambda: Parallel()(delayed(noop)(x) for x in range(100 if quick else 2_000))


def sums(quick: bool) -> Callable[[], object]:
    """Return `ARGUMENT`."""
    from joblib import Parallel, delayed

    array = shared(quick)
    return lambda: Parallel()(delayed(mean_of)(array, x) for x in range(8 if quick else 40))


def grid(quick: bool) -> Callable[[], object]:
    """Return `GRID`."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    digits, target = load_digits(return_X_y=True)
    if quick:
        digits, target = digits[:200], target[:200]
    search = GridSearchCV(SVC(), {"C": [0.1, 1, 10, 100], "gamma": [1e-4, 1e-3, 1e-2]}, cv=2 if quick else 5)
    return lambda: search.fit(digits, target)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Let `joblib.Parallel` use a backend, whose workers are up."""
    import joblib

    actors: list[Any] = []  # which live on
    if name == OURS:
        from thread_chunks import register_joblib

        register_joblib()
        name = "thread_chunks"
    elif name == RAYS:
        from ray.util import joblib as rays

        start_ray()
        register: Callable[[], None] = rays.register_ray
        register()
        name = "ray"
    else:
        if name == BESIDE_RAY:
            import ray

            start_ray()
            actors += [bare_actor(), bare_actor()]
            ray.get([actor.call.remote(0) for actor in actors])
        name = "loky"
    with joblib.parallel_config(name, n_jobs=2):
        joblib.Parallel()(joblib.delayed(warm)(x) for x in range(8))
        yield
    actors.clear()


def by_joblib(name: str, make: Callable[[bool], Callable[[], object]]) -> Contender:
    """Return a contender that does something twice, as a notebook does, and measures the second time."""

    def run(quick: bool) -> float:
        with backend(name):
            job = make(quick)
            if not quick:
                job()
            return seconds(job)

    return run


for case, job, module in ((NOOPS, noops, "joblib"), (ARGUMENT, sums, "joblib"), (GRID, grid, "sklearn")):
    case.no_peers = frozenset([BESIDE_RAY])  # it shows what Ray itself takes of the CPUs, whoever runs the calls
    for name in (OURS, LOKY, BESIDE_RAY, RAYS):
        case.contender(name, needs=module)(by_joblib(name, job))

# One large argument for many calls

FITS = Case("fits", "20 fits on an array of 200 MB, 2 workers", "s", [Goal(1.0, "joblib")])
FITS_MEMORY = Case("fits-memory", "growth of all processes by it, at the peak", "MB", [Goal(1 / 1.1, "joblib")])


class Peak:
    """The proportional set size of this process and all below it, at its highest."""

    def __init__(self) -> None:
        self._me = psutil.Process()
        self._over = threading.Event()
        self._highest = self._first = self._now()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def growth(self) -> float:
        """Stop looking, and return by how much it has grown (MB)."""
        self._over.set()
        self._thread.join()
        return max(0.1, (self._highest - self._first) / 1e6)

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self._highest = max(self._highest, self._now())

    def _now(self) -> int:
        used = 0
        for process in [self._me, *self._me.children(recursive=True)]:
            try:
                used += process.memory_full_info().pss
            except psutil.NoSuchProcess:
                continue
        return used


def measured(go: Callable[[], object], memory: bool) -> float:
    """Return how long something takes, or what it needs."""
    if not memory:
        return seconds(go)
    peak = Peak()
    try:
        go()
    finally:
        grown = peak.growth()
    return grown


def fits(memory: bool) -> Contender:
    """Return the executor as a contender."""

    def run(quick: bool) -> float:
        array = shared(quick)
        with warmed_up(chunk_executor(2), 2) as executor:
            executor.submit(fit, 0.5, array[:1000]).result()
            return measured(lambda: list(executor.map(fit, alphas(quick), repeat(array))), memory)

    return run


def fits_by_joblib(memory: bool) -> Contender:
    """Return joblib as a contender."""

    def run(quick: bool) -> float:
        from joblib import Parallel, delayed

        array = shared(quick)
        with Parallel(2) as parallel:
            parallel(delayed(warm)(x) for x in range(8))
            parallel([delayed(fit)(0.5, array[:1000])])
            return measured(lambda: parallel(delayed(fit)(alpha, array) for alpha in alphas(quick)), memory)

    return run


def alphas(quick: bool) -> list[float]:
    """Return what the fits differ in."""
    return [x / 20 for x in range(4 if quick else 20)]


for case, memory in ((FITS, False), (FITS_MEMORY, True)):
    case.contenders[OURS] = fits(memory)
    case.contender("joblib", needs="joblib")(fits_by_joblib(memory))

LIBRARIES = {case.name: case for case in (NOOPS, ARGUMENT, GRID, FITS, FITS_MEMORY)}
