"""What joblib calls a backend: `joblib.Parallel` on a `ChunkExecutor`."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from types import FunctionType
from typing import Any

from joblib import ParallelBackendBase, cpu_count
from joblib.parallel import AutoBatchingMixin, FallbackToBackend, SequentialBackend

from ._calls.functions import Batch
from .executor import ChunkExecutor

# What `Parallel` and `parallel_config` pass on to the executor.
_OF_EXECUTORS = frozenset(
    {"initializer", "initargs", "max_retries", "call_timeout", "memory_limit", "max_tasks_per_child", "zero_copy"}
    | {"actor_class", "actor_options", "forward_logging"}
)
# What `Parallel` passes to each backend, which means nothing here.
_OF_JOBLIB = frozenset({"max_nbytes", "mmap_mode", "temp_folder", "prefer", "require", "verbose", "context"})

# How long batches that run may take to end, after an error in another (s). Those of most programs do; to replace the
# worker of one that goes on takes longer.
_GRACE = 0.5

_lock = threading.Lock()
# Under the lock: the executor that all share, from one `Parallel` to the next, and the options that it has.
_executor: ChunkExecutor | None = None
_options: dict[str, Any] = {}
_users: Counter[ChunkExecutor] = Counter()  # how many backends use an executor, the shared one or one before it


class ThreadChunksBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Run the batches of `joblib.Parallel` on an executor, which lives on for the next one.

    Parameters
    ----------
    nesting_level : int, optional
        joblib's.
    inner_max_num_threads : int, optional
        How many threads numpy and the like may use in a call. Default: as Ray sets it.
    **options
        Options of `ChunkExecutor`.

    Raises
    ------
    TypeError
        If there is no such option.
    """

    supports_retrieve_callback = True
    supports_sharedmem = False
    supports_inner_max_num_threads = True
    default_n_jobs = -1
    _run: ChunkExecutor | None = None

    def __init__(
        self, nesting_level: int | None = None, inner_max_num_threads: int | None = None, **options: Any
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._given = _checked(options)
        self._pending: set[Future[Any]] = set()  # what was submitted and is not over

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many batches run at once; those that are negative count from the number of CPUs."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(1, int(cpu_count()) + 1 + n_jobs)

    def configure(self, n_jobs: int | None = 1, parallel: Any = None, **options: Any) -> int:
        """Have an executor of that size with those options, and return the size."""
        options = {**self._given, **_checked(options)}
        size = self.effective_n_jobs(n_jobs)
        if size == 1:  # a process of its own would only cost time
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._size = size
        self._options = self._with_threads({**options, "initargs": tuple(options.get("initargs", ()))})
        self._use(shared_executor(size, self._options))
        return size

    def submit(self, func: Callable[[], Any], callback: Callable[[Future[Any]], object] | None = None) -> Future[Any]:
        """Run a batch, and call back when it is over."""
        if self._run is None:  # another `Parallel` with this backend has terminated it
            self._use(shared_executor(self._size, self._options))
        assert self._run is not None
        future: Future[Any] = self._run.submit(_with_names(func))
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit  # its name before joblib 1.5

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Return what a batch returned, or raise what it raised."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End what runs and what waits, as after an error, a time-out or Ctrl-C. The other workers live on."""
        executor = self._run
        if executor is not None:
            pending = [future for future in list(self._pending) if not future.cancel()]
            with suppress(RuntimeError):  # it is over, or this is a forked child
                for future in wait(pending, _GRACE).not_done:
                    executor.cancel(future)
        self._use(shared_executor(self._size, self._options) if ensure_ready else None)

    def terminate(self) -> None:
        """Forget how long the batches took. The executor lives on, unless another has taken its place."""
        self.reset_batch_stats()
        self._use(None)

    def _with_threads(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return options by which workers start with the limit on the threads of numpy and the like."""
        if self.inner_max_num_threads is None:
            return options
        limits = dict.fromkeys(self.MAX_NUM_THREADS_VARS, str(self.inner_max_num_threads))
        actors = options.get("actor_options") or {}
        environment = actors.get("runtime_env") or {}
        variables = {**limits, **environment.get("env_vars", {})}
        return {**options, "actor_options": {**actors, "runtime_env": {**environment, "env_vars": variables}}}

    def _use(self, executor: ChunkExecutor | None) -> None:
        former, self._run = self._run, executor
        if former is not None:
            release(former)


def _with_names(func: Callable[[], Any]) -> Callable[[], Any]:
    """Return a batch of joblib with the names of its functions, if it is what it is today."""
    try:
        calls = [(_inner(fn), tuple(args), dict(keywords)) for fn, args, keywords in func.items]  # type: ignore[attr-defined]
    except Exception:
        return func
    return Batch(func, calls)


def _inner(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return what an object wraps that stands for a function, as those of scikit-learn."""
    inner = fn if isinstance(fn, FunctionType) else getattr(fn, "__dict__", {}).get("__wrapped__")
    return inner if isinstance(inner, FunctionType) else fn


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    """Return those options that are for the executor; raise TypeError if some are for nothing."""
    if unknown := options.keys() - _OF_EXECUTORS - _OF_JOBLIB:
        known = ", ".join(sorted(_OF_EXECUTORS))
        raise TypeError(f"the joblib backend 'thread_chunks' has no option {min(unknown)!r}. It has: {known}")
    return {name: value for name, value in options.items() if name in _OF_EXECUTORS}


def shared_executor(size: int, options: dict[str, Any]) -> ChunkExecutor:
    """Return the executor that all share, with so many workers, for a user who will `release` it.

    It is a new one if it is to have other options. The one before ends with its last user.
    """
    global _executor, _options
    with _lock:
        former = _executor if _executor is not None and _is_open(_executor) else None
        if former is not None and _are_same(_options, options):
            if former.chunk_size != size:
                former.resize(size)
            _users[former] += 1
            return former
        _executor = ChunkExecutor(size, **options)
        _options = options
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


def _are_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    try:
        return one == other
    except Exception:  # as for arrays among the arguments
        return False
