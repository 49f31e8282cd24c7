"""Actors that users derive from `LabelledActor`, as programs for thread-chunks 1 do: all names but a few are theirs."""

from __future__ import annotations

import asyncio
import copy
import functools
import pickle
import sys
from dataclasses import dataclass

import pytest
import ray

from thread_chunks import Chunker, ChunkExecutor, LabelledActor, chunk

pytestmark = pytest.mark.usefixtures("ray_up")

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # as classes of a script travel

CALLS = [[x, 2] for x in range(5)]
POWERS = [x**2 for x in range(5)]


class WithoutSuper(LabelledActor):
    def __init__(self, func=None):
        self._func = func


class WithoutFunction(LabelledActor):
    """It has an `__init__` of its own, and no stored function unless somebody gives it one."""

    def __init__(self, func=None):
        if func is not None:
            self.set_func(func)


class WithAttributes(LabelledActor):
    """It has attributes that were the package's own once, or may be taken for such."""

    def __init__(self, func=None):
        self._functions, self._lock, self._block, self._begun = {}, None, None, 0
        self._thread, self._peak, self._streams, self._retired, self._dismissed = None, 0, None, True, True
        self._runner, self._control, self._turn, self._state, self._given_back = 1, 2, 3, 4, 5
        self.run, self.set_func, self.get_func, self.thread_chunks_run = 6, 7, 8, 9
        self._func = func


class WithMethods(LabelledActor):
    def look(self):
        return "look"

    def watch(self):
        return "watch"

    def surrender(self):
        return "surrender"

    def store_function(self):
        return "store_function"

    def run_block(self):
        return "run_block"

    def start_worker(self):
        return "start_worker"

    def end_worker(self):
        return "end_worker"

    def class_identity(self):
        return "class_identity"

    def _run(self):
        return "_run"

    def _stored(self):
        return "_stored"


class WithoutSubclassHook(LabelledActor):
    def __init_subclass__(cls, **kwargs):
        pass


class Run(WithoutSubclassHook):
    def run(self, label, *args):
        return super().run(label, *args)


class ReadsLabels(LabelledActor):
    def run(self, label, *args):
        assert label is not None
        return [label, self._func(*args)]


class Mixin:
    def run(self, label, *args):
        return super().run(label, *args)


class Mixed(Mixin, LabelledActor):
    pass


class MixedOfMixed(Mixed, list):
    __slots__ = ("more",)


class WithSlots(LabelledActor):
    __slots__ = ("_func", "model")

    def __init__(self, func=None):
        self._func, self.model = func, None


class WithClassAttribute(LabelledActor):
    _block = _lock = _functions = None
    _func = None


class WithGetattr(LabelledActor):
    def __getattr__(self, name):
        return f"no {name}"


class WithGetattribute(LabelledActor):
    def __getattribute__(self, name):
        if name.startswith("_thread_chunks"):
            raise RuntimeError("this name is not known here")
        return super().__getattribute__(name)

    def __setattr__(self, name, value):
        if name.startswith("_thread_chunks"):
            raise AttributeError(name)
        super().__setattr__(name, value)


class WithProperty(LabelledActor):
    @property
    def _func(self):
        return self.__dict__.get("function")

    @_func.setter
    def _func(self, func):
        self.__dict__["function"] = func

    @property
    def size(self):
        raise RuntimeError("nobody asked")


@dataclass
class Data(LabelledActor):
    _func: object = None
    scale: int = 1


class Frozen(LabelledActor):
    def __init__(self, func=None):
        self._func = func

    def __eq__(self, other):
        raise RuntimeError("not to be compared")

    __hash__ = None


class Copying(LabelledActor):
    def run(self, label, *args):
        copies = copy.copy(self), copy.deepcopy(self), pickle.loads(ray.cloudpickle.dumps(self))
        assert [twin.get_func()(*args) for twin in copies] == [self._func(*args)] * 3
        return super().run(label, *args)


class Generators(LabelledActor):
    def progress(self):
        yield from range(3)


class Stored(LabelledActor):
    """`set_func` and `get_func` are overridden."""

    def set_func(self, func):
        self.held = func

    def get_func(self):
        return self.held

    def __init__(self, func=None):
        self.set_func(func)


def wrapped(method):
    @functools.wraps(method)
    def run(self, label, *args):
        return method(self, label, *args)

    return run


class Decorated(LabelledActor):
    run = wrapped(LabelledActor.run)


class AsyncRun(LabelledActor):
    async def run(self, label, *args):
        await asyncio.sleep(0)
        return label, self._func(*args)


class AsyncRunOfMixin(LabelledActor):
    async def run(self, label, *args):
        return await self.helper(label, *args)

    async def helper(self, label, *args):
        return super().run(label, *args)


class AsyncSubclass(AsyncRunOfMixin):
    async def run(self, label, *args):
        return await super().run(label, *args)


class AsyncAll(LabelledActor):
    def __init__(self, func=None):
        self._func = func

    async def run(self, label, *args):
        return label, (await self.get_func())(*args)

    async def set_func(self, func):
        await asyncio.sleep(0)
        self._func = func

    async def get_func(self):
        await asyncio.sleep(0)
        return self._func


class AsyncSetAndGet(LabelledActor):
    async def set_func(self, func):
        await asyncio.sleep(0)
        self._func = func

    async def get_func(self):
        await asyncio.sleep(0)
        return self._func


class AsyncOther(LabelledActor):
    async def progress(self):
        return 1


class AsyncGenerator(LabelledActor):
    async def progress(self):
        yield 1


class AsyncClassMethod(LabelledActor):
    @classmethod
    async def make(cls):
        return cls()


ASYNC = [AsyncRun, AsyncSubclass, AsyncAll, AsyncSetAndGet, AsyncOther, AsyncGenerator, AsyncClassMethod]
KINDS = [
    *(LabelledActor, WithoutSuper, WithoutFunction, WithAttributes, WithMethods, Run, ReadsLabels, Mixed, MixedOfMixed),
    *(WithSlots, WithClassAttribute, WithGetattr, WithGetattribute, WithProperty, Data, Frozen, Copying),
    *(Generators, Stored, Decorated, *ASYNC),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


def test_handles_of_actors(kind):
    use([ray.remote(kind).remote(pow)])


@pytest.mark.parametrize("kind", [WithoutSuper, WithAttributes, WithMethods, AsyncRun], ids=lambda kind: kind.__name__)
def test_handles_of_actors_that_reserve_a_cpu(kind):
    remote = ray.remote(num_cpus=1)(kind)
    use([remote.remote(pow), remote.remote(pow)])


def use(actors):
    assert chunk(None, CALLS, actors) == POWERS
    assert chunk(divmod, CALLS, actors) == [divmod(x, 2) for x in range(5)]
    with Chunker(actors=actors) as chunker:
        assert chunker(CALLS) == [divmod(x, 2) for x in range(5)]
        assert chunker(CALLS, pow) == POWERS
    with ChunkExecutor(actors=actors) as executor:
        assert list(executor.starmap(CALLS)) == POWERS
        assert executor.submit(abs, -3).result() == 3
        assert list(executor.map(lambda x: -x, range(5))) == [0, -1, -2, -3, -4]
        with pytest.raises(TypeError):
            executor.submit(None, "a", None).result()
    assert ray.get(actors[0].run.remote("label", 3, 2)) in [("label", 9), ["label", 9]]  # still the user's
    assert ray.get(actors[0].get_func.remote()) is pow


def test_classes_of_actors(kind):
    with ChunkExecutor(pow, 1, actor_class=kind, memory_limit="8GiB", call_timeout=100) as executor:
        assert list(executor.starmap(CALLS * 20)) == POWERS * 20
        assert list(executor.map(lambda x: -x, range(5))) == [0, -1, -2, -3, -4]
        executor.set_func(divmod)
        assert list(executor.starmap(CALLS)) == [divmod(x, 2) for x in range(5)]
        assert ray.get(next(executor.starmap([[7, 2]], results="refs"))) == (3, 1)


def test_methods_of_any_name_are_the_users():
    actor = ray.remote(WithMethods).remote(abs)
    for name in ("look", "watch", "surrender", "store_function", "run_block", "start_worker", "class_identity", "_run"):
        assert ray.get(getattr(actor, name).remote()) == name
    assert chunk(None, [[-1]], [actor]) == [1]
    assert ray.get(actor.look.remote()) == "look"


def test_a_class_that_never_calls_the_base_may_be_derived_from_in_main():
    class Local(LabelledActor):
        def __init__(self, func=None):
            self._func = func
            self._lock = None

        async def run(self, label, *args):
            return label, -self._func(*args)

    assert chunk(None, CALLS, [ray.remote(Local).remote(pow)]) == [-x for x in POWERS]


class Session(LabelledActor):
    """Its calls meet others of the actor in one event loop, as on Ray alone."""

    def __init__(self, func=None):
        super().__init__(func)
        self.loops, self.go, self.most, self.now = set(), asyncio.Event(), 0, 0

    async def run(self, label, *args):
        self.loops.add(asyncio.get_running_loop())
        self.now += 1
        self.most = max(self.most, self.now)
        await self.go.wait()
        self.now -= 1
        return super().run(label, *args)

    async def open(self):
        self.loops.add(asyncio.get_running_loop())
        self.go.set()

    async def seen(self):
        return len(self.loops), self.most


def test_async_methods_are_answered_while_a_call_waits_and_calls_take_turns():
    actor = ray.remote(Session).remote(abs)
    with ChunkExecutor(actors=[actor]) as one, ChunkExecutor(actors=[actor]) as other:
        futures = [executor.submit(None, -x) for executor in (one, other) for x in range(3)]
        ray.get(actor.open.remote())
        assert [future.result() for future in futures] == [0, 1, 2, 0, 1, 2]
    assert ray.get(actor.seen.remote()) == (1, 1)


class Waiting(LabelledActor):
    async def run(self, label, *args):
        return label, await self.waits(*args)

    async def waits(self, seconds):
        await asyncio.sleep(seconds)
        return seconds


def test_a_call_that_waits_can_be_looked_at_surrendered_and_cancelled():
    with ChunkExecutor(abs, 2, actor_class=Waiting) as executor:
        future = executor.submit(None, 3600)
        others = list(executor.map([0] * 20))  # which do not wait behind it
        assert others == [0] * 20
        (call,) = executor.running(stacks=True)
        assert "await self.waits(*args)" in call.stack
        assert "asyncio.sleep(seconds)" in call.stack
        assert "runner.py" not in call.stack
        assert executor.cancel(future)
        assert list(executor.map([0, 0])) == [0, 0]


class Failing(LabelledActor):
    async def run(self, label, *args):
        await asyncio.sleep(0)
        raise {0: KeyError, 1: SystemExit, 2: asyncio.CancelledError, 3: StopIteration}[args[0]](args[0])


def test_what_an_async_call_raises_is_its_outcome():
    with ChunkExecutor(abs, 1, actor_class=Failing) as executor:
        for x, kind in enumerate([KeyError, SystemExit, asyncio.CancelledError, RuntimeError]):
            assert type(executor.submit(None, x).exception()) is kind
        assert executor.submit(divmod, 7, 2).result() == (3, 1)


class Large:
    """A function that goes through the object store."""

    def __init__(self, which):
        self.which, self.data = which, bytes(200_000)

    def __call__(self, x):
        return self.which, x


def test_each_call_has_the_function_that_was_stored_last():
    with ChunkExecutor(Large(0), 2, actor_class=AsyncRunOfMixin) as executor:
        for which in range(1, 30):
            futures = [executor.submit(None, x) for x in range(4)]
            executor.set_func(Large(which))
            assert [future.result() for future in futures] == [(which - 1, x) for x in range(4)]


def test_an_actor_that_is_run_by_hand():
    actor = LabelledActor(pow)
    assert actor.run("label", 2, 3) == ("label", 8)
    assert asyncio.run(AsyncSubclass(pow).run("label", 2, 3)) == ("label", 8)
    assert vars(actor) == {"_func": pow}
