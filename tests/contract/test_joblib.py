"""`joblib.Parallel`, and libraries that use it, on the backend of the package."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

import joblib
import numpy as np
import pytest
from functions import square

from thread_chunks import _joblib, register_joblib


@pytest.fixture
def parallel(executor_class, monkeypatch):
    """`Parallel` on the class under test, whose executor ends with the test."""
    monkeypatch.setattr(_joblib, "ChunkExecutor", executor_class)
    register_joblib()
    with joblib.parallel_config(backend="thread_chunks", n_jobs=2):
        yield joblib.Parallel
    if _joblib._executor is not None:
        executor = _joblib._executor
        _joblib.drop(executor)
        executor.shutdown()
        monkeypatch.setattr(_joblib, "_initializer", (None, ()))


def fail_at(x):
    if x == 3:
        raise LookupError(x)
    return x


def test_values_in_their_order(parallel):
    for options in ({}, {"batch_size": 7}, {"pre_dispatch": "all"}, {"pre_dispatch": 3}):
        values = parallel(**options)(joblib.delayed(square)(x) for x in range(50))
        assert values == [x * x for x in range(50)]


def test_as_a_generator(parallel):
    values = parallel(return_as="generator")(joblib.delayed(square)(x) for x in range(20))
    assert next(values) == 0
    assert list(values) == [x * x for x in range(1, 20)]
    unordered = parallel(return_as="generator_unordered")(joblib.delayed(square)(x) for x in range(20))
    assert sorted(unordered) == [x * x for x in range(20)]


def set_up():
    pass


def nap(x):
    time.sleep(0.02)
    return x


def test_another_initializer_while_values_are_awaited(parallel):
    values = parallel(return_as="generator", pre_dispatch=2, batch_size=1)(joblib.delayed(square)(x) for x in range(30))
    assert next(values) == 0
    first = _joblib._executor
    assert parallel(initializer=set_up)(joblib.delayed(square)(x) for x in range(4)) == [0, 1, 4, 9]
    assert _joblib._executor is not first
    assert list(values) == [x * x for x in range(1, 30)]
    with pytest.raises(RuntimeError):  # it has ended with its last user
        first.submit(square, 1)


def test_another_initializer_in_another_thread(parallel):
    def first():
        values.extend(
            joblib.Parallel(2, backend="thread_chunks", batch_size=1)(joblib.delayed(nap)(x) for x in range(40))
        )

    values = []
    thread = threading.Thread(target=first)
    thread.start()
    time.sleep(0.2)
    assert parallel(initializer=set_up)(joblib.delayed(square)(x) for x in range(4)) == [0, 1, 4, 9]
    thread.join(60)
    assert values == list(range(40))


def test_the_executor_lives_on_and_follows_n_jobs(parallel):
    parallel()(joblib.delayed(square)(x) for x in range(4))
    first = _joblib._executor
    with parallel() as reused:
        for _ in range(2):
            assert reused(joblib.delayed(square)(x) for x in range(4)) == [0, 1, 4, 9]
    parallel(n_jobs=3)(joblib.delayed(square)(x) for x in range(4))
    assert _joblib._executor is first
    assert first.chunk_size == 3


def test_exceptions_arrive_and_the_next_call_works(parallel):
    for _ in range(2):
        with pytest.raises(LookupError):
            parallel()(joblib.delayed(fail_at)(x) for x in range(10))
    assert parallel()(joblib.delayed(square)(x) for x in range(4)) == [0, 1, 4, 9]


_greetings = []


def greet(greeting, array):
    _greetings.append((greeting, array.sum()))


def greetings():
    return _greetings[-1]


def test_workers_run_an_initializer(parallel):
    def greeted_by(name, array):
        run = parallel(initializer=greet, initargs=(name, array))
        return set(run(joblib.delayed(greetings)() for _ in range(6)))

    array = np.ones(3)
    for name in ("hello", "good day"):
        for _ in range(2):
            executor = _joblib._executor
            assert greeted_by(name, array) == {(name, 3.0)}
        assert _joblib._executor is executor, "the same arguments need no new workers"
    assert greeted_by("hello", np.zeros(3)) == {("hello", 0.0)}
    with joblib.parallel_config(backend="thread_chunks", n_jobs=2, initializer=greet, initargs=("morning", array)):
        assert set(parallel()(joblib.delayed(greetings)() for _ in range(6))) == {("morning", 3.0)}
    assert parallel()(joblib.delayed(square)(x) for x in range(4)) == [0, 1, 4, 9]


def test_a_time_out(parallel):
    with pytest.raises(multiprocessing.TimeoutError):
        parallel(timeout=0.2)(joblib.delayed(time.sleep)(x) for x in (2, 2))
    assert parallel()(joblib.delayed(square)(x) for x in range(4)) == [0, 1, 4, 9]


def test_nested(parallel):
    def inner(x):
        return sum(joblib.Parallel(n_jobs=2)(joblib.delayed(square)(y) for y in range(x)))

    values = parallel()(joblib.delayed(inner)(x) for x in range(5))
    assert values == [sum(y * y for y in range(x)) for x in range(5)]


def test_numbers_of_jobs(parallel):
    backend = _joblib.Backend()
    cpus = joblib.cpu_count()
    assert [backend.effective_n_jobs(n) for n in (None, 1, 3, -1, -cpus - 5)] == [1, 1, 3, cpus, 1]
    with pytest.raises(ValueError, match="n_jobs == 0"):
        backend.effective_n_jobs(0)
    assert parallel(n_jobs=1)(joblib.delayed(os.getpid)() for _ in range(3)) == [os.getpid()] * 3


def test_arrays_may_be_written_to(parallel):
    def add_one(array):
        array += 1
        return array.sum()

    array = np.zeros(200_000)
    assert parallel()(joblib.delayed(add_one)(array) for _ in range(4)) == [200_000] * 4
    assert array.sum() == 0


def test_scikit_learn(parallel):
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_iris
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    search = GridSearchCV(SVC(), {"C": [0.1, 1, 10]}, cv=3).fit(*load_iris(return_X_y=True))
    assert search.best_score_ > 0.9
