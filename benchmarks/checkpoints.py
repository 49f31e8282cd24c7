"""The benchmarks of checkpoints, one `Case` each."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import psutil

from .cases import chunk_executor, seconds, warmed_up
from .harness import OURS, Case, Contender, Goal
from .work import Array, noop, spin, warm


@contextmanager
def fresh_file() -> Iterator[str]:
    """Use a path in a folder that is removed afterwards, on the disk of the working directory."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        yield os.path.join(folder, "checkpoint")


KEPT_CHUNK = Case(
    "kept-chunk", "no-ops through a Chunker with a checkpoint, per call", "us", [Goal(50, "thread-chunks 1.0.5")]
)


@KEPT_CHUNK.contender()
def chunker_that_keeps(quick: bool) -> float:
    """Measure 3,000 results."""
    from thread_chunks import Chunker

    count = 300 if quick else 3_000
    with fresh_file() as path, Chunker(noop, chunk_size=2) as chunker:
        chunker([[x] for x in range(4)], warm)
        parameters = [[x] for x in range(count)]
        return seconds(lambda: chunker(parameters, noop, path=path)) / count * 1e6


@KEPT_CHUNK.contender("thread-chunks 1.0.5", needs="$THREAD_CHUNKS_1")
def chunker_of_version_1_that_keeps(quick: bool) -> float:
    """Measure version 1.0.5 by the Python that ``THREAD_CHUNKS_1`` names, of an environment that has it."""
    program = """if True:
        import sys, time
        from thread_chunks import Chunker
        def noop(x): return x
        chunker = Chunker(noop, chunk_size=2, progress_bar=False)
        chunker([[x] for x in range(4)])
        parameters = [[x] for x in range(int(sys.argv[1]))]
        start = time.perf_counter()
        chunker(parameters, path=sys.argv[2])
        print((time.perf_counter() - start) / len(parameters) * 1e6)
    """
    with fresh_file() as path:
        command = [os.environ["THREAD_CHUNKS_1"], "-c", program, "100" if quick else "3000", os.path.abspath(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/")
    return float(done.stdout.split()[-1])


KEPT_MAP = Case(
    "kept-map",
    "no-ops through map with a checkpoint, 2 workers, per call",
    "us",
    [Goal(1.0, "30,000 per s"), Goal(1 / 1.2, "thread_chunks, 10,000 calls")],
)


def map_that_keeps(count: int) -> Contender:
    """Return the contender of so many results."""

    def run(quick: bool) -> float:
        calls = range(count // 10 if quick else count)
        with fresh_file() as path, warmed_up(chunk_executor(2), 2) as executor:
            list(executor.map(noop, range(1000), path=f"{path}-other"))
            return seconds(lambda: list(executor.map(noop, calls, path=path))) / len(calls) * 1e6

    return run


KEPT_MAP.contenders[OURS] = map_that_keeps(100_000)
KEPT_MAP.contenders["thread_chunks, 10,000 calls"] = map_that_keeps(10_000)
KEPT_MAP.contenders["30,000 per s"] = lambda quick: 1e6 / 30_000

KEPT_CPU = Case(
    "kept-cpu", "400 calls of 10 ms of CPU time with a checkpoint, 2 workers", "s", [Goal(1 / 1.02, "without one")]
)


def spin_and_keep(keep: bool) -> Contender:
    """Return the contender with a checkpoint, or without."""

    def run(quick: bool) -> float:
        calls = [0.01] * (40 if quick else 400)
        with fresh_file() as path, warmed_up(chunk_executor(2), 2) as executor:
            list(executor.map(noop, range(1000), path=path))
            return seconds(lambda: list(executor.map(spin, calls, path=path if keep else None)))

    return run


KEPT_CPU.contenders[OURS] = spin_and_keep(True)
KEPT_CPU.contenders["without one"] = spin_and_keep(False)

FOUND = Case("found", "submits whose values a checkpoint has, per submit", "us", [Goal(1.0, "20,000 per s")])


@FOUND.contender()
def submits_that_are_found(quick: bool) -> float:
    """Measure a second run, whose futures are over at once."""
    calls = range(1_000 if quick else 20_000)
    with fresh_file() as path:
        with chunk_executor(2) as executor:
            list(executor.map(noop, calls, path=path))
        with warmed_up(chunk_executor(2), 2) as executor:
            keeping = executor.with_options(path=path)
            return seconds(lambda: [keeping.submit(noop, x).result() for x in calls]) / len(calls) * 1e6


FOUND.contenders["20,000 per s"] = lambda quick: 1e6 / 20_000

RESUMED = Case("resumed", "chunk of 100,000 calls that are all finished", "s", [Goal(1.0, "3 s")])


@RESUMED.contender()
def resumed_chunk(quick: bool) -> float:
    """Measure a second run, which must not start Ray."""
    import ray

    from thread_chunks import chunk

    parameters = [[x] for x in range(5_000 if quick else 100_000)]
    with fresh_file() as path:
        chunk(noop, parameters, chunk_size=2, path=path)
        assert not ray.is_initialized()
        taken = seconds(lambda: chunk(noop, parameters, chunk_size=2, path=path))
        assert not ray.is_initialized()
        return taken


RESUMED.contenders["3 s"] = lambda quick: 3.0

KEPT_ARRAYS = Case(
    "kept-arrays",
    "16 arrays of 64 MB as values, on disk",
    "s",
    [Goal(0.5, "a plain file"), Goal(0.9, "bare SQLite in WAL mode")],
)


def array_of_64_mb(x: int) -> Array:
    """Return one that is not all zeros."""
    return np.full(8_000_000, float(x))


def into_file(path: str) -> Callable[[Array], object]:
    """Return what writes an array to a plain file, and synchronises it."""
    file = open(path, "wb")  # noqa: SIM115 (it is open as long as there is something to write)

    def write(array: Array) -> None:
        file.write(array.data)
        file.flush()
        os.fsync(file.fileno())

    return write


def into_database(path: str) -> Callable[[Array], object]:
    """Return what writes an array to an SQLite database in WAL mode, as a checkpoint is, and nothing else."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA page_size = 65536")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE pieces (id INTEGER PRIMARY KEY, data BLOB)")

    def write(array: Array) -> None:
        view = array.data.cast("B")
        connection.execute("BEGIN")
        for start in range(0, len(view), 2**22):
            connection.execute("INSERT INTO pieces (data) VALUES (?)", (view[start : start + 2**22],))
        connection.execute("COMMIT")

    return write


def arrays_on_disk(writer: Callable[[str], Callable[[Array], object]] | None) -> Contender:
    """Return the contender with a checkpoint, or with something that the consumer writes to.

    The time that the same values take without either is taken off.
    """

    def run(quick: bool) -> float:
        calls = range(2 if quick else 16)
        with fresh_file() as path, warmed_up(chunk_executor(1), 1) as executor:

            def go(path: str | None, write: Callable[[Array], object]) -> None:
                for array in executor.map(array_of_64_mb, calls, path=path, buffersize=2):
                    write(array)

            go(None, id)
            without = seconds(lambda: go(None, id))
            write = id if writer is None else writer(f"{path}-other")
            return max(1e-3, seconds(lambda: go(path if writer is None else None, write)) - without)

    return run


KEPT_ARRAYS.contenders[OURS] = arrays_on_disk(None)
KEPT_ARRAYS.contenders["a plain file"] = arrays_on_disk(into_file)
KEPT_ARRAYS.contenders["bare SQLite in WAL mode"] = arrays_on_disk(into_database)

KEPT_MEMORY = Case(
    "kept-memory",
    "growth of the driver by 100,000 results that are kept, buffersize=1000",
    "MB",
    [Goal(1.0, "20 MB")],
)


@KEPT_MEMORY.contender()
def memory_of_keeping(quick: bool) -> float:
    """Measure the resident size after half of the results, and after all."""
    count = 10_000 if quick else 200_000
    with fresh_file() as path, warmed_up(chunk_executor(2), 2) as executor:
        values = executor.map(noop, iter(range(count)), path=path, buffersize=1000)
        for _ in range(count // 2):
            next(values)
        before = psutil.Process().memory_info().rss
        for _ in values:
            pass
        return float(max(0.1, (psutil.Process().memory_info().rss - before) / 1e6))


KEPT_MEMORY.contenders["20 MB"] = lambda quick: 20.0  # of what may wait for the disk

CHECKPOINTS = {case.name: case for case in (KEPT_CHUNK, KEPT_MAP, KEPT_CPU, FOUND, RESUMED, KEPT_ARRAYS, KEPT_MEMORY)}
