"""Memory-intensive computations in parallel, a chunk at a time, on Ray.

`ChunkExecutor` is a `concurrent.futures.ProcessPoolExecutor` whose workers are Ray actors;
`chunk` and `Chunker` are the one-line interface of thread-chunks 1 over it.

Words
-----
call
    One ``fn(*args, **kwargs)``.
series
    Many calls of one function, from `map`, `starmap` or `chunk`.
block
    The calls that go to a worker in one message.
worker
    One Ray actor, as the executor sees it.
outcome
    Value or error of one call, as data.
label
    What identifies a call within its series or block.
stored function
    The function that the executor was built with, and that its actors hold.
chunk_size
    How many calls may run at once, which is the number of workers; `max_workers` is its alias.
chunksize
    The standard library's word, an argument of `map`: calls in a block.

Rooms
-----
One folder for each thread, process or file format. From top to bottom, a room imports only from those below it.

================  =====================================  ====================  ==============
Room              What lives there                       Runs in               Entrance
================  =====================================  ====================  ==============
``_commands``     ``python -m thread_chunks``            a process of its own  `__main__`
top level         what users import, and the validation  the caller's thread   `executor`
                  of what they pass (``_arguments``)
``_series``       a series as its consumer sees it:      the caller's thread   ``start``
                  feeding, order, buffer, bar,
                  resumption from a checkpoint
``_ray``          all that imports Ray: sessions,        the dispatcher's      ``cluster``
                  nodes, options, actors as workers      thread
``_dispatch``     every call from its submission to      the dispatcher's      ``engine``
                  its outcome: queue, workers, blocks,   thread
                  retries, endings, starts
``_actor``        what runs in the worker: the running   the worker's process  ``runner``
                  block, memory, standard output
``_checkpoints``  the file: store, writer, rows,         the writer's thread   ``store``
                  identity of a call
``_wire``         pickling, ``__main__``, exceptions,    all                   ``pickling``
                  the protocol of messages
``_calls``        the nouns: calls, functions, blocks,   all                   ``calls``
                  series, supply, pace, mailbox
``_pictures``     a run as a page and as a trace         the caller's thread   `report`
``_system``       what is asked of the operating system  all                   ``cpus``
================  =====================================  ====================  ==============

The dispatcher knows no Ray: ``_dispatch.cluster`` and ``_dispatch.worker`` say what it asks of the world, and ``_ray``
does it. `errors`, `config`, `progress` and `report` are users' modules without imports of other rooms.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._ray import presence as _presence  # noqa: F401 (it watches, from now on, for forks and for Ray that the user imports)
from ._version import __version__ as __version__

if TYPE_CHECKING:
    from . import config
    from ._actor.here import call_seed, worker_index
    from .actor import LabelledActor
    from .checkpoint import Checkpoint
    from .chunker import Chunker, chunk
    from .errors import (
        CallTimeout,
        CheckpointFailedWarning,
        CheckpointRefused,
        CheckpointStaleWarning,
        ExecutorBroken,
        PicklingFailed,
        RemoteTraceback,
        UnpicklingFailed,
        WorkerLost,
        WorkerOutOfMemory,
    )
    from .executor import ChunkExecutor
    from .joblib_backend import register_joblib
    from .report import FunctionReport, Report, RunningCall, Spread

    RemoteLabelledActor: Any

__all__ = [
    "CallTimeout",
    "Checkpoint",
    "CheckpointFailedWarning",
    "CheckpointRefused",
    "CheckpointStaleWarning",
    "ChunkExecutor",
    "Chunker",
    "ExecutorBroken",
    "FunctionReport",
    "LabelledActor",
    "PicklingFailed",
    "RemoteLabelledActor",
    "RemoteTraceback",
    "Report",
    "RunningCall",
    "Spread",
    "UnpicklingFailed",
    "WorkerLost",
    "WorkerOutOfMemory",
    "call_seed",
    "chunk",
    "config",
    "register_joblib",
    "worker_index",
]

# Where the names are. A module is imported when one of its names is first asked for: a worker, whose process imports
# this package to start, needs a third of it.
_MODULES = {
    "_actor.here": ["call_seed", "worker_index"],
    "actor": ["LabelledActor"],
    "checkpoint": ["Checkpoint"],
    "chunker": ["Chunker", "chunk"],
    "config": [],
    "errors": [
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
    ],
    "executor": ["ChunkExecutor"],
    "joblib_backend": ["register_joblib"],
    "progress": [],
    "report": ["FunctionReport", "Report", "RunningCall", "Spread"],
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:  # type checkers would take any name for one of the package

    def __getattr__(name: str) -> Any:
        """Import what has a name, or the module of that name; make `RemoteLabelledActor`, which needs Ray."""
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        if name in _PLACES:
            value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
        elif name == "RemoteLabelledActor":
            from ._ray.options import remote_class
            from .actor import LabelledActor

            value = remote_class(LabelledActor)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, value)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
