from __future__ import annotations

import pytest
import ray
from clusters import LocalCluster


@pytest.fixture
def joined(ray_up):
    """What a program finds the tests' Ray by, where it would prove nothing that it starts one itself."""
    return {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, "RAY_AUTH_MODE": "token"}


@pytest.fixture(scope="module")
def nodes():
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(nodes):
    """A cluster of several nodes, restored after each test."""
    yield nodes
    nodes.restore()
