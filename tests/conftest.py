from __future__ import annotations

import subprocess
import threading
import time

import pytest
import ray
from fake_cluster import FakeExecutor
from scripts import Python
from tiers import TIERS, tier_of

from thread_chunks import ChunkExecutor, config


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their markers
def pytest_collection_modifyitems(items):
    tiers = {item: tier_of(item) for item in items}
    for item, tier in tiers.items():
        item.add_marker(tier)
    items.sort(key=lambda item: TIERS.index(tiers[item]))


@pytest.fixture(scope="session")
def ray_up():
    """Ray, initialised by the user of the package; one for the whole run."""
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def _no_more_than_its_tier(request, monkeypatch):
    """See to it that a test starts no program, and no Ray, that its tier has not."""
    tier = tier_of(request.node)
    if tier == "ray":
        request.getfixturevalue("ray_up")
    if tier != "process":

        def refuse(*_, **__):
            raise AssertionError(f"this is for the tests of the tier process, and this one is of the tier {tier}")

        monkeypatch.setattr(ray, "init", refuse)
        monkeypatch.setattr(subprocess.Popen, "__init__", refuse)


@pytest.fixture
def python(tmp_path):
    """Starts fresh interpreters in the test's folder, and ends them at its end."""
    python = Python(tmp_path)
    yield python
    python.end()


@pytest.fixture(params=["fake", "ray"])
def executor_class(request):
    """The class under test, on the fake cluster and on Ray."""
    return FakeExecutor if request.param == "fake" else ChunkExecutor


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


@pytest.fixture
def executor_on_ray(ray_up):
    made = []

    def make(*args, **kwargs):
        made.append(ChunkExecutor(*args, **kwargs))
        return made[-1]

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
