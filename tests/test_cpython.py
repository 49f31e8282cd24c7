"""CPython's own tests of executors, where Python ships with them, run on `ChunkExecutor`.

Skipped are tests that reach into private attributes of `ProcessPoolExecutor` (found by their source),
and those of the deliberate differences of `docs/from_process_pool.md` (listed here). Whole classes that do
nothing else are not here: failing initializers (they read `_broken`), the ends of processes (`_processes`),
deadlocks by a broken pool.
"""

from __future__ import annotations

import importlib
import inspect
import multiprocessing
import re
import unittest

import pytest

from thread_chunks import ChunkExecutor


def classes():
    """Return CPython's test classes by name."""
    for names in (
        ["test_process_pool", "test_shutdown", "test_wait", "test_as_completed", "test_init", "executor", "util"],
        [""],  # before Python 3.12 it was one module
    ):
        try:
            modules = [importlib.import_module(f"test.test_concurrent_futures.{name}".rstrip(".")) for name in names]
        except ImportError:
            continue
        for module in modules:
            if hasattr(module, "assert_python_ok"):
                module.assert_python_ok = with_our_executor(module.assert_python_ok)
        return {name: value for module in modules for name, value in vars(module).items()}
    return {}


def with_our_executor(assert_python_ok):
    def assert_ok(flag, script):
        return assert_python_ok(
            flag, script.replace("from concurrent.futures import Chunk", "from thread_chunks import Chunk")
        )

    return assert_ok


CPYTHON = classes()
PRIVATE = re.compile(r"\b(executor|e|p)\._|_(RemoteTraceback|broken)\b")
DIFFERENT = {
    "test_python_finalization_error": "replaces how `multiprocessing` starts threads",
}

pytestmark = pytest.mark.skipif(not CPYTHON, reason="this Python ships without its tests of executors")


class OnRay:
    executor_type = ChunkExecutor

    @pytest.fixture(autouse=True)
    def _ray(self, ray_up):
        pass


class OnRayWithContext(OnRay):
    ctx = "spawn"

    def get_context(self):
        return multiprocessing.get_context(self.ctx)


class OnRayThatIsUp(OnRay):
    """A process pool runs calls from the moment of `submit`; here a worker must be up first."""

    def setUp(self):
        super().setUp()
        if hasattr(self, "executor"):
            self.executor.submit(int).result()


def adopt(name, ours=OnRay):
    """Return CPython's class of that name, on Ray, without the tests that cannot be shared."""
    bases = (CPYTHON[name], CPYTHON["ExecutorMixin"]) if CPYTHON else ()
    adopted = type(name, (ours, *bases, unittest.TestCase), {"__module__": __name__})
    for test, function in inspect.getmembers(adopted, inspect.isfunction):
        if not test.startswith("test"):
            continue
        reason = DIFFERENT.get(test)
        if reason is None and PRIVATE.search(inspect.getsource(function)):
            reason = "it reaches into private attributes"
        if reason is not None:
            setattr(adopted, test, unittest.skip(reason)(function))
        elif "assert_python_ok" in inspect.getsource(function):
            setattr(adopted, test, pytest.mark.process(function))
    return adopted


TestExecutor = adopt("ProcessPoolExecutorTest", OnRayWithContext)
TestShutdown = adopt("ExecutorShutdownTest", OnRayThatIsUp)
TestWait = adopt("WaitTests")
TestAsCompleted = adopt("AsCompletedTests")
TestInitializer = adopt("InitializerMixin")
