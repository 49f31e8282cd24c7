"""joblib, and with it scikit-learn, on the workers of a `ChunkExecutor`."""

from __future__ import annotations

__all__ = ["register_joblib"]


def register_joblib() -> None:
    """Make ``"thread_chunks"`` a backend of joblib, for `joblib.Parallel` and for libraries with an ``n_jobs``.

    All `Parallel` calls share one executor, which lives until the program ends.

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

    from ._joblib import Backend

    joblib.register_parallel_backend("thread_chunks", Backend)
