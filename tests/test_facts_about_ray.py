"""What the fake cluster takes for true of Ray, on both."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import ray
from fake_cluster import FakeRuntime
from ray.exceptions import ActorDiedError, RayTaskError

from thread_chunks._ray.runtime import RayRuntime

OPTIONS = {"num_cpus": 0}


@pytest.fixture(params=["fake", "ray"])
def runtime(request):
    """What is asked for actors."""
    if request.param == "ray":
        request.getfixturevalue("ray_up")
    runtime = FakeRuntime() if request.param == "fake" else RayRuntime()
    runtime.join(persistent=False)
    yield runtime
    runtime.leave()


@pytest.fixture
def make(runtime):
    """Makes an actor of a class."""

    def make(cls):
        return runtime.make_actor(runtime.actor_class(cls, OPTIONS), OPTIONS, "", 0)

    return make


def error_of(reference):
    return reference.future().exception(timeout=60)


def value_of(reference):
    return reference.future().result(timeout=60)


def actor_class():
    # A local class travels by value, and no worker needs this module.
    class Actor:
        def __init__(self, func):
            self.func, self.seen = func, []

        def fail(self):
            raise KeyError("failed")

        def unpicklable(self):
            return threading.Lock()

        def note(self, x):
            self.seen.append(x)

        def noted(self):
            return self.seen, self.func

        def wait(self, seconds):
            time.sleep(seconds)
            return seconds

        def mutate(self, xs):
            xs.append(1)
            return xs

        def is_writable(self, array):
            return array.flags.writeable

        def answer(self):
            return len(self.seen)

    return Actor


def test_an_error_of_a_method_is_the_error_of_a_task_and_the_actor_lives(make):
    actor = make(actor_class())
    error = error_of(actor.fail.remote())
    assert isinstance(error, RayTaskError)
    assert isinstance(error, KeyError)
    assert type(error.cause) is KeyError
    assert error.cause.args == ("failed",)
    assert "in fail" in str(error)
    assert value_of(actor.answer.remote()) == 0


def test_what_cannot_be_pickled(make):
    actor = make(actor_class())
    with pytest.raises(TypeError):
        actor.note.remote(threading.Lock())  # at once
    error = error_of(actor.unpicklable.remote())
    assert isinstance(error, RayTaskError)
    assert isinstance(error.cause, TypeError)
    assert value_of(actor.noted.remote()) == ([], None)


def test_an_actor_is_made_with_none_and_gets_its_messages_in_order(make):
    actor = make(actor_class())
    for x in range(300):
        actor.note.remote(x)
    assert value_of(actor.noted.remote()) == (list(range(300)), None)


def test_arguments_are_copies_and_their_large_buffers_are_read_only(make):
    actor, xs = make(actor_class()), [0]
    assert value_of(actor.mutate.remote(xs)) == [0, 1]
    assert xs == [0]
    assert value_of(actor.is_writable.remote(np.zeros(1_000_000))) is False


def test_the_death_of_an_actor_is_the_error_of_all_that_it_has_not_answered(make, runtime):
    actor = make(actor_class())
    value_of(actor.answer.remote())
    unanswered = [actor.wait.remote(3600), actor.answer.remote()]
    runtime.kill(actor)
    for reference in [*unanswered, actor.answer.remote()]:
        assert isinstance(error_of(reference), ActorDiedError)


def test_an_actor_that_cannot_be_made_is_dead(make):
    class Actor:
        def __init__(self, func):
            raise KeyError("not made")

        def answer(self):
            pass

    actor = make(Actor)
    assert isinstance(error_of(actor.answer.remote()), ActorDiedError)
    assert isinstance(error_of(actor.answer.remote()), ActorDiedError)


def test_an_actor_without_a_handle_answers_what_it_was_asked(make):
    actor = make(actor_class())
    references = [actor.wait.remote(0.2), actor.answer.remote()]
    del actor
    assert [value_of(reference) for reference in references] == [0.2, 0]


def test_a_handle_has_the_methods_of_the_class_and_no_others(make):
    actor = make(actor_class())
    assert hasattr(actor, "answer")
    assert not hasattr(actor, "question")


def test_a_value_goes_through_the_store(runtime):
    reference = runtime.put(b"value")
    assert (reference if isinstance(reference, bytes) else ray.get(reference)) == b"value"
    assert runtime.alive
    assert runtime.reachable()
    assert runtime.nodes.counts_on(runtime.node())


def test_ray_keeps_no_order_in_an_event_loop(ray_up):
    class Actor:
        def __init__(self):
            self.seen = []

        async def nothing(self):
            pass

        def note(self, x):
            self.seen.append(x)

        def noted(self):
            return self.seen

    actor = ray.remote(Actor).remote()
    ray.get([actor.note.remote(x) for x in range(300)])
    seen = ray.get(actor.noted.remote())
    assert sorted(seen) == list(range(300))
    assert seen != sorted(seen), "if Ray does, messages to such actors need not be sent one by one"
