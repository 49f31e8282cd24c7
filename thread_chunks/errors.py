"""Every failure of the package's own, in words for the user.

All are rooted in the standard library's exceptions, so that code written for
`ProcessPoolExecutor` catches them. An exception that the user's function raises is none of
these: it arrives as it was raised.
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

    Unlike `ProcessPoolExecutor`'s, this `BrokenProcessPool` concerns the block only that the worker
    had: one call, or several if they are short or `map` was given a `chunksize`. The call may have
    run in part, or not at all if it stood behind another or the worker died while it was idle. With
    `max_retries` such calls are run again. The text names the call, or says how many there were; and the process,
    its host, and how it died.

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

    After Ray or the kernel killed a worker, one call fewer runs at once. Give the executor a smaller `chunk_size`,
    or `max_retries`, which runs such calls again among fewer others.
    """


class CallTimeout(TimeoutError):
    """A call took longer than its `call_timeout`, and its worker was killed.

    Other calls are not touched, unless the call held the interpreter lock, so that the worker could not say which
    calls of those that it was sent together had run: then those are run again, if `max_retries` allows it, or get
    `WorkerLost`.

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

    Raised when the initializer fails, when workers cannot be started, and when Ray is gone.
    The cause is in ``__cause__``.
    """


class PicklingFailed(pickle.PicklingError):
    """An argument, a value or an exception cannot be sent; the text names its type.

    Only the call that it belongs to fails. The reason is in ``__cause__``.
    """


class UnpicklingFailed(pickle.UnpicklingError):
    """What was sent cannot be rebuilt on arrival; only the call that it belongs to fails.

    The most frequent reason is a module that the worker cannot import. The reason is in
    ``__cause__``.
    """


class CheckpointRefused(ValueError):
    """What is at `path` is not a checkpoint that can be used: something else, damaged, or of a newer version.

    Raised before anything runs; the file is left byte for byte as it was.
    """


class CheckpointFailedWarning(RuntimeWarning):
    """Values are no longer written to the checkpoint: the disk is full, say, or the file was removed.

    The computation goes on. What had been written before stays, and is found by the next run.
    """


class CheckpointStaleWarning(UserWarning):
    """The checkpoint has values of a function of this name with another code, or that used other code or globals.

    The text names what differs. The values are kept, and not used; they are used again when all is as it was. Values
    in a file of an older version, which did not note what a function uses by name, are used, and the text says so.
    """


class RemoteTraceback(Exception):
    """The traceback of the worker's side, as the ``__cause__`` of an error that comes from there.

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
