"""A cluster without Ray: each actor is a thread, and messages still travel as bytes.

Only what `RayCluster` asks of Ray is replaced, so the contract suite runs the rest of the package
as it is, and the same suite on Ray shows that the fake tells the truth.
"""

from __future__ import annotations

import pickle
import threading
import traceback
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import SimpleQueue

from ray.exceptions import ActorDiedError, RayTaskError

from thread_chunks import ChunkExecutor
from thread_chunks._ray.cluster import RayCluster


class Message:
    """What travels: bytes, and the buffers beside them, which arrive read-only."""

    def __init__(self, obj):
        buffers = []
        self._data = pickle.dumps(obj, 5, buffer_callback=buffers.append)
        self._buffers = [bytes(buffer) for buffer in buffers]

    def open(self):
        return pickle.loads(self._data, buffers=self._buffers)


class FakeReference:
    def __init__(self):
        self._future = Future()

    def future(self):
        return self._future


class FakeMethod:
    def __init__(self, handle, name, group="calls"):
        self._handle = handle
        self._name = name
        self._group = group

    def options(self, *, concurrency_group):
        return FakeMethod(self._handle, self._name, concurrency_group)

    def remote(self, *args):
        reference = FakeReference()
        self._handle.send(self._group, self._name, Message(args), reference.future())
        return reference


class FakeHandle:
    """An actor with a thread for each of its groups, which ends when its last handle is dropped."""

    def __init__(self, actor_class):
        self._tasks = {group: SimpleQueue() for group in ("calls", "control", "watch")}
        self._unanswered = set()
        self._dead = False
        self.up = threading.Event()
        self._actor = actor = actor_class(None)
        for tasks in self._tasks.values():
            threading.Thread(target=_work, args=(tasks, actor, self.up), daemon=True).start()

    def send(self, group, name, message, future):
        if self._dead:
            future.set_exception(ActorDiedError())
        else:
            self._unanswered.add(future)
            future.add_done_callback(self._unanswered.discard)
            self._tasks[group].put((name, message, future))

    def die(self):
        self._dead = True
        with self._actor._lock:
            self._actor._retired, block = True, self._actor._block
        if block is not None:
            block.surrender()  # nothing of it is run any more, but for the call that runs
        for future in list(self._unanswered):
            _resolve(future.set_exception, ActorDiedError())

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return FakeMethod(self, name)

    def __del__(self):
        for tasks in self._tasks.values():
            tasks.put(None)


def _work(tasks, actor, up):
    while (task := tasks.get()) is not None:
        _answer(actor, *task)
        del task
        up.set()


def _answer(actor, name, message, future):
    try:
        outcome = Message(getattr(actor, name)(*message.open())).open()
    except Exception as error:  # which arrives as on Ray: as that of a task, and of its own type
        task_error = RayTaskError(name, traceback.format_exc(), error, ip="", proctitle="")
        _resolve(future.set_exception, task_error.as_instanceof_cause())
    else:
        _resolve(future.set_result, outcome)


def _resolve(resolve, outcome):
    with suppress(InvalidStateError):  # the actor died before it answered
        resolve(outcome)


class FakeNodes:
    """One node, which stays."""

    leaving = frozenset()

    def home_of(self, arguments):
        return ""

    def leave_place(self, node):
        pass


class FakeCluster(RayCluster):
    alive = True

    def reachable(self):
        return True

    def _join(self, actor_class, actor_options, persistent):
        self._actor_class = actor_class
        self._is_open = False
        self.nodes = FakeNodes()

    def _leave(self):
        pass

    default_size = 2

    @staticmethod
    def node():
        return ""

    def _make_actor(self, place):
        return FakeHandle(self._actor_class)

    def _put(self, packed):
        return packed

    address_of_streams = None  # a thread prints where the driver prints

    def kill(self, handle):
        handle.die()


class FakeExecutor(ChunkExecutor):
    """`ChunkExecutor` on the fake cluster."""

    _cluster_type = FakeCluster
