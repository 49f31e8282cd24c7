"""What joblib calls a backend: `joblib.Parallel` on a `ChunkExecutor`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib import ParallelBackendBase, cpu_count
from joblib.parallel import AutoBatchingMixin, FallbackToBackend, SequentialBackend

from .executor import ChunkExecutor

# What each worker runs first: a function, and its arguments.
_Initializer = tuple["Callable[..., object] | None", tuple[Any, ...]]

_lock = threading.Lock()
# Under the lock: the executor that all share, from one `Parallel` to the next, and what its workers ran first.
_executor: ChunkExecutor | None = None
_initializer: _Initializer = (None, ())


class Backend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Run the batches of `joblib.Parallel` on an executor, which lives on for the next one."""

    supports_retrieve_callback = True
    supports_sharedmem = False
    default_n_jobs = -1

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many batches run at once; those that are negative count from the number of CPUs."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(1, int(cpu_count()) + 1 + n_jobs)

    def configure(self, n_jobs: int | None = 1, parallel: Any = None, **options: Any) -> int:
        """Have an executor of that size whose workers run the initializer first, and return the size."""
        options = {**getattr(self, "backend_kwargs", {}), **options}  # the former are those of `parallel_config`
        size = self.effective_n_jobs(n_jobs)
        if size == 1:  # a process of its own would only cost time
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._size = size
        self._initializer = options.get("initializer"), tuple(options.get("initargs", ()))
        self._run = shared_executor(size, self._initializer)
        return size

    def submit(self, func: Callable[[], Any], callback: Callable[[Future[Any]], object] | None = None) -> Future[Any]:
        """Run a batch, and call back when it is over."""
        future: Future[Any] = self._run.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit  # its name before joblib 1.5

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Return what a batch returned, or raise what it raised."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End what runs and what waits, as after an error, a time-out or Ctrl-C."""
        drop(self._run)
        if ensure_ready:
            self._run = shared_executor(self._size, self._initializer)

    def terminate(self) -> None:
        """Forget how long the batches took. The executor lives on."""
        self.reset_batch_stats()


def shared_executor(size: int, initializer: _Initializer = (None, ())) -> ChunkExecutor:
    """Return the executor that all share, with so many workers.

    It is a new one if its workers are to run another initializer. The one before finishes what it has.
    """
    global _executor, _initializer
    with _lock:
        former = _executor if _executor is not None and _is_open(_executor) else None
        if former is not None and _are_same(_initializer, initializer):
            if former.chunk_size != size:
                former.resize(size)
            return former
        _executor = ChunkExecutor(size, initializer=initializer[0], initargs=initializer[1])
        _initializer = initializer
        if former is not None:  # not before: Ray would end with its last executor
            former.shutdown(wait=False)
        return _executor


def _is_open(executor: ChunkExecutor) -> bool:
    try:
        executor.actors  # noqa: B018 (it raises if the executor is over, or this is a forked child)
    except RuntimeError:
        return False
    return True


def _are_same(one: _Initializer, other: _Initializer) -> bool:
    try:
        return bool(one == other)
    except ValueError:  # arrays among the arguments
        return False


def drop(executor: ChunkExecutor) -> None:
    """End an executor at once, and share it no more."""
    global _executor
    with _lock:
        if _executor is executor:
            _executor = None
    executor.kill_workers()
