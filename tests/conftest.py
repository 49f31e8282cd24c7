from __future__ import annotations

import threading
import time

import pytest
import ray
from fake_cluster import FakeExecutor

from thread_chunks import ChunkExecutor, config


@pytest.fixture(scope="session")
def ray_up():
    """Ray, initialised by the user of the package; one for the whole run."""
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


@pytest.fixture(params=["fake", "ray"])
def executor_class(request):
    """The class under test, on the fake cluster and on Ray."""
    if request.param == "ray":
        request.getfixturevalue("ray_up")
        return ChunkExecutor
    return FakeExecutor


@pytest.fixture
def make(executor_class):
    """Makes executors, and shuts them down at the end of the test."""
    made = []

    def make(*args, **kwargs):
        executor = executor_class(*args, **kwargs)
        made.append(executor)
        return executor

    yield make
    for executor in made:
        executor.shutdown()


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setattr(config, "progress_bar", False)


@pytest.fixture(autouse=True)
def _no_thread_left():
    """No dispatcher outlives the test that started it."""
    yield
    deadline = time.monotonic() + 10
    for thread in threading.enumerate():
        if thread.name.startswith("thread_chunks"):
            thread.join(max(0, deadline - time.monotonic()))
            assert not thread.is_alive(), thread


@pytest.fixture
def executor_on_ray(ray_up):
    made = []

    def make(*args, **kwargs):
        made.append(ChunkExecutor(*args, **kwargs))
        return made[-1]

    yield make
    for executor in made:
        executor.shutdown()
