"""What joblib calls a backend: `joblib.Parallel` on a `ChunkExecutor`."""

from __future__ import annotations

import threading
from collections import Counter
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
_users: Counter[ChunkExecutor] = Counter()  # how many backends use an executor, the shared one or one before it


class Backend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Run the batches of `joblib.Parallel` on an executor, which lives on for the next one."""

    supports_retrieve_callback = True
    supports_sharedmem = False
    default_n_jobs = -1
    _run: ChunkExecutor | None = None

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
        self._use(shared_executor(size, self._initializer))
        return size

    def submit(self, func: Callable[[], Any], callback: Callable[[Future[Any]], object] | None = None) -> Future[Any]:
        """Run a batch, and call back when it is over."""
        if self._run is None:  # another `Parallel` with this backend has terminated it
            self._use(shared_executor(self._size, self._initializer))
        assert self._run is not None
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
        if self._run is not None:
            drop(self._run)
        self._use(shared_executor(self._size, self._initializer) if ensure_ready else None)

    def terminate(self) -> None:
        """Forget how long the batches took. The executor lives on, unless another has taken its place."""
        self.reset_batch_stats()
        self._use(None)

    def _use(self, executor: ChunkExecutor | None) -> None:
        former, self._run = self._run, executor
        if former is not None:
            release(former)


def shared_executor(size: int, initializer: _Initializer = (None, ())) -> ChunkExecutor:
    """Return the executor that all share, with so many workers, for a user who will `release` it.

    It is a new one if its workers are to run another initializer. The one before ends with its last user.
    """
    global _executor, _initializer
    with _lock:
        former = _executor if _executor is not None and _is_open(_executor) else None
        if former is not None and _are_same(_initializer, initializer):
            if former.chunk_size != size:
                former.resize(size)
            _users[former] += 1
            return former
        _executor = ChunkExecutor(size, initializer=initializer[0], initargs=initializer[1])
        _initializer = initializer
        _users[_executor] += 1
        if former is not None and not _users[former]:  # not before: Ray would end with its last executor
            former.shutdown(wait=False)
        return _executor


def release(executor: ChunkExecutor) -> None:
    """Use an executor no more. It ends if nobody else uses it, and it is not the one that all share."""
    with _lock:
        _users[executor] -= 1
        if _users[executor] <= 0:
            del _users[executor]
            if executor is not _executor:
                executor.shutdown(wait=False)


def _is_open(executor: ChunkExecutor) -> bool:
    try:
        executor.actors  # noqa: B018 (it raises if the executor is over, or this is a forked child)
    except RuntimeError:
        return False
    return True


def _are_same(one: _Initializer, other: _Initializer) -> bool:
    try:
        return bool(one == other)
    except Exception:  # as for arrays among the arguments
        return False


def drop(executor: ChunkExecutor) -> None:
    """End an executor at once, and share it no more."""
    global _executor
    with _lock:
        if _executor is executor:
            _executor = None
    executor.kill_workers()
