"""A cluster without Ray: each actor is a thread, and messages still travel as bytes.

Only what the package asks of Ray is replaced, so the contract suite runs the rest of the package
as it is, and the same suite on Ray shows that the fake tells the truth. The facts about Ray that it
relies on are in `test_facts_about_ray.py`, which runs on both.
"""

from __future__ import annotations

import pickle
import threading
import traceback
from concurrent.futures import Future
from queue import SimpleQueue

from ray.exceptions import ActorDiedError, RayTaskError

from thread_chunks import ChunkExecutor
from thread_chunks._actor.entry import runner_of
from thread_chunks._ray.channels import Channels
from thread_chunks._ray.cluster import RayCluster
from thread_chunks._ray.room import Resources
from thread_chunks._wire.protocol import Ready


class Message:
    """A message in transit: bytes, and buffers beside them that arrive read-only."""

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

    def split(self, count):
        """Return a reference to each of so many values that this one is to be."""
        references = [FakeReference() for _ in range(count)]

        def resolve(future):
            for place, reference in enumerate(references):
                if future.exception() is None:
                    reference.future().set_result(future.result()[place])
                else:
                    reference.future().set_exception(future.exception())

        self._future.add_done_callback(resolve)
        return references


class FakeMethod:
    def __init__(self, handle, name, returns=1):
        self._handle = handle
        self._name = name
        self._returns = returns

    def options(self, *, num_returns):
        return FakeMethod(self._handle, self._name, num_returns)

    def remote(self, *args):
        reference = FakeReference()
        self._handle.send(self._name, args, reference.future())
        return reference if self._returns == 1 else reference.split(self._returns)


class FakeHandle:
    """An actor with a thread, which ends when its last handle is dropped.

    A thread cannot be killed: what a dead actor runs goes on, and nothing else is run.
    """

    def __init__(self, actor_class):
        self._tasks = SimpleQueue()
        self._state = State(actor_class)
        self.up = self._state.up
        threading.Thread(target=_work, args=(self._tasks, self._state), daemon=True).start()

    def send(self, name, args, future):
        message = Message(args)
        self._state.expect(future)
        if name == "thread_chunks_start":
            self._state.senders.append(args[0].identity)
        self._tasks.put((name, message, future))

    def die(self):
        self._state.die()

    def __getattr__(self, name):
        if name.startswith("_") or not hasattr(self._state.actor_class, name):
            raise AttributeError(name)
        return FakeMethod(self, name)

    def __del__(self):
        self._tasks.put(None)


class State:
    """What the threads of an actor share."""

    def __init__(self, actor_class):
        self.actor_class = actor_class
        self.actor = None
        self.senders = []  # the executors that use it
        self.up = threading.Event()  # whether it has answered
        self._lock = threading.Lock()
        self._dead = False  # under the lock
        self._unanswered = set()  # under the lock

    def make(self):
        """Make the actor. One that cannot be made is dead."""
        try:
            self.actor = self.actor_class(None)
        except Exception:
            self.die()

    def expect(self, future):
        with self._lock:
            if not self._dead:
                self._unanswered.add(future)
                return
        future.set_exception(ActorDiedError())

    def answers(self, future):
        """Return whether the caller answers."""
        with self._lock:
            expected = future in self._unanswered
            self._unanswered.discard(future)
        return expected

    @property
    def dead(self):
        with self._lock:
            return self._dead

    def die(self):
        with self._lock:
            self._dead = True
            unanswered, self._unanswered = self._unanswered, set()
        if self.actor is not None:
            for sender in self.senders:
                runner_of(self.actor).end(sender)
        for future in unanswered:
            future.set_exception(ActorDiedError())


def die():
    """Let the actor die whose call this is, as its process would."""
    _here.state.die()


_here = threading.local()


def _work(tasks, state):
    _here.state = state
    state.make()
    while (task := tasks.get()) is not None:
        if not state.dead:
            _answer(state, *task)
        del task
        state.up.set()


def _answer(state, name, message, future):
    try:
        outcome = Message(getattr(state.actor, name)(*message.open())).open()
    except Exception as error:
        if state.answers(future):
            future.set_exception(RayTaskError(name, traceback.format_exc(), error).as_instanceof_cause())
    else:
        if isinstance(outcome, Ready):
            outcome.host = "elsewhere"  # so that nothing watches its process, which is this one
        if state.answers(future):
            future.set_result(outcome)


class FakeNodes:
    """One node, which stays."""

    leaving = frozenset()
    is_stale = False
    largest_memory = float(2**40)
    cpus = 2

    def look(self, workers):
        pass

    def counts_on(self, node):
        return True

    def has_room_for(self, asked):
        return "GPU" not in asked

    def take_place(self):
        return ""

    def leave_place(self, node):
        pass

    def home_of(self, arguments):
        return ""


class FakeRuntime:
    """What `RayRuntime` is, without Ray."""

    alive = True
    default_size = 2
    streams = None  # a thread prints where the driver prints
    is_alone = False

    def __init__(self):
        self.nodes = FakeNodes()

    def actor_class(self, cls, options):
        return cls

    def join(self, *, persistent):
        self.channels = Channels()

    def leave(self):
        self.channels.close()

    def reachable(self):
        return True

    def resources(self):
        return Resources({"CPU": 2.0}, {"CPU": 2.0})

    @staticmethod
    def node():
        return ""

    def make_actor(self, actor_class, options, place, starting):
        return FakeHandle(actor_class)

    def put(self, obj):
        return Message(obj).open()

    @staticmethod
    def get(obj):
        return obj

    def kill(self, handle):
        handle.die()


class FakeCluster(RayCluster):
    """`RayCluster` on the fake runtime."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs, runtime=FakeRuntime())


class FakeExecutor(ChunkExecutor, cluster=FakeCluster):
    """`ChunkExecutor` on the fake cluster."""
