"""`joblib.Parallel`, and libraries that use it, on the backend of the package."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

import joblib
import numpy as np
import pytest
from checkpointed import until
from functions import square

from thread_chunks import CallTimeout, PicklingFailed, _joblib, register_joblib


@pytest.fixture
def parallel(make, monkeypatch):
    """`Parallel` on an executor of the class under test, which the next test may get from `make`."""
    monkeypatch.setattr(_joblib, "ChunkExecutor", make)
    register_joblib()
    with joblib.parallel_config(backend="thread_chunks", n_jobs=2):
        yield joblib.Parallel
    if _joblib._executor is not None and _is_busy(_joblib._executor):
        _joblib._executor.kill_workers()
    _joblib._executor = None


def _is_busy(executor):
    try:
        return bool(executor.running())
    except RuntimeError:  # it has ended
        return False


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
    options = {"initializer": greet, "initargs": ("good day", array)}
    with joblib.parallel_config(backend="thread_chunks", n_jobs=2, **options):
        assert set(parallel()(joblib.delayed(greetings)() for _ in range(6))) == {("good day", 3.0)}
    assert _joblib._executor is executor, "wherever they are given"
    assert greeted_by("hello", np.zeros(3)) == {("hello", 0.0)}
    assert parallel()(joblib.delayed(square)(x) for x in range(4)) == [0, 1, 4, 9]


def executor_handles():
    return set(_joblib._executor.actors)


def wait_and_note(seconds, note):
    time.sleep(seconds)
    note.touch()


def test_a_time_out_costs_the_worker_of_the_call_that_goes_on(parallel, tmp_path):
    parallel(batch_size=1, pre_dispatch="all")(joblib.delayed(nap)(x) for x in range(20))
    executor, before = _joblib._executor, executor_handles()
    assert len(before) == 2
    with pytest.raises(multiprocessing.TimeoutError):
        parallel(timeout=0.2, batch_size=1)(
            joblib.delayed(wait_and_note)(x, tmp_path / f"{x}") for x in (600, 0.05, 0.06)
        )
    assert parallel()(joblib.delayed(square)(x) for x in range(4)) == [0, 1, 4, 9]
    assert _joblib._executor is executor
    until(lambda: len(before & executor_handles()) == 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.05", "0.06"]
    assert executor.running() == []


def fail_soon(x, note):
    time.sleep(0.1)
    if x == 1:
        raise LookupError(x)
    note.touch()


def test_an_exception_costs_no_worker(parallel, tmp_path, monkeypatch):
    monkeypatch.setattr(_joblib, "_GRACE", 60.0)  # however busy the machine is
    parallel(batch_size=1, pre_dispatch="all")(joblib.delayed(nap)(x) for x in range(20))
    executor, before = _joblib._executor, executor_handles()
    with pytest.raises(LookupError):
        parallel(batch_size=1)(joblib.delayed(fail_soon)(x, tmp_path / f"{x}") for x in range(100))
    assert parallel()(joblib.delayed(square)(x) for x in range(4)) == [0, 1, 4, 9]
    assert _joblib._executor is executor
    assert executor_handles() == before
    assert len(list(tmp_path.iterdir())) < 10, "what had not begun is cancelled"


def test_options_go_to_the_executor(parallel):
    run = parallel(call_timeout=3, batch_size=1)
    first = _joblib._executor
    with pytest.raises(CallTimeout, match=r"call_timeout of 3 s"):
        run(joblib.delayed(time.sleep)(x) for x in (0, 600))
    timed = _joblib._executor
    assert timed is not first
    with joblib.parallel_config(backend="thread_chunks", n_jobs=2, call_timeout=3):
        assert parallel()(joblib.delayed(square)(x) for x in range(4)) == [0, 1, 4, 9]
        assert _joblib._executor is timed, "the same options need no other executor"
        assert parallel(call_timeout=600)(joblib.delayed(square)(x) for x in range(4)) == [0, 1, 4, 9]
    assert _joblib._executor is not timed


def fail_once(note):
    if not note.exists():
        note.touch()
        os._exit(1)
    return "done"


def test_retries(executor_on_ray, monkeypatch, tmp_path):
    monkeypatch.setattr(_joblib, "ChunkExecutor", executor_on_ray)
    monkeypatch.setattr(_joblib, "_executor", None)
    register_joblib()
    with joblib.parallel_config(backend="thread_chunks", n_jobs=2, max_retries=1):
        assert joblib.Parallel()(joblib.delayed(fail_once)(tmp_path / f"{x}") for x in range(2)) == ["done"] * 2


def test_options_of_the_registration(parallel):
    try:
        register_joblib(call_timeout=0.2)
        with joblib.parallel_config(backend="thread_chunks", n_jobs=2), pytest.raises(CallTimeout):
            parallel()(joblib.delayed(time.sleep)(x) for x in (0, 600))
    finally:
        register_joblib()


def test_errors_name_the_call(parallel):
    run = parallel(call_timeout=3, batch_size=2)
    with pytest.raises(CallTimeout, match=r"a call of sleep took .* It ran sleep\(0\), sleep\(600\)"):
        run(joblib.delayed(time.sleep)(x) for x in (0, 600, 0, 600))
    report = _joblib._executor.report()
    functions = {each.function for each in report.functions}
    assert functions - {"int"} == {"sleep"}  # of `int` is the call that tries an executor which others have used


def test_what_cannot_be_pickled_is_named(parallel):
    with pytest.raises(PicklingFailed, match="in a call of add: argument 'y': an object of type 'lock'"):
        parallel(batch_size=2)(joblib.delayed(add)(x, y=y) for x, y in ((1, 2), (1, threading.Lock())))


def add(x, y):
    return x + y


def test_what_runs_is_named(parallel):
    thread = threading.Thread(
        target=lambda: joblib.Parallel(2, backend="thread_chunks", batch_size=2)(
            joblib.delayed(time.sleep)(x) for x in (0.5, 0.6, 0.5, 0.6)
        )
    )
    thread.start()
    until(lambda: _joblib._executor is not None and _joblib._executor.running())
    calls = _joblib._executor.running()
    thread.join(60)
    assert {(call.function, call.arguments) for call in calls} == {("sleep", "sleep(0.5), sleep(0.6)")}


def test_unknown_options(parallel):
    with pytest.raises(TypeError, match=r"no option 'nonsense'. It has: actor_class, .* call_timeout"):
        parallel(nonsense=1)(joblib.delayed(square)(x) for x in range(4))
    with pytest.raises(TypeError, match="nonsense"):
        parallel(n_jobs=1, nonsense=1)(joblib.delayed(square)(x) for x in range(4))
    with pytest.raises(TypeError, match="nonsense"):
        joblib.parallel_config(backend="thread_chunks", nonsense=1)
    with pytest.raises(TypeError, match="nonsense"):
        register_joblib(nonsense=1)
    with pytest.raises(ValueError, match="max_retries"):
        parallel(max_retries=-1)(joblib.delayed(square)(x) for x in range(4))
    options = {"max_nbytes": 1, "mmap_mode": "r", "temp_folder": "/", "prefer": "processes"}
    assert parallel(**options)(joblib.delayed(square)(x) for x in range(4)) == [0, 1, 4, 9]


def limits_on_threads():
    return [os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "COLOUR")]


def test_limits_on_the_threads_of_numpy(executor_on_ray, monkeypatch):
    monkeypatch.setattr(_joblib, "ChunkExecutor", executor_on_ray)
    monkeypatch.setattr(_joblib, "_executor", None)
    register_joblib()
    options = {"runtime_env": {"env_vars": {"COLOUR": "blue"}}, "num_cpus": 0.5}
    config = joblib.parallel_config(backend="thread_chunks", n_jobs=2, inner_max_num_threads=3, actor_options=options)
    with config:
        values = joblib.Parallel()(joblib.delayed(limits_on_threads)() for _ in range(2))
    assert values == [["3", "3", "blue"]] * 2
    assert options == {"runtime_env": {"env_vars": {"COLOUR": "blue"}}, "num_cpus": 0.5}


def test_joblib_says_who_runs_the_calls(parallel, capsys):
    parallel(verbose=10)(joblib.delayed(square)(x) for x in range(2))
    printed = "".join(capsys.readouterr())
    assert "Using backend ThreadChunksBackend with 2 concurrent workers" in printed


def test_nested(parallel):
    def inner(x):
        return sum(joblib.Parallel(n_jobs=2)(joblib.delayed(square)(y) for y in range(x)))

    values = parallel()(joblib.delayed(inner)(x) for x in range(5))
    assert values == [sum(y * y for y in range(x)) for x in range(5)]


def test_numbers_of_jobs(parallel):
    backend = _joblib.ThreadChunksBackend()
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
