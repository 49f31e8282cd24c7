"""Values and errors arrive as they were, and a bad one fails only its own call."""

from __future__ import annotations

import concurrent.futures as cf
import threading

import numpy as np
import pytest
from functions import (
    BreaksOnArrival,
    BreaksOnArrivalFunction,
    Frozen,
    LiesAboutItsClass,
    ReducesToNoException,
    Unpicklable,
    keywords,
    raise_it,
    square,
)

from thread_chunks import PicklingFailed, RemoteTraceback, UnpicklingFailed


class SeveralArguments(Exception):
    def __init__(self, a, b, *, c=3):
        super().__init__(f"{a} and {b}")
        self.a, self.b, self.c = a, b, c


def raise_several(x):
    raise SeveralArguments(x, [x], c=x)


class UnpicklableError(Exception):
    def __init__(self):
        super().__init__("the text survives", threading.Lock())


def raise_unpicklable(_=None):
    raise UnpicklableError


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
    for array in (large, np.zeros(10**5)):  # one travels by Ray, the other by the channel
        small_writable, large_writable, back = executor.submit(look, np.zeros(3), array).result()
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
