"""Lost workers, time-outs, memory, cancellation, and what an executor says of its calls."""

from __future__ import annotations

import concurrent.futures as cf
import os
import random
import signal
import threading
import time
from collections import Counter

import pytest
import ray
from fake_cluster import FakeExecutor

from thread_chunks import (
    CallTimeout,
    ChunkExecutor,
    ExecutorBroken,
    RemoteLabelledActor,
    Report,
    WorkerLost,
    WorkerOutOfMemory,
)
from thread_chunks._arguments import number_of_bytes


def square(x):
    return x * x


def nap(seconds, value=None):
    time.sleep(seconds)
    return value


def note_and_nap(ledger, number, seconds):
    """Note in a file, which outlives the process, that the call was begun."""
    with open(ledger, "a") as file:
        file.write(f"{number}\n")
    time.sleep(seconds)
    return number, number * number


def hold(megabytes, seconds):
    held = bytearray(megabytes * 2**20)
    held[:: 2**12] = b"x" * len(held[:: 2**12])
    time.sleep(seconds)
    return len(held)


def wait_for(condition, timeout=60):
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def times(ledger):
    return Counter(int(line) for line in ledger.read_text().split())


# On the fake cluster and on Ray


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
    wait_for(ledger.exists)
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


def test_what_runs(make):
    executor = make(2)
    assert executor.running() == []
    future = executor.submit(nap, 2.0, value=list(range(1000)))
    (call,) = wait_for(lambda: executor.running(stacks=True))
    assert (call.function, call.label) == ("nap", 0)
    assert call.arguments.startswith("2.0, value=[0, 1, 2")
    assert len(call.arguments) < 100
    assert call.host
    assert 0 <= call.seconds < 60
    assert "in nap" in call.stack
    assert call.memory > 2**20
    future.result(60)
    executor.shutdown()
    assert executor.running() == []


def test_futures_that_are_cancelled_when_another_is_resolved(make):
    executor = make(1)
    list(executor.map(nap, [0.001] * 40))
    futures = [executor.submit(nap, 0.01 if number < 2 else 3, number) for number in range(30)]
    futures[0].add_done_callback(lambda _: [executor.cancel(future) for future in futures[1:]])
    assert futures[0].result(60) == 0
    cf.wait(futures, 60)
    assert all(future.cancelled() or isinstance(future.exception(), cf.CancelledError) for future in futures[2:])
    assert executor.submit(nap, 0, "on").result(60) == "on"


def test_what_runs_after_a_change_of_sys_path(make, monkeypatch):
    executor = make(1)
    executor.submit(nap, 0).result(60)
    monkeypatch.syspath_prepend("/nowhere")
    future = executor.submit(nap, 1.0)
    (running,) = wait_for(executor.running)
    assert running.pid > 0
    assert running.host
    future.result(60)


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


def test_questions_of_a_forked_child(make):
    executor = make(1)
    future = executor.submit(nap, 0)
    future.result(60)
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        refused = 0
        for ask in (executor.report, executor.running, lambda: executor.cancel(cf.Future())):
            try:
                ask()
            except RuntimeError:
                refused += 1
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2, "a future that waits is cancelled by itself"


def test_report(make):
    executor = make(2)
    list(executor.map(square, range(5000)))
    futures = [executor.submit(nap, 0.05 * x) for x in (1, 2, 3)] + [executor.submit(nap, "no number")]
    cf.wait(futures)
    executor.shutdown()
    report = executor.report()
    assert isinstance(report, Report)
    naps, squares = report.functions
    assert (squares.function, squares.calls, squares.failures, squares.retries) == ("square", 5000, 0, 0)
    assert squares.seconds.count == 5000
    assert 0 < squares.seconds.median < 0.005
    assert (naps.function, naps.calls, naps.failures) == ("nap", 4, 1)
    assert 0.049 < naps.seconds.median < naps.seconds.max
    assert naps.seconds.max >= 0.15
    assert naps.memory.count >= 3
    assert naps.memory.max > 2**20
    head, first, second = str(report).splitlines()
    assert head.split()[:4] == ["function", "calls", "failures", "retries"]
    assert first.split()[:4] == ["nap", "4", "1", "0"]
    assert second.split()[:4] == ["square", "5000", "0", "0"]


def test_report_of_an_executor_that_ran_nothing(make):
    assert make(1).report().functions == ()


def test_workers_that_the_kernel_killed_for_memory(caplog):
    with FakeExecutor(2, max_retries=1) as executor:
        list(executor.map(nap, [0.2] * 2))
        future = executor.submit(nap, 0.5, "done")
        wait_for(executor.running)
        executor._cluster.kernel_kills._known -= 1  # as if the kernel had killed something since
        (handle,) = executor._ask(lambda: [worker.handle for worker, _ in executor._dispatcher.crew.running])
        handle.die()
        assert future.result(60) == "done"
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


# On Ray


@pytest.fixture
def executor_on_ray(ray_up):
    made = []

    def make(*args, **kwargs):
        made.append(ChunkExecutor(*args, **kwargs))
        return made[-1]

    yield make
    for executor in made:
        executor.shutdown()


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
    # What others have asked for, whose actors are ending, may be given back late.
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


def test_a_call_that_ends_its_worker_each_time_takes_nobody_with_it(executor_on_ray, tmp_path):
    executor = executor_on_ray(2, max_retries=2)
    ledger = tmp_path / "ledger"
    ledger.touch()

    def f(x):
        if x == 30:
            with open(ledger, "a") as file:
                file.write("30\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    values = executor.map(f, range(60), unordered=True)
    got = []
    with pytest.raises(WorkerLost):
        got.extend(values)
    assert times(ledger) == {30: 3}
    futures = [executor.submit(f, x) for x in range(20, 40)]
    failed = [x for x, future in zip(range(20, 40), futures, strict=True) if future.exception(120) is not None]
    assert failed == [30]
    assert times(ledger) == {30: 6}


class Killer:
    """Kills a random worker that runs something, every 100 ms."""

    def __init__(self, executor):
        self._executor = executor
        self._stop = threading.Event()
        self.kills = 0
        self._thread = threading.Thread(target=self._work)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _work(self):
        while not self._stop.wait(0.1):
            if running := self._executor.running(timeout=0.1):
                try:
                    os.kill(random.choice(running).pid, signal.SIGKILL)
                    self.kills += 1
                except ProcessLookupError:
                    pass


NAPS = random.Random(1).choices([0.0, 0.0, 0.001, 0.005, 0.02], k=2000)


def test_chaos_with_retries(executor_on_ray, tmp_path):
    executor = executor_on_ray(4, max_retries=1000)
    ledger = tmp_path / "ledger"
    list(executor.map(square, range(8)))
    with Killer(executor) as killer:
        values = list(executor.map(note_and_nap, [str(ledger)] * 2000, range(2000), NAPS))
    assert values == [(number, number * number) for number in range(2000)]
    assert killer.kills > 10
    assert set(times(ledger)) == set(range(2000))
    assert list(executor.map(nap, [0.3] * 8)) == [None] * 8
    assert executor.size == 4
    assert len(executor.actors) == 4


def test_chaos_without_retries(executor_on_ray, tmp_path):
    executor = executor_on_ray(4)
    ledger = tmp_path / "ledger"
    list(executor.map(square, range(8)))
    with Killer(executor) as killer:
        futures = [executor.submit(note_and_nap, str(ledger), number, NAPS[number]) for number in range(2000)]
        cf.wait(futures)
    lost = 0
    for number, future in enumerate(futures):
        if future.exception() is None:
            assert future.result() == (number, number * number)
        else:
            assert type(future.exception()) is WorkerLost
            lost += 1
    assert killer.kills > 0
    assert 0 < lost < 2000
    assert set(times(ledger).values()) == {1}, "none ran twice"


def moody(folder, number):
    """Die, or take for ever, the first time, now and then."""
    marker = folder / str(number)
    first = not marker.exists()
    with open(marker, "a") as file:
        file.write("x")
    if first and number % 50 == 13:
        os._exit(1)
    if first and number % 50 == 31:
        time.sleep(60)
    return number * number


def test_what_is_finished_survives_deaths_and_time_outs(executor_on_ray, tmp_path):
    executor = executor_on_ray(3, call_timeout=1)
    ran = tmp_path / "ran"
    ran.mkdir()
    calls = [(ran, number) for number in range(200)]
    interruptions = 0
    while True:
        try:
            values = list(executor.starmap(moody, calls, path=tmp_path / "checkpoint"))
            break
        except (WorkerLost, CallTimeout):
            interruptions += 1
            assert interruptions < 20
    assert values == [number * number for number in range(200)]
    assert interruptions > 0
    before = {marker.name: len(marker.read_text()) for marker in ran.iterdir()}
    assert list(executor.starmap(moody, calls, path=tmp_path / "checkpoint")) == values
    assert {marker.name: len(marker.read_text()) for marker in ran.iterdir()} == before, "nothing ran again"
