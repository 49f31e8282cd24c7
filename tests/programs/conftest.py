from __future__ import annotations

import time

import psutil
import pytest
import ray
from clusters import LocalCluster
from ray._private import state  # the public way to list actors asks the dashboard, which the tests' Ray goes without


@pytest.fixture
def joined(ray_up):
    """What a program finds the tests' Ray by, where it would prove nothing that it starts one itself."""
    yield {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, "RAY_AUTH_MODE": "token"}
    deadline = time.monotonic() + 60  # Ray needs a while to notice that a driver was killed
    while (left := _workers_of_programs()) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in psutil.Process().children(recursive=True):
        if process.pid in [actor["Pid"] for actor in left]:
            process.kill()
    assert left == [], "a program has left workers behind"


def _workers_of_programs():
    """Return the actors of other drivers than this process that live, or whose process does."""
    mine = ray.get_runtime_context().get_job_id()
    processes = {process.pid for process in psutil.Process().children(recursive=True)}
    actors = [actor for actor in state.actors().values() if actor["JobID"] != mine]
    return [actor for actor in actors if actor["State"] != "DEAD" or actor["Pid"] in processes]


@pytest.fixture(scope="module")
def nodes():
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(nodes):
    """A cluster of several nodes, restored after each test."""
    yield nodes
    nodes.restore()
