"""Every kind of function runs, as it was when it was given."""

from __future__ import annotations

import concurrent.futures as cf
import enum
import functools
import gc
import time

import pytest
from functions import Counter, Scaled, Unpicklable, keywords, square
from insides import with_workers
from ray.exceptions import ObjectLostError

from thread_chunks import PicklingFailed
from thread_chunks._wire.pickling import pack_error
from thread_chunks._wire.protocol import Refused, encode


def test_submit(make):
    executor = make(2)
    futures = [executor.submit(square, x) for x in range(20)]
    assert [future.result() for future in futures] == [x * x for x in range(20)]
    assert all(type(future) is cf.Future for future in futures)


def test_keyword_arguments_of_any_name(make):
    kwargs = {"fn": 1, "self": 2, "func": 3, "label": 4, "args": 5}
    assert make(1).submit(keywords, 0, **kwargs).result() == ((0,), kwargs)
    assert make(keywords, 1).submit(None, 0, **kwargs).result() == ((0,), kwargs)


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
    executor = make(square, 2)
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
    scaled.factor = 100  # which another message would carry
    assert executor.submit(scaled.method, 1).result() == -2


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


def test_functions_are_sent_again_after_a_message_that_failed(executor_class):
    told, started = with_workers(executor_class)
    with told(abs, 1) as executor:
        for _ in range(2):
            assert executor.submit(square, 3).result() == 9
            assert executor.submit(None, -1).result() == 1
            (worker,) = started
            worker.received(encode(Refused(0, pack_error(ObjectLostError("", None, "")))))


class Weight:
    """What a function holds, to be counted."""


def weights():
    gc.collect()
    return sum(type(obj) is Weight for obj in gc.get_objects())


def holding_a_weight():
    weight = Weight()
    return lambda x: weight and x


def test_functions_of_finished_series_are_forgotten(make):
    executor = make(abs, 1)
    for _ in range(5):
        assert list(executor.map(holding_a_weight(), range(3))) == [0, 1, 2]
    gc.collect()
    executor.submit(square, 1).result()
    assert executor.submit(weights).result() == 0


def test_what_is_iterable_and_callable(make):
    assert list(make(lambda x: x.value, 1).map(Color)) == [1, 2]
    assert list(make(1).map(Color, [1, 2])) == [Color.RED, Color.BLUE]


class Color(enum.Enum):
    RED = 1
    BLUE = 2
