"""What a call can find out about where it runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from uuid import uuid4

# Tells the process apart from others, also on other machines.
PROCESS = uuid4().bytes


@dataclass(slots=True, eq=False)
class Place:
    """A worker, as the calls that run there see it. It belongs to the thread that runs them; others may read it.

    Attributes
    ----------
    seed : int or None
        That of the call that runs, if it has one.
    index : int or None
        The worker's number, among those of the executor whose block ran last.
    """

    index: int | None = None
    seed: int | None = None


_of_thread = threading.local()  # `place`
_of_process: Place | None = None


def enter(place: Place, driver: bytes) -> None:
    """Let the calls that this thread runs be at a place; and all threads of this process, if it is not the driver's."""
    global _of_process
    _of_thread.place = place
    if driver != PROCESS:
        _of_process = place


def call_seed() -> int | None:
    """Return the random seed of the call that runs.

    It depends on the `seed` of `map`, `starmap`, `chunk` or `with_options`, and on the place of the call in its series;
    not on the worker, the number of workers, the order in which calls run, or retries.

    Returns
    -------
    int or None
        At least 0, and less than 2**63. None without a `seed`, and outside of calls: `random.Random` and
        `numpy.random.default_rng` take that for a seed of their own making.

    Examples
    --------
    >>> import random
    >>> from thread_chunks import ChunkExecutor, call_seed
    >>> def throw(dice):
    ...     generator = random.Random(call_seed())      # or numpy.random.default_rng(call_seed())
    ...     return sum(generator.randint(1, 6) for _ in range(dice))
    >>> with ChunkExecutor(2) as executor:
    ...     list(executor.map(throw, [2, 2, 2], seed=7)) == list(executor.map(throw, [2, 2, 2], seed=7))
    True
    """
    place = _place()
    return None if place is None else place.seed


def worker_index() -> int | None:
    """Return the number of the worker that runs this call, or this initializer.

    Two workers of an executor that live at the same time have different numbers. A worker that takes the place of
    another one takes its number, too. Use it for what calls must not share: a GPU, a port, a folder, a licence.

    Returns
    -------
    int or None
        From 0 to ``chunk_size - 1``; the lowest that was free when the worker was started. None outside of workers.

    Examples
    --------
    >>> from thread_chunks import ChunkExecutor, worker_index
    >>> with ChunkExecutor(1) as executor:
    ...     executor.submit(worker_index).result()
    0
    """
    place = _place()
    return None if place is None else place.index


def _place() -> Place | None:
    place: Place | None = getattr(_of_thread, "place", _of_process)
    return place
