"""What errors, notes and the log say of calls."""

from __future__ import annotations

import datetime
import enum
import sys
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field

import numpy as np
import pytest
from manual_cluster import Driver, fast_driver, ready_driver

from thread_chunks._calls.calls import Outcomes, extended
from thread_chunks._dispatch.messages import Close, Finished, Lost
from thread_chunks._dispatch.naming import short_form
from thread_chunks.errors import CallTimeout, WorkerLost, WorkerOutOfMemory


class Loud:
    def __repr__(self):
        raise AssertionError("code of the user's ran")

    def __lt__(self, other):
        raise AssertionError("code of the user's ran")

    __len__ = __iter__ = __eq__ = __lt__

    def __hash__(self):
        return 1


@dataclass
class Model:
    depth: int
    weights: list = field(default_factory=list)
    hidden: int = field(default=0, repr=False)


class Color(enum.Enum):
    RED = 1


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.5, "1.5"),
        ("a" * 1000, "'" + "a" * 36 + "..."),
        (b"ab", "b'ab'"),
        (10**3000, "<int of 9966 bits>"),
        (None, "None"),
        (range(3), "range(0, 3)"),
        ([1, 2, 3, 4, 5], "[1, 2, 3, 4, ...]"),
        ((1,), "(1,)"),
        ((), "()"),
        (set(), "set()"),
        ({7}, "{7}"),
        ({"a": [1], "b": {}}, "{'a': [1], 'b': {}}"),
        ([[[[[1]]]]], "[[[[...]]]]"),
        (Model(3, [1]), "Model(depth=3, weights=[1])"),
        (Color.RED, "Color.RED"),
        (Point(1, Loud()), "Point(x=1, y=<Loud object>)"),
        ([Loud()], "[<Loud object>]"),
        ({Loud()}, "{<Loud object>}"),
        (OrderedDict(a=Loud()), "<OrderedDict object>"),
        (np.zeros((3, 4)), "<array of shape (3, 4), float64>"),
        (np.array([Loud()]), "<array of shape (1,), object>"),
        (datetime.date(2020, 1, 2), "datetime.date(2020, 1, 2)"),
        (len, "len"),
        (Loud, "Loud"),
        (Loud(), "<Loud object>"),
    ],
)
def test_short_form(value, text):
    assert short_form((value,)) == text
    assert short_form(extended((), {"y": value})) == f"y={text}"


def test_short_form_of_numpys_numbers():
    assert "1.5" in short_form((np.float64(1.5),))


def test_short_form_of_many():
    assert short_form(tuple(range(1000))).endswith("...")
    assert len(short_form(tuple("a" * 30 for _ in range(100)))) < 300


def notes(error):
    return getattr(error, "__notes__", [])


needs_notes = pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have no notes")


def test_a_lost_call_is_named(caplog):
    driver = Driver(1)
    future = driver.submit("a")
    driver.up(driver.cluster.started[0])
    driver.lose(driver.cluster.started[0])
    text = "died. It ran the stored function(<Argument object>)"
    assert str(future.exception(0)) == text
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("WARNING", text)]


@needs_notes
def test_each_lost_call_has_its_own_error_and_place_in_the_series():
    driver, (worker,) = fast_driver(1)
    _, outbox = driver.map("abcd", chunksize=4)
    driver.lose(worker)
    error = outbox.get().outcomes.errors[0]
    assert isinstance(error, WorkerLost)
    text = "call 0 of the series, the stored function(<Argument object>)"
    assert str(error) == f"died. It had 4 calls, as far as they had begun, among them {text}"
    assert notes(error) == [f"In {text}"]


def test_calls_of_submit_that_are_lost_together_have_an_error_each():
    driver, worker, futures = ready_driver("abc")
    driver.lose(worker)
    errors = [future.exception(0) for future in futures]
    assert len({id(error) for error in errors}) == 3
    assert all("It had 3 calls" in str(error) for error in errors)


@needs_notes
def test_what_a_call_of_a_series_raises_says_which_it_was():
    driver, (worker,) = fast_driver(1)
    _, outbox = driver.map("abcd", chunksize=4)
    error, other = ValueError("wrong"), ValueError("wrong, too")
    block = worker.block
    driver.post(Finished(worker, block, lambda: Outcomes([1, None, 2, None], {1: error, 3: other})))
    assert outbox.get().outcomes.errors[1] is error
    assert notes(error) == ["In call 1 of the series, the stored function(<Argument object>)"]
    assert notes(other) == ["In call 3 of the series, the stored function(<Argument object>)"]


@needs_notes
def test_what_is_left_out_counts_as_a_place():
    driver, (worker,) = fast_driver(1)
    series, outbox = driver.map("abc", chunksize=3)
    series.gaps += [0, 0, 2]
    driver.lose(worker)
    assert notes(outbox.get().outcomes.errors[0])[0].startswith("In call 2 of the series")
    assert [series.index_of(label) for label in range(3)] == [2, 3, 5]


def test_a_call_that_is_out_of_time_is_named(caplog):
    driver, _, (future,) = ready_driver("a", timeout=5)
    driver.sleep(6)
    driver.sleep(6)
    error = future.exception(0)
    assert isinstance(error, CallTimeout)
    assert str(error).endswith("was killed. It ran the stored function(<Argument object>)")
    assert [record.getMessage() for record in caplog.records] == [str(error)]


def test_a_call_that_is_run_again_has_a_line_in_the_log(caplog):
    driver, worker, _ = ready_driver("a", retries=1)
    driver.lose(worker)
    assert len(caplog.records) == 1


def test_a_kill_for_memory_is_one_line(caplog):
    driver, worker, _ = ready_driver("a", size=2)
    driver.lose(worker, WorkerOutOfMemory)
    (record,) = caplog.records
    assert "It ran" in record.getMessage()
    assert record.getMessage().endswith(". From now on 1 at once: chunk_size=1 would fit")


def test_workers_that_the_executor_kills_at_its_end_are_no_news(caplog):
    driver, worker, _ = ready_driver("a")
    driver.inbox.close()
    driver.post(Close(kill=True))
    driver.post(Lost(worker, WorkerLost("died")))
    assert caplog.records == []
