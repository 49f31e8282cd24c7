"""The fake cluster fails as Ray fails."""

from __future__ import annotations

import time

import pytest
import ray
from fake_cluster import FakeExecutor, FakeHandle
from ray.exceptions import ActorDiedError, RayTaskError

from thread_chunks import LabelledActor


def actor_class():
    class Failing(LabelledActor):  # local, so that it travels by value
        def fail(self):
            raise LookupError("no model")

    return Failing


@pytest.fixture
def started(executor_class):
    """An actor, and the way to kill it."""
    if executor_class is FakeExecutor:
        handle = FakeHandle(actor_class())
        return handle, handle.die
    handle = ray.remote(num_cpus=0)(actor_class()).remote(None)
    return handle, lambda: ray.kill(handle)


def test_an_error_of_a_method_is_that_of_a_task(started):
    handle, _ = started
    error = handle.fail.remote().future().exception(60)
    assert isinstance(error, RayTaskError)
    assert isinstance(error, LookupError)
    assert type(error.cause) is LookupError
    assert error.cause.args == ("no model",)


def test_what_a_dead_actor_is_asked_fails_as_it_is_dead(started):
    handle, kill = started
    kill()
    deadline = time.monotonic() + 60
    while type(error := handle.fail.remote().future().exception(60)) is not ActorDiedError:
        assert time.monotonic() < deadline  # it takes effect after a while
        assert isinstance(error, LookupError)
