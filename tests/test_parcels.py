"""How often functions are sent, and what is compared to find that out."""

from __future__ import annotations

import sys

import pytest
from functions import square

from thread_chunks._calls.pace import Pace
from thread_chunks._wire import states
from thread_chunks._wire.homes import find_homes
from thread_chunks._wire.ledger import Ledger
from thread_chunks._wire.parcels import Parcels
from thread_chunks._wire.states import state_of


def test_a_function_of_a_module_is_one_for_all_series_and_one_with_a_state_is_sent_anew():
    parcels = Parcels(Ledger(lambda packed: packed), lambda packed: packed)

    def keys(fn):
        return {parcels.for_series(fn, Pace()).parcel.key for _ in range(3)}

    counts = [0]
    assert len(keys(square)) == 1
    assert parcels.for_call(square, Pace()).parcel.key in keys(square)
    assert len(keys(lambda x: counts.append(x) or len(counts))) == 3
    assert len(keys(counts.append)) == 3


PROGRAM = """
def function(): pass
import dataclasses
@dataclasses.dataclass
class Data:
    number: int = 1
    def method(self, by=2): return self.number * by
"""


def change_code(cls):
    cls.method.__code__ = (lambda self, by: by).__code__


@pytest.fixture
def data():
    """A dataclass of a module that travels by value."""
    module = sys.modules["tc_states"] = type(sys)("tc_states")
    exec(PROGRAM, vars(module))
    yield module.Data
    del sys.modules["tc_states"]
    find_homes()


@pytest.mark.parametrize(
    "change",
    [
        lambda cls: setattr(cls, "number", 2),
        lambda cls: setattr(cls, "other", 1),
        lambda cls: delattr(cls, "method"),
        lambda cls: setattr(cls.method, "__defaults__", (3,)),
        lambda cls: setattr(cls.method, "attribute", 3),
        change_code,
    ],
)
def test_each_change_of_a_class_is_found(change, data):
    state = state_of(data)
    assert state.same(data)
    change(data)
    assert not state.same(data)


def test_what_a_library_made_of_a_class_is_not_compared_at_each_call(data, monkeypatch):
    compared = []
    state = state_of(data)
    monkeypatch.setattr(states, "fingerprint", lambda value, _: compared.append(value))
    state.same(data)
    assert not any(value is data.__dataclass_fields__ for value in compared)
