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

Map
---
A module imports only from those below it.

===================  ==========================================================================
``__main__``         ``python -m thread_chunks status``
`chunker`            `chunk`, `Chunker`: thin facades
`executor`           `ChunkExecutor`: the contract of `concurrent.futures.Executor`
``_options``         the options of series, and the stored function
``_running_calls``   what runs now
``_resuming``        the consumer's side of a series with a checkpoint
``_recorder``        writes the values of a series to its checkpoint
`checkpoint`         `Checkpoint`: a look into a checkpoint file
``_store``           the checkpoint file: an SQLite database, and all that is asked of it
``_threads``         the dispatchers' threads, and the end of the program
``_mapping``         the consumer's side of a series: order, buffer, time-out, bar
``_cluster``         makes workers of Ray actors, ships functions
``_workers``         one Ray actor as a worker, Ray's errors as ours
``_session``         who starts Ray, and who stops it
``_nodes``           the cluster's nodes, and where the next worker goes
``_connecting``      starts Ray, or connects to a cluster, and says what is in the way
``_dispatcher``      owns every call from its submission to its outcome
``_lookout``         sees whether the cluster is there, which nodes are about to go, who waits for room
``_assignment``      which worker gets which block
``_endings``         ends calls that run: out of time, of too much memory, cancelled, or all
``_recovery``        what becomes of calls that their worker did not bring to an end
``_starts``          starts workers, and no more when there is no hope
``_crew``            which workers there are, and which blocks each of them has
``_queue``           what waits for a worker, and how blocks are cut from it
``_messages``        what reaches the dispatcher, and what it asks of the world
`actor`              `LabelledActor`: what runs inside an actor
``_running``         the block that an actor runs, and how it is taken back
``_wire``            calls and outcomes to bytes and buffers, and back
``_arguments``       what users pass, checked
``_blocks``          the nouns: series and blocks
``_supply``          the calls of a series that are not in a block yet
``_calls``           the nouns: calls and outcomes
``_alarms``          what is to be done about running blocks when their time comes
``_main_functions``  functions of ``__main__``, which travel by value
``_exceptions``      exceptions that survive pickling
``_mailbox``         a queue that a time-out can be relied on with
``_inspection``      what is at a path, before it is used for a checkpoint
``_rows``            what of calls and of values goes into a checkpoint file
``_identity``        what makes a call the same call as one of an earlier run
``_sizing``          how many calls make the next block
``_terminal``        lets workers print where the driver prints
`report`             what an executor says about its calls
``_memory``          how much memory a process has
`progress`           a bar, or nothing
`config`             the defaults
`errors`             every failure of the package's own
===================  ==========================================================================
"""

from . import config
from ._cluster import RemoteLabelledActor
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
from .report import FunctionReport, Report, RunningCall, Spread

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
    "chunk",
    "config",
]
