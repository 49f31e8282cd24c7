"""Time-outs, cancellation of what runs, memory, options of single calls."""

from __future__ import annotations

import concurrent.futures as cf
import os
import re
import socket
import time

import pytest
import ray
from failing import nap, note_and_nap, square, times, wait_for
from fake_cluster import FakeExecutor

from thread_chunks import CallTimeout, ExecutorBroken, RemoteLabelledActor, WorkerLost, WorkerOutOfMemory
from thread_chunks._arguments import number_of_bytes
from thread_chunks._ray.oom import KernelKills


def hold(megabytes, seconds):
    held = bytearray(megabytes * 2**20)
    held[:: 2**12] = b"x" * len(held[:: 2**12])
    time.sleep(seconds)
    return len(held)


def test_call_timeout(make):
    executor = make(2, call_timeout=0.5)
    futures = [executor.submit(nap, 60)] + [executor.submit(nap, 0.001, x) for x in range(50)]
    with pytest.raises(CallTimeout, match=r"nap .* call_timeout of 0.5 s"):
        futures[0].result(60)
    assert [future.result(60) for future in futures[1:]] == list(range(50))


def test_call_timeout_in_a_series(make):
    executor = make(2, call_timeout=1)
    values = executor.map(nap, [0.0] * 50 + [60.0] + [0.0] * 50, range(101), unordered=True)
    got = []
    with pytest.raises(CallTimeout):
        got.extend(values)
    again = executor.map(nap, [0.3] * 6, chunksize=6)  # more than the limit together
    assert list(again) == [None] * 6


def test_options_of_single_calls(make):
    executor = make(2)
    impatient = executor.with_options(call_timeout=0.5)
    assert isinstance(impatient, cf.Executor)
    slow, patient = impatient.submit(nap, 60), executor.submit(nap, 1, "done")
    assert isinstance(slow.exception(60), CallTimeout)
    assert patient.result(60) == "done"
    assert list(impatient.map(square, range(3), chunksize=2)) == [0, 1, 4]
    assert list(impatient.starmap(pow, [(2, 3)])) == [8]
    with pytest.raises(TypeError, match="nonsense"):
        impatient.map(square, [1], nonsense=1)


@pytest.mark.parametrize(
    "options", [{"call_timeout": 0}, {"max_retries": -1}, {"memory_limit": 0}, {"memory_limit": "2 apples"}]
)
def test_limits_that_make_no_sense(executor_class, options):
    with pytest.raises(ValueError):
        executor_class(1, **options)


def test_cancel_of_what_runs(make, tmp_path):
    executor = make(1)
    ledger = tmp_path / "ledger"
    running, waiting = (executor.submit(note_and_nap, str(ledger), number, 60) for number in (1, 2))
    wait_for(lambda: ledger.exists() and times(ledger) == {1: 1})
    assert not running.cancel(), "which keeps the standard library's meaning"
    assert executor.cancel(waiting)
    assert waiting.cancelled() or isinstance(waiting.exception(10), cf.CancelledError)
    started = time.monotonic()
    assert executor.cancel(running)
    with pytest.raises(cf.CancelledError):
        running.result(60)
    assert time.monotonic() - started < 10
    assert executor.submit(square, 3).result(60) == 9
    assert not executor.cancel(running), "it is over"
    assert times(ledger) == {1: 1}


def test_futures_that_are_cancelled_when_another_is_resolved(make):
    executor = make(1)
    list(executor.map(nap, [0.001] * 40))
    futures = [executor.submit(nap, 0.01 if number < 2 else 3, number) for number in range(30)]
    futures[0].add_done_callback(lambda _: [executor.cancel(future) for future in futures[1:]])
    assert futures[0].result(60) == 0
    cf.wait(futures, 60)
    assert all(future.cancelled() or isinstance(future.exception(), cf.CancelledError) for future in futures[2:])
    assert executor.submit(nap, 0, "on").result(60) == "on"


def test_options_are_for_an_executor_of_the_same_kind(executor_class):
    class Counting(executor_class):
        submitted = 0

        def submit(self, fn, /, *args, **kwargs):
            Counting.submitted += 1
            return super().submit(fn, *args, **kwargs)

    with Counting(square, chunk_size=1) as executor:
        other = executor.with_options(call_timeout=0.2)
        with pytest.raises(CallTimeout):
            list(other.map(nap, [30]))
        executor.set_func(abs)
        assert list(other.map([-1, -2])) == [1, 2], "the stored function is the same"
        assert Counting.submitted == 3
        with other:
            pass
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(square, 1)


def test_workers_that_the_kernel_killed_for_memory(caplog, monkeypatch):
    monkeypatch.setattr(
        KernelKills, "take", lambda self, pid, status: True
    )  # as if the kernel had killed something since
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")  # where the fake's workers are
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    with FakeExecutor(2, max_retries=1) as executor:
        futures = [executor.submit(nap, 0.5, "done") for _ in range(2)]
        wait_for(lambda: len(executor.running()) == 2)
        executor.actors[0].die()
        assert [future.result(60) for future in futures] == ["done"] * 2
        assert executor.size == 1
        assert "killed by the kernel" in caplog.text
        assert "chunk_size=1 would fit" in caplog.text


@pytest.mark.parametrize(("text", "size"), [("2GiB", 2**31), ("1.5 kB", 1500), (77, 77), ("10m", 10**7), ("64", 64)])
def test_sizes(text, size):
    assert number_of_bytes(text) == size


@pytest.mark.parametrize("size", [True, 1.5, None])
def test_no_sizes(size):
    with pytest.raises(TypeError):
        number_of_bytes(size)


def test_memory_limit(executor_on_ray):
    executor = executor_on_ray(2, memory_limit="300MiB")
    modest = [executor.submit(hold, 50, 0.3) for _ in range(4)]
    greedy = executor.submit(hold, 1000, 60)
    with pytest.raises(MemoryError, match="memory_limit is 300 MiB") as caught:
        greedy.result(60)
    assert type(caught.value) is WorkerOutOfMemory
    assert [future.result(60) for future in modest] == [50 * 2**20] * 4
    assert executor.size == 2


def test_memory_limit_is_told_to_ray(executor_on_ray):
    executor = executor_on_ray(2, memory_limit="300MiB")
    list(executor.map(nap, [0.3] * 4, chunksize=1))
    limits = 2 * 300 * 2**20
    deadline = time.monotonic() + 30
    # Resources of other tests' actors, which are ending, may be given back late.
    while ray.cluster_resources()["memory"] - ray.available_resources()["memory"] != limits:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_actors_of_the_user_that_die_are_not_replaced(executor_on_ray):
    executor = executor_on_ray(actors=[RemoteLabelledActor.remote(abs) for _ in range(2)])
    assert isinstance(executor.submit(os._exit, 1).exception(), WorkerLost)
    assert executor.size == 1
    assert list(executor.map([-3, -4])) == [3, 4]
    assert isinstance(executor.submit(os._exit, 1).exception(), WorkerLost)
    with pytest.raises(ExecutorBroken, match="all actors that the executor was given are dead"):
        executor.submit(None, 3).result()


def test_no_node_has_what_a_worker_needs_so_far(caplog):
    with FakeExecutor(1, actor_options={"num_gpus": 1}):
        assert "no node of the cluster has what each worker needs: 1 GPU. The whole cluster has 0 GPUs" in caplog.text
    caplog.clear()
    with FakeExecutor(1, actor_options={"num_gpus": 0}):
        assert caplog.text == ""


def test_memory_limit_below_what_an_idle_worker_has(executor_on_ray):
    error = executor_on_ray(1, memory_limit="2MiB").submit(nap, 60).exception(120)
    assert isinstance(error, (WorkerOutOfMemory, ExecutorBroken))  # it may not come so far as to begin the call
    found = re.search(r"had (\d+) MiB for itself, and memory_limit is 2 MiB", str(error))
    assert found is not None
    assert 2 < int(found[1]) < 500, "what it has"
