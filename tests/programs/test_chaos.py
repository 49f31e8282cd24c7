"""Workers are killed at random: no call is lost, and none runs twice unasked."""

from __future__ import annotations

import concurrent.futures as cf
import os
import random
import signal
import threading
import time

import pytest
from failing import nap, note_and_nap, square, times

from thread_chunks import CallTimeout, WorkerLost


def test_a_call_that_ends_its_worker_each_time_fails_no_other_call(executor_on_ray, tmp_path):
    executor = executor_on_ray.fresh(2, max_retries=2)
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
    """Kills a random worker that runs something, every 200 ms."""

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
        while not self._stop.wait(0.2):
            if running := self._executor.running(timeout=0.1):
                try:
                    os.kill(random.choice(running).pid, signal.SIGKILL)
                    self.kills += 1
                except ProcessLookupError:
                    pass


NAPS = random.Random(1).choices([0.0, 0.0, 0.001, 0.005, 0.02], k=500)


def test_chaos_with_retries(executor_on_ray, tmp_path):
    executor = executor_on_ray.fresh(4, max_retries=1000)
    ledger = tmp_path / "ledger"
    list(executor.map(square, range(8)))
    values = []
    with Killer(executor) as killer:
        while killer.kills <= 10 and len(values) < 10_000:  # a machine may be fast
            values += executor.map(note_and_nap, [str(ledger)] * 500, range(len(values), len(values) + 500), NAPS)
    assert values == [(number, number * number) for number in range(len(values))]
    assert killer.kills > 10
    assert set(times(ledger)) == set(range(len(values)))
    assert list(executor.map(nap, [0.3] * 8)) == [None] * 8
    assert executor.size == 4
    assert len(executor.actors) == 4


def test_chaos_without_retries(executor_on_ray, tmp_path):
    executor = executor_on_ray.fresh(4)
    ledger = tmp_path / "ledger"
    list(executor.map(square, range(8)))
    futures = []
    with Killer(executor) as killer:
        while not any(future.exception() for future in futures) and len(futures) < 10_000:
            numbers = range(len(futures), len(futures) + 500)
            futures += map(executor.submit, [note_and_nap] * 500, [str(ledger)] * 500, numbers, NAPS)
            cf.wait(futures)
    lost = 0
    for number, future in enumerate(futures):
        if future.exception() is None:
            assert future.result() == (number, number * number)
        else:
            assert type(future.exception()) is WorkerLost
            lost += 1
    assert killer.kills > 0
    assert 0 < lost < len(futures)
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
