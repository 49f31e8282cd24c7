"""The exceptions and warnings of the package.

All derive from the standard library's, so that code written for `ProcessPoolExecutor` catches them. What the user's
function raises arrives as it was raised.
"""

from __future__ import annotations

import pickle
from concurrent.futures.process import BrokenProcessPool

__all__ = [
    "CallTimeout",
    "CheckpointFailedWarning",
    "CheckpointRefused",
    "CheckpointStaleWarning",
    "ExecutorBroken",
    "PicklingFailed",
    "RemoteTraceback",
    "UnpicklingFailed",
    "WorkerLost",
    "WorkerOutOfMemory",
]


class WorkerLost(BrokenProcessPool):
    """A worker died while it ran this call; the executor goes on with a new worker.

    Unlike that of `ProcessPoolExecutor`, this `BrokenProcessPool` concerns one call, or the short calls that were sent
    together with it. The call may have run in part. With `max_retries` it is retried. The message names the call, the
    process, its host, and how it died.

    Examples
    --------
    >>> import os
    >>> from thread_chunks import ChunkExecutor, WorkerLost
    >>> with ChunkExecutor(1) as executor:  # doctest: +SKIP
    ...     try:
    ...         executor.submit(os._exit, 1).result()
    ...     except WorkerLost as error:
    ...         print(error)
    """


class WorkerOutOfMemory(WorkerLost, MemoryError):
    """A worker was killed for its memory while it ran this call: by Ray, the kernel, or because of `memory_limit`.

    After Ray or the kernel killed a worker, one call fewer runs at once. Use a smaller `chunk_size`, or `max_retries`,
    which runs the call again among fewer others.
    """


class CallTimeout(TimeoutError):
    """A call took longer than its `call_timeout`, and its worker was killed.

    Other calls go on. Only if the call held the GIL, the worker could not say which of the calls that were sent
    together had run. These are retried if `max_retries` allows it, or fail with `WorkerLost`.

    Examples
    --------
    >>> import time
    >>> from thread_chunks import CallTimeout, ChunkExecutor
    >>> with ChunkExecutor(1, call_timeout=0.2) as executor:
    ...     try:
    ...         executor.submit(time.sleep, 3600).result()
    ...     except CallTimeout:
    ...         print("it took too long")
    it took too long
    """


class ExecutorBroken(BrokenProcessPool):
    """No worker can run calls any more: every pending call gets this, and new ones are refused.

    Raised when the initializer fails, when workers cannot be started, and when Ray is gone. The reason is in
    ``__cause__``.
    """


class PicklingFailed(pickle.PicklingError):
    """An argument, a value or an exception cannot be pickled; the message names its type.

    Only the call that it belongs to fails. The reason is in ``__cause__``.
    """


class UnpicklingFailed(pickle.UnpicklingError):
    """An object cannot be unpickled on arrival; only the call that it belongs to fails.

    The most frequent reason is a module that the worker cannot import. The reason is in ``__cause__``.
    """


class CheckpointRefused(ValueError):
    """The file at `path` is not a usable checkpoint: it is something else, damaged, or of a newer version.

    Raised before anything runs. The file is left byte for byte as it was.
    """


class CheckpointFailedWarning(RuntimeWarning):
    """Values are no longer written to the checkpoint, since the disk is full or the file was removed.

    The computation goes on. The next run finds what was written before, unless the file was removed.
    """


class CheckpointStaleWarning(UserWarning):
    """The checkpoint has values of a function of this name that had other code, or used other code or globals.

    The message names what differs. The values are kept, and used again when all is as it was. Values in a file of an
    older version, which did not note what a function uses by name, are used, and the message says so.
    """


class RemoteTraceback(Exception):
    """The worker's traceback, as the ``__cause__`` of an error that was raised there.

    Parameters
    ----------
    text : str
        The formatted traceback, chained exceptions included.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'
