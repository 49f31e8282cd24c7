"""Processes that calls start behave as those of a `ProcessPoolExecutor`'s worker."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import joblib
import pytest


def _pools(kind, count):
    context = multiprocessing.get_context(kind)
    for _ in range(count):
        with context.Pool(3) as pool:
            assert sum(pool.imap_unordered(abs, [1] * 10)) == 10
    return count


def _executors(kind, count):
    for _ in range(count):
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(kind)) as executor:
            assert list(executor.map(abs, [-1, -2])) == [1, 2]
    return count


def _end_by_signal(number):
    os.kill(os.getpid(), number)
    time.sleep(60)


def _read_nothing():
    sys.stderr = None
    ctypes.string_at(0)


# Ways for a child to end, and its exit status then in a worker of a standard pool.
ENDS = {
    "_exit": (4, os._exit, 4),
    "kill": (-signal.SIGKILL, _end_by_signal, signal.SIGKILL),
    "terminate": (-signal.SIGTERM, _end_by_signal, signal.SIGTERM),
    "abort": (-signal.SIGABRT, os.abort),
    "segfault": (-signal.SIGSEGV, _read_nothing),
    "bus error": (-signal.SIGBUS, _end_by_signal, signal.SIGBUS),
    "user's signal": (-signal.SIGUSR1, _end_by_signal, signal.SIGUSR1),
    "hang up": (-signal.SIGHUP, _end_by_signal, signal.SIGHUP),
}


def _status(kind, target, *args):
    process = multiprocessing.get_context(kind).Process(target=target, args=args)
    process.start()
    process.join()
    return process.exitcode


def _terminated_at_once(kind, count):
    found = set()
    for _ in range(count):
        process = multiprocessing.get_context(kind).Process(target=time.sleep, args=(60,))
        process.start()
        process.terminate()  # wherever it is by then
        process.join()
        found.add(process.exitcode)
    return found


def _forked(end, *args):
    child = os.fork()
    if child == 0:
        end(*args)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _commands():
    kill = [sys.executable, "-c", "import os; os.kill(os.getpid(), 15)"]
    sleeping = subprocess.Popen(["sleep", "60"])
    sleeping.terminate()
    return [
        subprocess.run(kill).returncode,
        subprocess.run(kill, preexec_fn=os.getpid).returncode,
        subprocess.run(["sh", "-c", "exit 7"]).returncode,
        sleeping.wait(),
    ]


def _jobs(backend, count):
    for _ in range(count):
        assert joblib.Parallel(2, backend=backend)(joblib.delayed(abs)(-x) for x in range(4)) == [0, 1, 2, 3]
    return count


def _caught():
    """Return how many of some signals the process handles."""
    with open("/proc/self/status") as file:
        caught = next(int(line.split()[1], 16) for line in file if line.startswith("SigCgt"))
    return sum(caught >> number - 1 & 1 for number in (signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT))


def _masks():
    """Return what is blocked before a fork, after it, and in the child."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    status = _forked(lambda: os._exit(signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before))
    return before, signal.pthread_sigmask(signal.SIG_BLOCK, ()), status


@pytest.fixture
def executor(executor_on_ray):
    return executor_on_ray(2, call_timeout=200)


@pytest.mark.parametrize(
    ("use", "kind", "count"), [(_pools, "fork", 20), (_executors, "fork", 60), (_pools, "forkserver", 3)]
)
def test_pools_in_a_call_come_to_their_end(executor, use, kind, count):
    assert [future.result() for future in [executor.submit(use, kind, count) for _ in range(2)]] == [count] * 2


@pytest.mark.parametrize("end", ENDS)
def test_a_forked_process_ends_with_the_status_that_it_has_in_a_standard_pool(executor, end):
    expected, *target = ENDS[end]
    assert executor.submit(_status, "fork", *target).result() == expected
    assert executor.submit(_forked, *target).result() == expected


def test_a_spawned_process_ends_with_the_status_that_it_has_in_a_standard_pool(executor):
    expected, *target = ENDS["terminate"]
    assert executor.submit(_status, "spawn", *target).result() == expected


@pytest.mark.parametrize(("kind", "count"), [("fork", 50), ("spawn", 5)])
def test_a_process_that_is_terminated_as_it_starts_ends(executor, kind, count):
    assert executor.submit(_terminated_at_once, kind, count).result() == {-signal.SIGTERM}


def test_commands_end_as_in_a_standard_pool(executor):
    assert executor.submit(_commands).result() == [-15, -15, 7, -15]


@pytest.mark.parametrize(("backend", "count"), [("loky", 1), ("multiprocessing", 5)])
def test_joblib_in_a_call_comes_to_its_end(executor, backend, count):
    assert executor.submit(_jobs, backend, count).result() == count


def test_a_fork_leaves_the_mask_of_signals_as_it_was(executor):
    before, after, is_same = executor.submit(_masks).result()
    assert before == after
    assert is_same


def test_a_forked_child_has_the_signal_handlers_of_a_fresh_python(executor):
    assert executor.submit(_forked, lambda: os._exit(_caught())).result() == 0
