from __future__ import annotations

import os
import signal
import subprocess
import tempfile

import pytest
import ray
from executors import Maker, Pool, ReusingMaker, threads_left
from fake_cluster import FakeExecutor
from scripts import Python
from tiers import TIERS, tier_of

from thread_chunks import ChunkExecutor, config


def pytest_configure(config):
    # Ray notes there which cluster is up, and a program without an address joins it: not that of another run of tests.
    folder = tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True)
    config.add_cleanup(folder.cleanup)
    os.environ["RAY_TMPDIR"] = folder.name
    # It is ignored where the tests run in the background. Ray's processes would inherit that, and so would what calls
    # start: a `sleep` that is sent SIGINT would go on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Likewise under `nohup`. A handler keeps the tests alive as well, and no program inherits it.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN or "PYTEST_XDIST_WORKER" in os.environ:
        signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_xdist_auto_num_workers(config):
    """Run two tests at once, three of the tier process: they often wait for the end of processes that they killed."""
    if any(argument.startswith(("-n", "--numprocesses")) for argument in config.invocation_params.args):
        return None  # "auto" means there what it means elsewhere
    return 3 if config.option.markexpr.startswith("process") else 2


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their markers
def pytest_collection_modifyitems(items):
    tiers = {item: tier_of(item) for item in items}
    for item, tier in tiers.items():
        item.add_marker(tier)
    items.sort(key=lambda item: TIERS.index(tiers[item]))


@pytest.fixture(scope="session")
def pool():
    """Executors on Ray that no test uses at present."""
    return Pool(ChunkExecutor)


@pytest.fixture(scope="session")
def ray_up(pool):
    """Ray, initialised by the user of the package; one for the whole run."""
    ray.init(
        address="local",
        num_cpus=4,
        resources={"special": 1},
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
    )
    pool.open()
    yield
    pool.close()
    assert threads_left(pool.threads, patience=0) == []
    ray.shutdown()


@pytest.fixture(autouse=True)
def _no_more_than_its_tier(request, monkeypatch):
    """Check that a test starts no program and no Ray that its tier forbids."""
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
    """Start fresh interpreters in the test's folder, and end them with the test."""
    python = Python(tmp_path)
    yield python
    python.end()


@pytest.fixture(params=["fake", "ray"])
def executor_class(request):
    """The class under test, on the fake cluster and on Ray."""
    return FakeExecutor if request.param == "fake" else ChunkExecutor


@pytest.fixture
def kind():
    """What sets a test's executors apart from others with the same arguments; see `Pool`."""
    return ""


@pytest.fixture
def make(executor_class, pool, kind):
    """Make executors that work at the beginning of the test, and shut them down."""
    make = Maker(executor_class) if executor_class is FakeExecutor else ReusingMaker(executor_class, pool, kind)
    yield make
    make.end()


@pytest.fixture
def executor_on_ray(ray_up, pool):
    """Make executors on Ray that work at the beginning of the test, and shut them down."""
    make = ReusingMaker(ChunkExecutor, pool)
    yield make
    make.end()


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setattr(config, "progress_bar", False)


@pytest.fixture(autouse=True)
def _no_thread_left(pool):
    """Check that no thread of the package outlives its test, except those of executors that are used again."""
    yield
    assert threads_left(pool.threads, patience=10) == []
