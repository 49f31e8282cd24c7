"""A cluster without Ray: each actor is a thread, and messages still travel as bytes.

Only what `RayCluster` asks of Ray is replaced, so the contract suite runs the rest of the package
as it is, and the same suite on Ray shows that the fake tells the truth.
"""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import Future
from queue import SimpleQueue

from ray.exceptions import ActorDiedError

from thread_chunks import ChunkExecutor
from thread_chunks._cluster import RayCluster


def carried(obj):
    """Return what arrives of `obj` on the other side."""
    return pickle.loads(pickle.dumps(obj, 5))


class FakeReference:
    def __init__(self):
        self._future = Future()

    def future(self):
        return self._future


class FakeMethod:
    def __init__(self, handle, name):
        self._handle = handle
        self._name = name

    def remote(self, *args):
        reference = FakeReference()
        self._handle.tasks.put((self._name, pickle.dumps(args, 5), reference.future()))
        return reference


class FakeHandle:
    """An actor in a thread, which ends when its last handle is dropped."""

    def __init__(self, actor_class):
        self.tasks = SimpleQueue()
        threading.Thread(target=_work, args=(self.tasks, actor_class), daemon=True).start()

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return FakeMethod(self, name)

    def __del__(self):
        self.tasks.put(None)


def _work(tasks, actor_class):
    actor = actor_class(None)
    dead = False
    while (task := tasks.get()) is not None:
        dead = dead or task[0] == "die"
        _answer(actor, dead, *task)
        del task


def _answer(actor, dead, name, args, future):
    if dead:
        future.set_exception(ActorDiedError())
        return
    try:
        outcome = carried(getattr(actor, name)(*pickle.loads(args)))
    except Exception as error:
        future.set_exception(error)
    else:
        future.set_result(outcome)


class FakeCluster(RayCluster):
    alive = True

    def _join(self, actor_class, actor_options, persistent):
        self._actor_class = actor_class

    def _leave(self):
        pass

    def _make_actor(self):
        return FakeHandle(self._actor_class)

    def _put(self, packed):
        return packed

    def kill(self, handle):
        handle.die.remote()


class FakeExecutor(ChunkExecutor):
    """`ChunkExecutor` on the fake cluster."""

    _cluster_type = FakeCluster
