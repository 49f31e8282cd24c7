"""The contract, on the fake cluster and on Ray."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import enum
import functools
import gc
import itertools
import os
import pickle
import sys
import threading
import time
import traceback
import weakref

import numpy as np
import pytest
from fake_cluster import FakeExecutor
from ray.exceptions import ObjectLostError

from thread_chunks import (
    ExecutorBroken,
    LabelledActor,
    PicklingFailed,
    RemoteTraceback,
    UnpicklingFailed,
    WorkerLost,
    config,
)


def square(x):
    return x * x


def keywords(*args, **kwargs):
    return args, kwargs


def worker_of(_=None):
    return os.getpid(), threading.get_ident()


def wait_for(path, timeout=60):
    deadline = time.monotonic() + timeout
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.005)


def note_and_wait(folder, name, until):
    (folder / name).touch()
    wait_for(folder / until)
    return name


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * x

    def method(self, x):
        return -self.factor * x


class SeveralArguments(Exception):
    def __init__(self, a, b, *, c=3):
        super().__init__(f"{a} and {b}")
        self.a, self.b, self.c = a, b, c


def raise_several(x):
    raise SeveralArguments(x, [x], c=x)


class Unpicklable:
    def __reduce__(self):
        raise TypeError("refuses to be pickled")


class BreaksOnArrival:
    def __reduce__(self):
        return sys.exit, (3,)


class UnpicklableError(Exception):
    def __init__(self):
        super().__init__("the text survives", threading.Lock())


def raise_unpicklable(_=None):
    raise UnpicklableError


_local = threading.local()


def initialize(folder, value):
    _local.value = value
    (folder / str(time.monotonic_ns())).touch()


def initialized_here(_):
    return getattr(_local, "value", None)


# Functions


def test_submit(make):
    executor = make(2)
    futures = [executor.submit(square, x) for x in range(20)]
    assert [future.result() for future in futures] == [x * x for x in range(20)]
    assert all(type(future) is cf.Future for future in futures)


def test_keyword_arguments_of_any_name(make):
    kwargs = {"fn": 1, "self": 2, "func": 3, "label": 4, "args": 5}
    assert make(1).submit(keywords, 0, **kwargs).result() == ((0,), kwargs)
    assert make(keywords).submit(None, 0, **kwargs).result() == ((0,), kwargs)


@pytest.mark.parametrize("by_name", [True, False])
def test_stored_function(make, by_name):
    executor = make(square, 2)
    fn = square if by_name else None
    assert executor.submit(fn, 3).result() == 9
    assert list(executor.map(fn, [1, 2, 3])) == [1, 4, 9]
    assert list(executor.map([1, 2, 3])) == [1, 4, 9]
    assert list(executor.starmap(fn, [[1], [2]])) == [1, 4]
    assert list(executor.starmap([[1], [2]])) == [1, 4]
    assert executor.submit(abs, -1).result() == 1


def test_stored_function_is_replaced_for_later_calls(make, tmp_path):
    executor = make(square, 1)
    before = [executor.submit(None, x) for x in range(3)]
    executor.set_func(abs)
    assert [executor.submit(None, -x).result() for x in range(3)] == [0, 1, 2]
    assert [future.result() for future in before] == [0, 1, 4]


def test_stored_function_is_replaced_in_actors_that_get_no_call(make):
    executor = make(square, 3)
    assert executor.submit(None, 3).result() == 9
    executor.set_func(abs)
    for handle in executor.actors:
        assert handle.run.remote(0, -3).future().result(60) == (0, 3)


def test_stored_function_travels_once(make, tmp_path):
    class Counted:
        def __call__(self, x):
            return x

        def __reduce__(self):
            (tmp_path / str(time.monotonic_ns())).touch()
            return Counted, ()

    executor = make(Counted(), 2)
    assert list(executor.map(range(50))) == list(range(50))
    # Once, or for cloudpickle once more after plain pickle had failed on the local class.
    assert len(list(tmp_path.iterdir())) <= 2


def test_any_kind_of_function(make):
    executor, base = make(2), 10
    assert executor.submit(lambda x: x + base, 1).result() == 11
    assert list(executor.map(lambda x: x + base, [1, 2])) == [11, 12]
    assert executor.submit(functools.partial(pow, 2), 5).result() == 32
    assert list(executor.map(functools.partial(pow, 2), [1, 2])) == [2, 4]
    assert executor.submit(Scaled(3), 2).result() == 6
    assert executor.submit(Scaled(3).method, 2).result() == -6
    assert list(executor.map(Scaled(3).method, [1, 2])) == [-3, -6]
    assert executor.submit(sorted, [2, 1]).result() == [1, 2]

    def factorial(n):
        return 1 if n == 0 else n * factorial(n - 1)

    assert executor.submit(factorial, 5).result() == 120


def test_object_that_changes_between_submits(make):
    executor, scaled = make(1), Scaled(1)
    first = executor.submit(scaled.method, 1).result()
    scaled.factor = 2
    assert (first, executor.submit(scaled.method, 1).result()) == (-1, -2)


def test_many_functions(make):
    executor = make(2)
    for _ in range(2):
        futures = [executor.submit((lambda n: lambda: n)(n)) for n in range(50)]
        assert [future.result() for future in futures] == list(range(50))


def test_no_stored_function(make):
    executor = make(1)
    with pytest.raises(ValueError, match="no function"):
        executor.submit(None, 1)
    with pytest.raises(ValueError, match="no function"):
        executor.map([1, 2])


def test_generator_and_coroutine_functions_fail_as_their_values_cannot_be_pickled(make):
    def generator():
        yield 1

    with pytest.raises(PicklingFailed, match="generator"):
        make(1).submit(generator).result()


def test_bound_method_as_the_stored_function(make):
    scaled = Scaled(2)
    executor = make(scaled.method, 1)
    scaled.factor = 100  # which a message of its own would carry
    assert executor.submit(scaled.method, 1).result() == -2


class Counter:
    def __init__(self):
        self.n = 0
        self.large = np.zeros(100_000)

    def count(self, _=None):
        self.n += 1
        return self.n

    def write(self):
        self.large[0] = 1
        return self.large[0]


def test_each_call_gets_the_state_that_a_callable_had(make):
    executor, counter = make(1), Counter()
    assert list(executor.map(counter.count, range(4))) == [1] * 4
    assert list(executor.map(counter.count, range(4), chunksize=4)) == [1] * 4
    assert [executor.submit(counter.count).result() for _ in range(2)] == [1, 1]
    assert executor.submit(counter.write).result() == 1
    assert list(make(counter.count, 1).map(range(3))) == [1, 2, 3], "the stored function is the worker's own"


def test_function_whose_first_call_could_not_be_sent(make):
    executor = make(1)
    with pytest.raises(PicklingFailed):
        executor.submit(square, Unpicklable()).result()
    assert executor.submit(square, 3).result() == 9
    stored = make(abs, 1)
    assert stored.submit(None, -1).result() == 1
    stored.set_func(str)
    with pytest.raises(PicklingFailed):
        stored.submit(None, Unpicklable()).result()
    assert stored.submit(None, -1).result() == "-1"


def test_functions_are_sent_again_after_a_message_that_failed(make):
    executor = make(abs, 1)
    for _ in range(2):
        assert executor.submit(square, 3).result() == 9
        assert executor.submit(None, -1).result() == 1
        (worker,) = executor._dispatcher.workers
        failed = cf.Future()
        failed.set_exception(ObjectLostError("", None, ""))
        worker._replied(failed, None, {}, 0.0)


def test_functions_of_finished_series_are_forgotten(make):
    executor = make(abs, 1)
    for _ in range(5):
        assert list(executor.map(lambda x: x, range(3))) == [0, 1, 2]
    gc.collect()
    executor.submit(square, 1).result()
    (worker,) = executor._dispatcher.workers
    assert len(worker._functions) == 1


def test_what_is_iterable_and_callable(make):
    assert list(make(lambda x: x.value, 1).map(Color)) == [1, 2]
    assert list(make(1).map(Color, [1, 2])) == [Color.RED, Color.BLUE]


class Color(enum.Enum):
    RED = 1
    BLUE = 2


# Series


def test_map(make):
    executor = make(2)
    assert list(executor.map(pow, range(10), itertools.repeat(2))) == [x * x for x in range(10)]
    assert list(executor.map(square, [])) == []
    assert list(executor.map(square)) == []
    assert list(executor.starmap(pow, [(2, 3), [3, 2]])) == [8, 9]


@pytest.mark.parametrize("chunksize", [None, 1, 3, 1000])
def test_map_chunksize(make, chunksize):
    assert list(make(2).map(square, range(100), chunksize=chunksize)) == [x * x for x in range(100)]


def test_map_keeps_order_though_calls_finish_in_another(make, tmp_path):
    def late_first(x):
        if x == 0:
            wait_for(tmp_path / "4")
        (tmp_path / str(x)).touch()
        return x

    assert list(make(2).map(late_first, range(5))) == list(range(5))


def test_map_unordered(make, tmp_path):
    def late_first(x):
        if x == 0:
            wait_for(tmp_path / "go")
        return x

    values = make(2).map(late_first, range(5), unordered=True)
    assert sorted(itertools.islice(values, 4)) == [1, 2, 3, 4]
    (tmp_path / "go").touch()
    assert list(values) == [0]


@pytest.mark.parametrize("unordered", [False, True])
def test_map_buffersize(make, unordered):
    taken = []

    def source():
        for x in itertools.count():
            taken.append(x)
            yield x

    values = make(2).map(square, source(), buffersize=5, unordered=unordered)
    assert len(taken) == 5
    for consumed in range(1, 50):
        next(values)
        assert len(taken) == 5 + consumed
    values.close()


def test_map_buffersize_to_the_end(make):
    executor = make(2)
    assert list(executor.map(square, iter(range(100)), buffersize=7)) == [x * x for x in range(100)]
    assert list(executor.map(square, range(100), buffersize=1)) == [x * x for x in range(100)]
    assert list(executor.map(square, [], buffersize=1)) == []


def test_map_buffersize_after_shutdown(make):
    executor = make(1)
    values = executor.map(square, itertools.count(), buffersize=2)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        next(values)


def test_map_buffersize_of_a_dropped_executor(executor_class):
    values = executor_class(2).map(square, range(20), buffersize=2)
    for expected in range(20):
        gc.collect()
        assert next(values) == expected * expected
        time.sleep(0.01)
    assert list(values) == []


def test_map_starts_while_its_input_is_still_read(make, tmp_path):
    def source():
        yield tmp_path / "first"
        wait_for(tmp_path / "first")
        yield tmp_path / "second"

    assert list(make(1).map(lambda path: path.touch(), source())) == [None, None]


@pytest.mark.parametrize("buffersize", [None, 2])
def test_map_timeout_counts_from_the_call(make, tmp_path, buffersize):
    executor = make(1)
    values = executor.map(wait_for, [tmp_path / "go", tmp_path / "go"], timeout=0.2, buffersize=buffersize)
    with pytest.raises(cf.TimeoutError):
        next(values)
    (tmp_path / "go").touch()


def test_timeout_error_of_the_function_is_not_taken_for_the_time_out(make):
    def slow():
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        make(1).submit(slow).result(timeout=60)


def test_map_error_comes_in_its_place_and_cancels_the_rest(make, tmp_path):
    def f(x):
        (tmp_path / str(x)).touch()
        if x == 3:
            raise LookupError(x)
        return x

    values = make(1).map(f, range(1000))
    assert [next(values) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(LookupError):
        next(values)
    assert list(values) == []
    assert len(list(tmp_path.iterdir())) < 1000


@pytest.mark.parametrize("drop", [True, False])
def test_map_closed_or_dropped_cancels_the_rest(make, tmp_path, drop):
    executor = make(1)

    def f(x):
        (tmp_path / str(x)).touch()
        time.sleep(0.001)

    values = executor.map(f, range(5000))
    next(values)
    if drop:
        del values
    else:
        values.close()
    executor.shutdown()
    assert len(list(tmp_path.iterdir())) < 5000


def test_map_whose_values_nobody_asks_for_runs_all_the_same(make, tmp_path):
    executor = make(2)
    executor.map(lambda x: (tmp_path / str(x)).touch(), range(50))
    executor.shutdown()
    assert len(list(tmp_path.iterdir())) == 50


# Blocks: calls that are short travel together, and none of them is held back


def meet(folder, number, of):
    """Return at once, but for the last `of` numbers, each of which waits for the next."""
    if number >= 0:
        (folder / str(number)).touch()
        if number + 1 < of:
            wait_for(folder / str(number + 1))
    return number


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("how", ["map", "submit"])
def test_calls_that_need_each_other_after_many_short_ones(make, tmp_path, workers, how):
    executor = make(workers)
    numbers = [*[-1] * 10_000, *range(workers)]
    if how == "map":
        values = executor.map(meet, itertools.repeat(tmp_path), numbers, itertools.repeat(workers))
    else:
        values = [future.result() for future in [executor.submit(meet, tmp_path, n, workers) for n in numbers]]
    assert list(values) == numbers


@pytest.mark.parametrize("workers", [1, 2])
def test_a_long_call_holds_back_neither_values_nor_calls(make, tmp_path, workers):
    def f(number):
        if number == 2000:
            wait_for(tmp_path / "go")
        return number

    values = make(workers).map(f, range(3000), unordered=True)
    before = 2999 if workers > 1 else 2000
    assert len(set(itertools.islice(values, before)) - {2000}) == before
    (tmp_path / "go").touch()
    assert len(list(values)) == 3000 - before


def test_a_long_call_holds_back_no_futures(make, tmp_path):
    def f(number):
        if number == 2000:
            wait_for(tmp_path / "go")
        return number

    executor = make(2)
    futures = [executor.submit(f, number) for number in range(3000)]
    long = futures.pop(2000)
    assert cf.wait(futures, timeout=60).not_done == set()
    assert not long.done()
    (tmp_path / "go").touch()
    assert long.result() == 2000


def test_every_call_runs_once_though_blocks_are_surrendered(make, tmp_path):
    def f(number):
        with open(tmp_path / "ledger", "a") as ledger:
            ledger.write(f"{number}\n")
        if number % 400 == 399:
            time.sleep(0.12)
        return number

    executor = make(2)
    futures = [executor.submit(f, number) for number in range(2000)]
    assert list(executor.map(f, range(2000, 4000))) == list(range(2000, 4000))
    assert [future.result() for future in futures] == list(range(2000))
    assert sorted(map(int, (tmp_path / "ledger").read_text().split())) == list(range(4000))


def test_one_bad_call_among_many(make):
    executor = make(2)
    items = [*range(5000), Unpicklable(), *range(5000)]
    futures = [executor.submit(square, item) for item in items]
    values = executor.map(square, items)
    assert [next(values) for _ in range(5000)] == [x * x for x in range(5000)]
    with pytest.raises(PicklingFailed, match="argument 0"):
        next(values)
    assert isinstance(futures.pop(5000).exception(), PicklingFailed)
    assert [future.result() for future in futures] == [x * x for x in range(5000)] * 2


def test_callables_with_a_state_travel_together(make):
    executor = make(2)
    futures = [executor.submit(Scaled(factor).method, 2) for factor in range(500)]
    futures += [executor.submit(functools.partial(pow, base), 2) for base in range(500)]
    assert [future.result() for future in futures] == [-2 * factor for factor in range(500)] + [
        b * b for b in range(500)
    ]
    with pytest.raises(PicklingFailed, match="the function: an object of type 'partial'"):
        executor.submit(functools.partial(square, threading.Lock())).result()
    with pytest.raises(PicklingFailed, match=r"argument 0: an object of type 'lock'"):
        executor.submit(functools.partial(pow, 2), threading.Lock()).result()


def test_values_stay_readable_after_the_end(make):
    executor = make(2)
    values = executor.map(square, range(50))
    executor.shutdown()
    assert list(values) == [x * x for x in range(50)]


def test_input_that_raises_midway(make, tmp_path):
    executor = make(1)

    def source():
        yield from range(3)
        raise OSError("the input broke")

    with pytest.raises(OSError, match="the input broke"):
        executor.map(square, source())
    values = executor.map(square, source(), buffersize=2)
    assert next(values) == 0
    with pytest.raises(OSError, match="the input broke"):
        list(values)
    assert executor.submit(square, 2).result() == 4


def test_map_goes_through_a_submit_that_was_overridden(executor_class):
    submitted = []

    class Overriding(executor_class):
        def submit(self, fn, /, *args, **kwargs):
            submitted.append(args)
            return super().submit(fn, *args, **kwargs)

    with Overriding(2) as executor:
        assert list(executor.map(square, range(5))) == [0, 1, 4, 9, 16]
        assert list(executor.map(square, iter(range(5)), buffersize=2)) == [0, 1, 4, 9, 16]
        assert sorted(executor.starmap(pow, [(1, 2), (2, 2)], unordered=True)) == [1, 4]
        with pytest.raises(ZeroDivisionError):
            list(executor.map(divmod, [1, 1], [1, 0]))
    assert len(submitted) == 14


def test_map_goes_through_a_submit_that_was_replaced_on_the_instance(make):
    executor, submitted = make(2), []
    original = executor.submit
    executor.submit = lambda *args: submitted.append(args) or original(*args)
    assert list(executor.map(square, [1, 2])) == [1, 4]
    assert submitted == [(square, 1), (square, 2)]


# Values and errors


def test_arrays_are_writable_on_both_sides(make):
    def work(pair):
        small, large = pair
        small[0] = large[0] = 7
        return {"small": small, "large": (large,)}

    arrays = np.zeros(3), np.zeros(10**6)
    back = make(1).submit(work, arrays).result()
    back["small"][1] = back["large"][0][1] = 8
    assert back["small"][0] == back["large"][0][0] == 7
    assert arrays[0][0] == arrays[1][0] == 0


def test_arrays_that_are_read_only_stay_so(make):
    array = np.zeros(10)
    array.flags.writeable = False
    assert not make(1).submit(lambda x: x.flags.writeable, array).result()


def test_zero_copy(make):
    def look(small, large):
        return small.flags.writeable, large.flags.writeable, np.ones(10**5)

    executor, large = make(1, zero_copy=True), np.zeros(10**6)
    small_writable, large_writable, back = executor.submit(look, np.zeros(3), large).result()
    assert (small_writable, large_writable, back.flags.writeable) == (True, False, False)
    assert back.sum() == 10**5
    (value,) = executor.map(look, [np.zeros(3)], [large])
    assert not value[2].flags.writeable


def test_values_of_any_size_and_type(make):
    values = [None, b"x" * 10**6, bytearray(10**6), "é" * 10**5, {1: [2, (3,)]}, float("inf"), np.float64(3), 1 << 100]
    for value, back in zip(values, make(1).map(lambda x: x, values), strict=True):
        assert type(back) is type(value)
        assert back == value


def test_one_object_within_a_call_stays_one(make):
    def same(a, b=None):
        return a is b

    shared = [1]
    assert make(1).submit(same, shared, b=shared).result()


def test_calls_of_a_block_share_nothing(make):
    shared = [0]

    def append(items):
        items.append(1)
        return len(items)

    assert list(make(1).map(append, [shared] * 4, chunksize=4)) == [2] * 4
    kept = []

    def accumulate(x):
        kept.append(x)
        return kept

    assert list(make(1).map(accumulate, range(3), chunksize=3)) == [[0], [0, 1], [0, 1, 2]]


def test_error_arrives_as_it_was_raised(make):
    with pytest.raises(SeveralArguments) as caught:
        make(1).submit(raise_several, 5).result()
    error = caught.value
    assert type(error) is SeveralArguments
    assert (error.args, error.a, error.b, error.c) == (("5 and [5]",), 5, [5], 5)
    assert type(error.__cause__) is RemoteTraceback
    assert "in raise_several" in str(error.__cause__)


@pytest.mark.parametrize(
    "error",
    [
        KeyError("k"),
        OSError(2, "no such file", "name"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
        StopIteration(4),
        SystemExit(5),
        KeyboardInterrupt(),
        ImportError("no", name="n", path="p"),
        cf.TimeoutError("late"),
        SyntaxError("bad", ("file", 1, 2, "text")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_python(make, error):
    def fail():
        raise error

    executor = make(1)
    arrived = executor.submit(fail).exception()
    assert type(arrived) is type(error)
    assert arrived.args == error.args
    ours = {name: value for name, value in vars(type(error)).items() if type(value).__name__ == "member_descriptor"}
    assert {name: getattr(arrived, name) for name in ours} == {name: getattr(error, name) for name in ours}
    assert executor.submit(square, 2).result() == 4


def test_what_cannot_be_pickled_fails_alone(make):
    executor = make(2)
    argument = executor.submit(keywords, 1, Unpicklable())
    value = executor.submit(lambda: Unpicklable())
    error = executor.submit(raise_unpicklable)
    assert executor.submit(square, 3).result() == 9
    with pytest.raises(PicklingFailed, match=r"argument 1: an object of type 'Unpicklable'.*refuses to be pickled"):
        argument.result()
    with pytest.raises(PicklingFailed, match=r"type 'Unpicklable'"):
        value.result()
    with pytest.raises(PicklingFailed, match=r"type 'UnpicklableError'.*the text survives"):
        error.result()


def test_what_cannot_be_unpickled_fails_alone(make):
    executor = make(2)
    argument = executor.submit(keywords, BreaksOnArrival())
    value = executor.submit(BreaksOnArrival)
    assert executor.submit(square, 3).result() == 9
    with pytest.raises(UnpicklingFailed, match="SystemExit"):
        argument.result()
    with pytest.raises(UnpicklingFailed, match=r"type 'BreaksOnArrival'.*SystemExit"):
        value.result()


def test_bad_calls_in_a_block_fail_alone(make):
    items = [1, Unpicklable(), "2", BreaksOnArrival(), None]
    executor = make(1)
    outcomes = []
    for start in range(len(items)):
        values = executor.map(square, [3, *items[start : start + 1], 4], chunksize=3)
        assert next(values) == 9
        try:
            outcomes.append(next(values))
        except Exception as error:
            outcomes.append(type(error))
        else:
            assert next(values) == 16
    assert outcomes == [1, PicklingFailed, TypeError, UnpicklingFailed, TypeError]


def test_function_that_cannot_be_pickled_or_unpickled(make):
    executor, lock = make(1), threading.Lock()
    with pytest.raises(PicklingFailed, match="lock"):
        executor.submit(lambda: lock).result()
    with pytest.raises(PicklingFailed, match="lock"):
        list(executor.map(lambda x: lock, [1]))
    with pytest.raises(UnpicklingFailed, match="SystemExit"):
        executor.submit(BreaksOnArrivalFunction()).result()
    assert executor.submit(square, 3).result() == 9


class BreaksOnArrivalFunction(BreaksOnArrival):
    def __call__(self):
        raise AssertionError


class ReducesToNoException(Exception):
    def __reduce__(self):
        return str, ("no exception",)


class Frozen(Exception):
    def __setattr__(self, name, value):
        raise TypeError(name)


class LiesAboutItsClass:
    @property
    def __class__(self):
        raise RuntimeError("not telling")


def raise_it(kind):
    raise kind()


def test_odd_objects_do_no_harm_to_others(make):
    executor = make(1)
    assert isinstance(executor.submit(raise_it, ReducesToNoException).exception(60), UnpicklingFailed)
    assert type(executor.submit(raise_it, Frozen).exception(60)) is Frozen
    executor.submit(square, LiesAboutItsClass()).exception(60)
    executor.submit(raise_it, LiesAboutItsClass).exception(60)
    bad_syntax = SyntaxError("bad", ("file", "not a line", 2, "text"))
    assert executor.submit(_raise, bad_syntax).exception(60) is not None
    assert executor.submit(square, 3).result(60) == 9


def _raise(error):
    raise error


# Futures


def test_wait_and_as_completed(make):
    executor = make(2)
    futures = {executor.submit(square, x) for x in range(5)}
    done, pending = cf.wait(futures, timeout=60)
    assert (done, pending) == (futures, set())
    assert {future.result() for future in cf.as_completed(futures)} == {0, 1, 4, 9, 16}


def test_asyncio(make):
    executor = make(2)

    async def main():
        loop = asyncio.get_running_loop()
        wrapped = asyncio.wrap_future(executor.submit(square, 3))
        return await asyncio.gather(wrapped, *(loop.run_in_executor(executor, square, x) for x in range(10)))

    assert asyncio.run(main()) == [9, *(x * x for x in range(10))]


def test_cancel_until_started(make, tmp_path):
    executor = make(1)
    running = executor.submit(note_and_wait, tmp_path, "started", "go")
    wait_for(tmp_path / "started")
    waiting = executor.submit(square, 3)
    assert running.running()
    assert not running.cancel()
    assert waiting.cancel()
    (tmp_path / "go").touch()
    assert running.result() == "started"
    with pytest.raises(cf.CancelledError):
        waiting.result()
    assert cf.wait([waiting], timeout=60).done == {waiting}


def test_callbacks(make, caplog, tmp_path):
    executor, later, broken = make(1), cf.Future(), threading.Event()

    def fail(_):
        broken.set()
        raise SystemExit

    blocker = executor.submit(note_and_wait, tmp_path, "started", "go")  # so that the callbacks run in their thread
    executor.submit(square, 2).add_done_callback(fail)
    executor.submit(square, 2).add_done_callback(lambda _: later.set_result(executor.submit(square, 5)))
    (tmp_path / "go").touch()
    assert blocker.result() == "started"
    assert later.result(60).result(60) == 25
    assert broken.is_set()


def test_callback_that_exits_when_it_is_cancelled(make, tmp_path):
    def fail(_):
        raise SystemExit

    executor = make(1)
    running = executor.submit(note_and_wait, tmp_path, "started", "go")
    waiting = [executor.submit(square, x) for x in range(3)]
    waiting[0].add_done_callback(fail)
    wait_for(tmp_path / "started")
    executor.shutdown(wait=False, cancel_futures=True)
    assert cf.wait(waiting, timeout=60).not_done == set()
    (tmp_path / "go").touch()
    assert running.result(60) == "started"


def test_callback_that_waits_for_the_end_is_refused(make, tmp_path):
    executor, error = make(1), cf.Future()

    def end(_):
        try:
            executor.shutdown(wait=True)
        except RuntimeError as raised:
            error.set_result(str(raised))

    executor.submit(note_and_wait, tmp_path, "started", "go").add_done_callback(end)
    (tmp_path / "go").touch()
    assert "shutdown(wait=False)" in error.result(60)


def test_nothing_refers_to_what_is_resolved(make, tmp_path, request):
    executor = make(1)
    gc.collect()
    request.addfinalizer(gc.enable)
    gc.disable()

    class Thing:
        pass

    class Boom(Exception):
        pass

    def boom(thing):
        raise Boom(thing)

    def gone(reference):  # by itself: what takes a garbage collection may take gigabytes until then
        deadline = time.monotonic() + 20
        while reference() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        return reference() is None

    argument = Thing()
    reference = weakref.ref(argument)
    value = executor.submit(lambda thing: Thing(), argument).result()
    assert type(value) is Thing
    del argument
    assert gone(reference)
    reference = weakref.ref(value)
    del value
    assert gone(reference)
    value = next(executor.map(lambda x: Thing(), [1]))
    reference = weakref.ref(value)
    del value
    assert gone(reference)
    error = executor.submit(boom, Thing()).exception()
    reference = weakref.ref(error)
    del error
    assert gone(reference)
    # A cancelled call lets its arguments go, though it still stands in the queue.
    blocker = executor.submit(note_and_wait, tmp_path, "started", "go")
    argument = Thing()
    reference = weakref.ref(argument)
    executor.submit(square, argument).cancel()
    del argument
    assert gone(reference)
    (tmp_path / "go").touch()
    assert blocker.result() == "started"


@pytest.mark.parametrize("overridden", [False, True])
@pytest.mark.parametrize("how", ["error", "time-out", "input"])
def test_an_error_of_map_that_is_kept_keeps_nothing_else(executor_class, request, tmp_path, how, overridden):
    class Thing:
        pass

    class Overriding(executor_class):
        def submit(self, fn, /, *args, **kwargs):
            return super().submit(fn, *args, **kwargs)

    def f(x):
        if x == 0 and how == "error":
            wait_for(tmp_path / "2")
            raise LookupError
        if x == 0 and how == "time-out":
            wait_for(tmp_path / "go")
        (tmp_path / str(x)).touch()
        return Thing()

    def source():
        yield from range(4)
        if how == "input":
            raise LookupError

    gc.collect()
    request.addfinalizer(gc.enable)
    gc.disable()
    executor = (Overriding if overridden else executor_class)(2)
    thread = executor._thread
    values = executor.map(f, source(), buffersize=4, timeout=0.5 if how == "time-out" else None)
    seen = []
    with pytest.raises((LookupError, cf.TimeoutError)) as caught:
        seen.extend(weakref.ref(value) for value in values)
    (tmp_path / "go").touch()
    del executor, values
    thread.join(60)  # the executor ends, which was dropped
    assert not thread.is_alive()
    frames = [frame.f_locals for frame, _ in traceback.walk_tb(caught.tb)]
    assert not [name for names in frames for name, value in names.items() if isinstance(value, Thing)]
    assert all(reference() is None for reference in seen)


def test_values_of_map_are_not_kept(make):
    class Thing:
        pass

    for value in make(2).map(lambda x: Thing(), range(10)):
        reference = weakref.ref(value)
        del value
        assert reference() is None


# Workers


def test_at_most_chunk_size_calls_at_once(make, tmp_path):
    def overlap(x):
        mine = tmp_path / str(x)
        mine.touch()
        count = len(list(tmp_path.iterdir()))
        time.sleep(0.01)
        mine.unlink()
        return count

    assert max(make(3).map(overlap, range(60))) <= 3


def test_all_workers_run_at_once(make, tmp_path):
    def meet(x):
        (tmp_path / str(x)).touch()
        for other in range(3):
            wait_for(tmp_path / str(other))
        return x

    assert list(make(3).map(meet, range(3))) == [0, 1, 2]


def test_max_tasks_per_child(make, tmp_path):
    started = tmp_path / "started"
    started.mkdir()
    executor = make(1, initializer=initialize, initargs=(started, 0), max_tasks_per_child=3)
    assert list(executor.map(square, range(6), chunksize=6)) == [x * x for x in range(6)]  # which is one task
    assert [executor.submit(square, x).result() for x in range(6)] == [0, 1, 4, 9, 16, 25]
    assert len(list(started.iterdir())) == 3


def test_max_tasks_per_child_of_one_with_many_calls(executor_class, make, tmp_path):
    calls = 500 if executor_class is FakeExecutor else 10  # a process of Ray takes half a second
    executor = make(2, max_tasks_per_child=1)

    def overlap(x):
        mine = tmp_path / str(x)
        mine.touch()
        count = len(list(tmp_path.iterdir()))
        mine.unlink()
        return x, count <= 2

    assert list(executor.map(overlap, range(calls))) == [(x, True) for x in range(calls)]


@pytest.mark.parametrize("stop", ["terminate_workers", "kill_workers"])
def test_workers_are_ended_at_once(make, tmp_path, stop):
    executor = make(2)
    running = [executor.submit(note_and_wait, tmp_path, str(x), "go") for x in range(2)]
    waiting = executor.submit(square, 3)
    for x in range(2):
        wait_for(tmp_path / str(x))
    getattr(executor, stop)()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(square, 3)
    assert [type(future.exception(60)) for future in running] == [WorkerLost] * 2
    with pytest.raises(cf.CancelledError):
        waiting.result(60)
    executor.shutdown()
    getattr(executor, stop)()
    (tmp_path / "go").touch()


def test_ending_the_workers_shuts_down(executor_class, make):
    calls = []

    class Told(executor_class):
        def shutdown(self, wait=True, *, cancel_futures=False):
            calls.append((wait, cancel_futures))
            super().shutdown(wait, cancel_futures=cancel_futures)

    executor = Told(1)
    executor.terminate_workers()
    assert calls == [(False, True)]
    executor.shutdown()


def test_initializer_runs_once_per_worker_in_the_thread_of_the_calls(make, tmp_path):
    executor = make(1, initializer=initialize, initargs=(tmp_path, 5))
    assert list(executor.map(initialized_here, range(10))) == [5] * 10
    assert len(list(tmp_path.iterdir())) == 1


def test_failing_initializer_breaks_the_executor(make):
    def initialize():
        raise LookupError("no model")

    executor = make(2, initializer=initialize)
    futures = [executor.submit(square, x) for x in range(5)]
    for future in futures:
        with pytest.raises(cf.process.BrokenProcessPool, match="no model") as caught:
            future.result()
        assert type(caught.value.__cause__) is LookupError
    with pytest.raises(ExecutorBroken, match="no model"):
        executor.submit(square, 1)
    with pytest.raises(ExecutorBroken, match="no model"):
        executor.map(square, [1])


def custom_class():
    # Local, so that it travels by value: Ray looks for an actor's module beside the program only.
    class Custom(LabelledActor):
        def __init__(self, func=None):
            super().__init__(func)
            self.loaded = 100

        def run(self, label, *args):
            label, value = super().run(label, *args)
            return label, (label, self.loaded + value)

    return Custom


def test_actor_class(make):
    Custom = custom_class()  # noqa: N806
    executor = make(square, 2, actor_class=Custom)
    assert list(executor.map(range(4))) == [(0, 100), (1, 101), (2, 104), (3, 109)]
    assert list(executor.map(None, range(4), chunksize=3)) == [(0, 100), (1, 101), (2, 104), (3, 109)]
    assert executor.submit(square, 3).result() == (0, 109)
    assert list(executor.map(abs, [-1])) == [1], "only the stored function's calls go through run"


def test_labels_are_those_of_the_series(make, tmp_path):
    class Noting(LabelledActor):
        def run(self, label, *args):
            (tmp_path / str(label)).touch()
            return super().run(label, *args)

    executor = make(square, 1, actor_class=Noting)
    executor.map([1, Unpicklable(), 3, 4], chunksize=3)
    executor.shutdown()
    assert sorted(os.listdir(tmp_path)) == ["0", "2", "3"]


def test_overridden_get_func(make):
    class Doubling(LabelledActor):
        def get_func(self):
            return lambda x: 2 * x

    assert list(make(square, 1, actor_class=Doubling).map([1, 2, 3])) == [2, 4, 6]


def test_actors_attribute(make):
    assert len(make(square, 3).actors) == 3
    assert make(3).actors == []


def test_attributes(make):
    executor = make(3)
    assert (executor._max_workers, executor.max_workers, executor.chunk_size, executor.size) == (3, 3, 3, 3)
    assert type(executor._max_workers) is int
    assert make(max_workers=2).chunk_size == make(chunk_size=2, max_workers=2).chunk_size == 2
    assert make(np.int64(2)).chunk_size == make(square, np.int64(2)).chunk_size == 2
    assert type(make(np.int64(2))._max_workers) is int
    executor.anything = 1


# Lifetime


def test_shutdown(make):
    executor = make(2)
    future = executor.submit(square, 3)
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(square, 3)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(square, [3])
    assert future.result() == 9
    executor.shutdown()
    executor.shutdown(True)


def test_shutdown_waits_for_all(make):
    executor = make(2)
    futures = [executor.submit(time.sleep, 0.01) for _ in range(20)]
    executor.shutdown()
    assert all(future.done() for future in futures)


def test_shutdown_cancels(make, tmp_path):
    executor = make(1)
    running = executor.submit(note_and_wait, tmp_path, "started", "go")
    wait_for(tmp_path / "started")
    waiting = [executor.submit(square, x) for x in range(5)]
    values = executor.map(square, range(5))
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(cf.CancelledError):
        next(values)
    assert cf.wait(waiting, timeout=60).not_done == set()
    assert all(future.cancelled() for future in waiting)
    (tmp_path / "go").touch()
    assert running.result() == "started"


def test_dropped_executor_finishes_its_work(executor_class):
    executor = executor_class(2)
    thread = executor._thread
    futures = [executor.submit(square, x) for x in range(20)]
    values = executor.map(square, range(20))
    del executor
    assert [future.result() for future in futures] == [x * x for x in range(20)]
    assert list(values) == [x * x for x in range(20)]
    thread.join(60)
    assert not thread.is_alive()


def test_shutdown_from_many_threads(make):
    executor = make(2)
    executor.submit(time.sleep, 0.05)
    threads = [threading.Thread(target=executor.shutdown) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_executor_cannot_be_pickled(make):
    with pytest.raises(TypeError):
        pickle.dumps(make(1))


def test_many_threads(make):
    executor, failures = make(3), []

    def use(seed):
        try:
            for n in range(10):
                futures = [executor.submit(square, x) for x in range(seed, seed + 5)]
                cancelled = futures[n % 5].cancel()
                for x, future in enumerate(futures, seed):
                    if not (cancelled and future.cancelled()):
                        assert future.result(60) == x * x
                assert list(executor.map(square, range(seed), chunksize=1 + n)) == [x * x for x in range(seed)]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []


# Bad input


@pytest.mark.parametrize(
    ("arguments", "keywords", "error"),
    [
        ((0,), {}, ValueError),
        ((-1,), {}, ValueError),
        (("4",), {}, TypeError),
        ((2.0,), {}, TypeError),
        ((square, "4"), {}, TypeError),
        ((square, 0), {}, ValueError),
        ((2, 3), {}, TypeError),
        ((2,), {"max_workers": 3}, ValueError),
        ((), {"max_workers": 0}, ValueError),
        ((2,), {"initializer": 3}, TypeError),
        ((2,), {"initializer": square, "initargs": [1]}, TypeError),
        ((square,), {"actors": []}, ValueError),
        ((square,), {"actors": ["actor"]}, TypeError),
        ((square,), {"actor_class": square}, TypeError),
        ((square,), {"actor_class": dict}, TypeError),
        ((square,), {"actors": [], "actor_class": LabelledActor}, ValueError),
        ((2,), {"max_tasks_per_child": 0}, ValueError),
        ((2,), {"max_tasks_per_child": 1.5}, TypeError),
        ((square,), {"actors": [], "max_tasks_per_child": 2}, ValueError),
        ((lambda: Unpicklable(),), {"initializer": Unpicklable().__reduce__}, PicklingFailed),
    ],
)
def test_bad_constructor_arguments(make, arguments, keywords, error):
    with pytest.raises(error):
        make(*arguments, **keywords)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"chunksize": 0}, ValueError),
        ({"chunksize": 1.5}, TypeError),
        ({"buffersize": 0}, ValueError),
        ({"buffersize": "2"}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"surprise": 1}, TypeError),
    ],
)
def test_bad_map_arguments(make, options, error):
    executor = make(1)
    with pytest.raises(error):
        executor.map(square, [1], **options)
    row = iter([1])
    with pytest.raises(error):
        executor.starmap(square, [row], **options)
    assert list(row) == [1], "nothing was taken"


def test_bad_calls(make):
    executor = make(1)
    with pytest.raises(TypeError, match="must be callable"):
        executor.submit(3, 4)
    with pytest.raises(TypeError):
        executor.map(square, 3)
    with pytest.raises(TypeError, match=r"parameters\[1\] must be a list of arguments, not 2"):
        executor.starmap(square, [[1], 2])
    with pytest.raises(TypeError, match=r"parameters\[0\] must be a list of arguments, not 'ab'"):
        executor.starmap(square, iter(["ab"]))


def test_bad_default(make, monkeypatch):
    monkeypatch.setattr(config, "default_chunk_size", 0)
    with pytest.raises(ValueError, match="default_chunk_size"):
        make()


# The bar


def test_bar_counts_calls_and_goes_away_on_errors(make, capsys):
    executor = make(2)
    assert len(list(executor.map(square, range(20), progress_bar=True))) == 20
    assert "20/20" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        list(executor.map(divmod, [1, 1], [1, 0], progress_bar=True))
    assert capsys.readouterr().err.endswith("\r")
    assert list(executor.map(square, range(3))) == [0, 1, 4]
    assert capsys.readouterr().err == ""
