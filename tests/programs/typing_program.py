"""What type checkers find out about a program. It is not run: `test_types` lets mypy and pyright read it."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future
from typing import Any

from ray import ObjectRef
from typing_extensions import assert_type

from thread_chunks import Chunker, ChunkExecutor, RemoteLabelledActor, Report, RunningCall, chunk


def simulate(temperature: float, steps: int = 10) -> str:
    return f"{temperature} {steps}"


class Logging(ChunkExecutor):
    pass


executor = ChunkExecutor(simulate, 2)
rows = [(1.0, 2), (2.0, 3)]

# One call.
assert_type(executor.submit(simulate, 1.0), Future[str])
assert_type(executor.submit(simulate, 1.0, steps=3).result(), str)
assert_type(executor.submit(None, 1.0), Future[Any])
assert_type(executor.submit(len, [1]), Future[int])
executor.submit(simulate, "hot")  # type: ignore[call-overload]
executor.submit(simulate, 1.0, stops=3)  # type: ignore[call-arg]
executor.submit(3)  # type: ignore[call-overload]

# A series.
assert_type(executor.map(simulate, [1.0]), Iterator[str])
assert_type(executor.map(simulate, [1.0], [2], chunksize=5, unordered=True, timeout=3), Iterator[str])
assert_type(executor.map(simulate, [1.0], path="a.checkpoint", key=str, buffersize=4, progress_bar=True), Iterator[str])
assert_type(executor.map(simulate, [1.0], results="refs"), Iterator[ObjectRef[str]])
assert_type(executor.map(None, [1.0]), Iterator[Any])
assert_type(executor.map([1.0]), Iterator[Any])
assert_type(executor.map([1.0], [2], chunksize=5), Iterator[Any])
assert_type(executor.map([1.0], results="refs"), Iterator[ObjectRef[Any]])
assert_type(executor.starmap(simulate, rows), Iterator[str])
assert_type(executor.starmap(simulate, rows, unordered=True, results="refs"), Iterator[ObjectRef[str]])
assert_type(executor.starmap(None, rows), Iterator[Any])
assert_type(executor.starmap(None, rows, results="refs"), Iterator[ObjectRef[Any]])
assert_type(executor.starmap(rows), Iterator[Any])
assert_type(executor.starmap(rows, results="refs", timeout=3.0), Iterator[ObjectRef[Any]])
assert_type(executor.map(simulate, [1.0], return_exceptions=True), Iterator[str | BaseException])
assert_type(executor.map(simulate, [1.0], with_arguments=True), Iterator[tuple[tuple[Any, ...], str]])
assert_type(executor.starmap(simulate, rows, return_exceptions=True, unordered=True), Iterator[str | BaseException])
assert_type(
    executor.starmap(simulate, rows, return_exceptions=True, with_arguments=True),
    Iterator[tuple[Any, str | BaseException]],
)
is_lenient = bool(rows)
assert_type(executor.map(simulate, [1.0], return_exceptions=is_lenient), Iterator[Any])
executor.map(simulate, [1.0], chunk_size=3)  # type: ignore[call-overload]
executor.map(simulate, [1.0], results="references")  # type: ignore[call-overload]
executor.starmap(simulate)  # type: ignore[call-overload]

# The executor itself.
assert_type(executor.with_options(max_retries=3), ChunkExecutor)
assert_type(Logging(2).with_options(max_retries=3), Logging)
assert_type(executor.running(), list[RunningCall])
assert_type(executor.report(), Report)
with ChunkExecutor(4) as entered:
    assert_type(entered, ChunkExecutor)


def gather(pool: Executor) -> list[str]:
    return list(pool.map(simulate, [1.0], chunksize=2, timeout=3))


assert_type(gather(executor), list[str])

# The interface of thread-chunks 1.
actors = [RemoteLabelledActor.remote(simulate)]
assert_type(chunk(simulate, [[1.0, 2]]), list[str])
assert_type(chunk(simulate, rows, chunk_size=2, progress_bar=False, path="a", key=str), list[str])
assert_type(chunk(simulate, rows, return_exceptions=True), list[str | BaseException])
assert_type(chunk(None, rows, actors), list[Any])
assert_type(chunk(None, rows, actors, return_exceptions=True), list[Any])
assert_type(Chunker(simulate)(rows, return_exceptions=True), list[str | BaseException])
assert_type(Chunker(simulate), Chunker[str])
assert_type(Chunker(simulate, chunk_size=2)(rows), list[str])
assert_type(Chunker(simulate)(rows, len), list[int])
assert_type(Chunker(actors=actors), Chunker[Any])
assert_type(Chunker(actors=actors)(rows), list[Any])
with Chunker(simulate) as chunker:
    assert_type(chunker(rows), list[str])
chunk(None, rows)  # type: ignore[call-overload]
