"""joblib, and with it scikit-learn, on the workers of a `ChunkExecutor`."""

from __future__ import annotations

from functools import partial
from typing import Any

__all__ = ["register_joblib"]


def register_joblib(**options: Any) -> None:
    """Make ``"thread_chunks"`` a backend of joblib, for `joblib.Parallel` and for libraries with an ``n_jobs``.

    All `Parallel` calls share one executor, which lives until the program ends, or until one has other options.

    Parameters
    ----------
    **options
        Of the executor, as for `ChunkExecutor`: `initializer`, `initargs`, `max_retries`, `call_timeout`,
        `memory_limit`, `max_tasks_per_child`, `zero_copy`, `actor_class`, `actor_options`, `forward_logging`.
        `joblib.parallel_config` and `joblib.Parallel` take them, too, and theirs come first. To the executor a batch
        of joblib is one call: with ``batch_size=1``, each call of yours is.

    Raises
    ------
    TypeError
        If there is no such option.

    Examples
    --------
    >>> import joblib
    >>> from thread_chunks import register_joblib
    >>> register_joblib()
    >>> with joblib.parallel_config(backend="thread_chunks", n_jobs=2):  # doctest: +SKIP
    ...     joblib.Parallel()(joblib.delayed(pow)(x, 2) for x in range(5))
    [0, 1, 4, 9, 16]
    """
    import joblib  # which takes a while

    from ._joblib import ThreadChunksBackend

    ThreadChunksBackend(**options)  # for its error
    # The class itself where it can be: joblib's own tests compare it with that of the backend in use.
    factory = partial(ThreadChunksBackend, **options) if options else ThreadChunksBackend
    joblib.register_parallel_backend("thread_chunks", factory)
