"""What becomes of calls on Ray when a worker stands still, or its channel is cut, or cannot be made."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import threading
import time
from concurrent.futures import wait
from contextlib import closing, contextmanager, suppress

import pytest

from thread_chunks import WorkerLost
from thread_chunks._ray import loop
from thread_chunks._ray.runtime import RayRuntime
from thread_chunks._system.peers import process_of
from thread_chunks._wire.framing import ChannelAddress

LONG = 60  # seconds: only a hang takes so long


def process_after(seconds):
    time.sleep(seconds)
    return os.getpid()


def note(path, seconds=0.0):
    with open(path, "a") as file:
        file.write("began\n")
    time.sleep(seconds)


def processes_of(executor, count):
    """Return the processes of so many workers, once all are up."""
    found = set()
    while len(found) < count:
        found.update(executor.map(process_after, [0.2] * count, chunksize=1))
    return sorted(found)


@contextmanager
def stopped(process):
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)


def cut_channel_to(process):
    """Cut this process's connection to a worker by force."""
    for each in gc.get_objects():
        if isinstance(each, socket.socket) and each.family == socket.AF_UNIX and each.fileno() >= 0:
            with suppress(OSError):
                if each.getsockname()[:14] == b"\0thread_chunks" and process_of(each) == process:
                    each.shutdown(socket.SHUT_RDWR)
                    return
    raise AssertionError(f"no channel to {process}")


def test_a_worker_that_stands_still_holds_up_no_other(executor_on_ray):
    executor = executor_on_ray.fresh(2)
    first, second = processes_of(executor, 2)
    with stopped(first):
        futures = [executor.submit(process_after, 0.2) for _ in range(12)]
        while sum(future.done() for future in futures) < 11:
            assert wait(futures, LONG, "FIRST_COMPLETED").done
            time.sleep(0.01)
        assert {future.result() for future in futures if future.done()} == {second}
        assert len(executor.running()) == 1, "it is asked, too, and its answer is not waited for"
    assert {future.result(LONG) for future in futures} == {first, second}


def test_a_call_that_was_sent_to_a_worker_which_dies_before_it_begins_runs_elsewhere(executor_on_ray, tmp_path):
    executor = executor_on_ray.fresh(1)
    (process,) = processes_of(executor, 1)
    path = tmp_path / "began"
    with stopped(process):
        future = executor.submit(note, path)
        while not future.running():
            time.sleep(0.01)
        os.kill(process, signal.SIGKILL)
    future.result(LONG)
    assert path.read_text() == "began\n"


def test_a_channel_that_is_cut_between_two_calls_costs_none(executor_on_ray, tmp_path):
    executor = executor_on_ray.fresh(1)
    (process,) = processes_of(executor, 1)
    cut_channel_to(process)
    path = tmp_path / "began"
    executor.submit(note, path).result(LONG)
    assert path.read_text() == "began\n"
    assert executor.submit(os.getpid).result(LONG) != process


@pytest.mark.parametrize("retries", [0, 1])
def test_a_channel_that_is_cut_costs_the_call_that_runs(executor_on_ray, tmp_path, retries):
    executor = executor_on_ray.fresh(1, max_retries=retries)
    (process,) = processes_of(executor, 1)
    paths = [tmp_path / f"began{number}" for number in range(4)]
    futures = [executor.submit(note, path, 2.0 * (path is paths[0])) for path in paths]
    while not paths[0].exists():
        time.sleep(0.01)
    cut_channel_to(process)
    if retries:
        futures[0].result(LONG)
    else:
        assert isinstance(futures[0].exception(LONG), WorkerLost)
    for future in futures[1:]:
        future.result(LONG)
    assert [path.read_text().count("began") for path in paths] == [1 + retries, 1, 1, 1]


@pytest.fixture(params=["refused", "silent"])
def unreachable(request):
    """Return an address that does not answer, as behind a firewall."""
    with closing(socket.socket()) as listener, closing(socket.socket()) as waiting:
        listener.bind(("127.0.0.1", 0))
        if request.param == "silent":
            listener.listen(0)
            waiting.connect(listener.getsockname())  # later connections get no answer
        yield listener.getsockname()


def test_a_firewall_makes_calls_go_by_ray(executor_on_ray, monkeypatch, caplog, unreachable):
    caplog.set_level(logging.WARNING, "thread_chunks")
    real = RayRuntime.channels.fget

    class Elsewhere:
        """The channels, at another address."""

        def __init__(self, channels):
            self._channels = channels
            self.address = ChannelAddress(channels.address.key, None, *unreachable)

        def __getattr__(self, name):
            return getattr(self._channels, name)

    monkeypatch.setattr(RayRuntime, "channels", property(lambda runtime: Elsewhere(real(runtime))))
    executor = executor_on_ray.fresh(2, max_retries=1)
    assert list(executor.map(abs, range(-50, 0))) == list(range(50, 0, -1))
    (process,) = set(executor.map(process_after, [0.1])) - {os.getpid()}
    os.kill(process, signal.SIGKILL)
    assert executor.submit(divmod, 7, 2).result(LONG) == (3, 1)
    said = [record.getMessage() for record in caplog.records if "cannot connect" in record.getMessage()]
    assert len(said) == 1, said


def test_a_call_of_rays_that_never_returns_does_not_hold_up_the_end(monkeypatch):
    monkeypatch.setattr(loop, "_PATIENCE", 0.1)
    returns, ends = threading.Event(), threading.Event()
    stuck = loop.Loop("thread_chunks-stuck", ends.set)
    stuck.start()
    stuck.do(returns.wait)
    stuck.close()
    assert not ends.is_set()
    returns.set()
    assert ends.wait(10)
