"""What runs inside an actor, without Ray."""

from __future__ import annotations

import pytest

from thread_chunks import LabelledActor
from thread_chunks._calls import CARRIED_KEY
from thread_chunks._wire import Request, pack, pack_calls, unpack_error


def request(key, xs, forget=()):
    calls, errors = pack_calls([(x,) for x in xs], None)
    assert errors == {}
    return Request(b"token", 0, key, calls, list(forget), None, True)


def test_functions_are_kept_until_they_are_to_be_forgotten():
    actor = LabelledActor()
    assert actor.run_block(request(b"a", [-1, -2]), pack(abs)).values == [1, 2]
    assert actor.run_block(request(b"b", [1]), pack(str)).values == ["1"]
    assert actor.run_block(request(b"a", [-3])).values == [3]
    assert actor.run_block(request(b"a", [-3], forget=[b"b"])).values == [3]
    with pytest.raises(KeyError):
        actor.run_block(request(b"b", [1]))
    assert list(actor._functions) == [CARRIED_KEY, b"a"]
    actor.forget_functions([b"a", b"never there"])
    assert list(actor._functions) == [CARRIED_KEY]


def test_errors_have_their_places():
    reply = LabelledActor().run_block(request(b"a", [1, 0, 2]), pack(lambda x: 1 / x))
    assert reply.values == [1.0, None, 0.5]
    assert list(reply.errors) == [1]
    assert type(unpack_error(reply.errors[1])) is ZeroDivisionError


def test_values_that_are_not_plain_are_packed_at_once():
    kept = []

    def accumulate(x):
        kept.append(x)
        return kept

    reply = LabelledActor(accumulate).run_block(request(b"stored", [1, 2]))
    assert reply.values == [None, None]
    assert sorted(reply.packed) == [0, 1]


def test_actor_without_a_stored_function():
    reply = LabelledActor().run_block(request(b"stored", [1, 2]))
    assert [type(unpack_error(error)) for error in reply.errors.values()] == [ValueError, ValueError]
