"""What runs inside an actor, without Ray."""

from __future__ import annotations

import sys
import threading

import pytest

from thread_chunks import LabelledActor
from thread_chunks._actor.entry import runner_of
from thread_chunks._actor.sender import Sender, ThreadsOrders
from thread_chunks._wire.arguments import pack_calls
from thread_chunks._wire.pickling import Packed, pack, unpack_error
from thread_chunks._wire.protocol import CARRIED_KEY, Request, unseal

ME = b"me"


def actor_of(func=None):
    """Return an actor that one executor uses, which it can't reach but by Ray."""
    actor = LabelledActor(func)
    runner_of(actor).senders[ME] = Sender(None, ThreadsOrders(), 0, lambda sender: None, lambda: None)
    return actor


def control_of(actor):
    return runner_of(actor).senders[ME].control


def request(key, xs, forget=()):
    return request_of(key, [(x,) for x in xs], forget)


def request_of(key, calls, forget=()):
    packed, errors = pack_calls(calls)
    assert errors == {}
    return Request(1, 0, key, packed, list(forget), None, True)


def run(actor, *args):
    return unseal(actor.thread_chunks_run(ME, *args))


def test_functions_are_kept_until_they_are_to_be_forgotten():
    actor = actor_of()
    assert run(actor, request(b"a", [-1, -2]), pack(abs)).values == [1, 2]
    assert run(actor, request(b"b", [1]), pack(str)).values == ["1"]
    assert run(actor, request(b"a", [-3])).values == [3]
    assert run(actor, request(b"a", [-3], forget=[b"b"])).values == [3]
    with pytest.raises(KeyError):
        run(actor, request(b"b", [1]))
    assert run(actor, request(b"a", [-3])).values == [3]
    carried = request_of(CARRIED_KEY, [(abs, -3)])
    assert run(actor, carried).values == [3]
    actor.thread_chunks_end(ME)
    assert runner_of(actor).senders == {}


def test_what_relies_on_a_function_that_has_not_arrived_fails_as_that_does():
    actor, first, second, third = actor_of(), *(request(b"a", [1]) for _ in range(3))
    for number, each in enumerate((first, second, third), 7):
        each.number, each.relies_on = number, 7
    third.relies_on = 9
    errors = []
    for each, *shipment in ((first, "no pickle"), (second,)):
        with pytest.raises(AttributeError) as raised:
            run(actor, each, *shipment)
        errors.append(raised.value)
    assert errors[0] is errors[1]
    assert run(actor, third, pack(abs)).values == [1], "it was sent anew"


def test_errors_have_their_places():
    reply = run(actor_of(), request(b"a", [1, 0, 2]), pack(lambda x: 1 / x))
    assert reply.values == [1.0, None, 0.5]
    assert list(reply.errors) == [1]
    assert type(unpack_error(reply.errors[1])) is ZeroDivisionError


def test_values_that_are_not_plain_are_packed_at_once():
    kept = []

    def accumulate(x):
        kept.append(x)
        return kept

    reply = run(actor_of(accumulate), request(b"stored", [1, 2]))
    assert reply.values == [None, None]
    assert sorted(reply.packed) == [0, 1]


def test_actor_without_a_stored_function():
    reply = run(actor_of(), request(b"stored", [1, 2]))
    assert [type(unpack_error(error)) for error in reply.errors.values()] == [ValueError, ValueError]


def test_surrender_hands_over_what_is_finished_and_gives_back_what_has_not_started():
    replies, actor = [], actor_of()

    def f(x):
        if x == 3:  # another thread would ask while this call runs
            replies.extend(control_of(actor).surrender(1) for _ in range(2))
        return x

    actor.set_func(f)
    last = run(actor, request(b"stored", range(10)))
    first, again = replies
    assert (first.values, first.offset, first.left) == ([0, 1, 2], 0, 6)
    assert (again.values, again.offset, again.left) == ([], 3, 0)
    assert (last.values, last.offset, last.left) == ([3], 3, 0)
    assert control_of(actor).surrender(1) is True, "the block is over"
    assert control_of(actor).surrender(2) is False, "this one has not begun"


SIZE = 1_000_000


@pytest.mark.parametrize(
    "arguments",
    [lambda x: (x,), lambda x: (x, 0), lambda x: (x,) * bool(x[0]), lambda x: ([x],)],
    ids=["one", "two", "differently many", "packed"],
)
def test_arguments_of_calls_that_ran_or_were_given_back_are_let_go_of(arguments):
    actor, held = actor_of(), []

    def f(*args):
        del args
        if len(held) == 2:
            control_of(actor).surrender(1)
        held.append(sum(size_of(item) for item in control_of(actor)._block.items) // SIZE)

    actor.set_func(f)
    run(actor, request_of(b"stored", [arguments(bytes([x]) * SIZE) for x in range(6)]))
    assert held == [5, 4, 0]


def size_of(item):
    if isinstance(item, tuple):
        return sum(map(size_of, item))
    return item.size if isinstance(item, Packed) else len(item) if isinstance(item, bytes) else 0


def test_calls_without_arguments():
    assert run(actor_of(), request_of(b"a", [()] * 3), pack(list)).errors == {}


def test_a_block_that_is_surrendered_before_it_begins_is_not_run():
    actor = actor_of()
    assert control_of(actor).surrender(1) is False
    reply = run(actor, request(b"a", [1, 2]), pack(abs))
    assert (reply.values, reply.left) == ([], 0)
    assert run(actor, request(b"a", [-3])).values == [3], "the function that it brought is there"


def test_only_the_block_that_is_meant_is_surrendered():
    replies, actor = [], actor_of()
    actor.set_func(lambda x: replies.append(control_of(actor).surrender(2)))
    assert run(actor, request(b"stored", [1, 2])).values == [None, None]
    assert replies == [False, False]


def test_errors_and_packed_values_keep_their_places_when_a_block_is_surrendered():
    replies, actor = [], actor_of()

    def f(x):
        if x == 2:
            replies.append(control_of(actor).surrender(1))
        return 1 / x if x == 0 else [x]

    actor.set_func(f)
    last = run(actor, request(b"stored", [0, 1, 2, 3]))
    assert (list(replies[0].errors), list(replies[0].packed), replies[0].left) == ([0], [1], 1)
    assert (list(last.errors), list(last.packed), last.offset) == ([], [0], 2)


@pytest.mark.parametrize(
    "arguments",
    [lambda x: (x,), lambda x: (x, 0), lambda x: (x, *[0] * (x % 3)), lambda x: ([x],)],
    ids=["one", "two", "differently many", "packed"],
)
def test_surrender_while_short_calls_are_run(arguments):
    """Check that each call has one outcome or is given back, with both threads at work."""
    ran, interval = [], sys.getswitchinterval()
    calls = [arguments(x) for x in range(3000)]
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(60):
            ran.clear()
            replies = []
            actor, over = actor_of(lambda *args: ran.append(args) or len(ran) - 1), threading.Event()
            control = threading.Thread(target=lambda: replies.append(surrender_when_it_runs(actor, over)))
            control.start()
            replies.append(run(actor, request_of(b"stored", calls)))
            over.set()
            control.join()
            replies = sorted((reply for reply in replies if reply is not True), key=lambda reply: reply.offset)
            values = [value for reply in replies for value in reply.values]
            assert values == list(range(len(ran)))
            assert ran == calls[: len(ran)]
            assert len(ran) + sum(reply.left for reply in replies) == 3000
    finally:
        sys.setswitchinterval(interval)


def surrender_when_it_runs(actor, over):
    while control_of(actor).look(1, False) is None and not over.is_set():
        pass
    return control_of(actor).surrender(1)


def test_a_block_ends_when_its_values_are_large():
    actor = actor_of(lambda x: bytes(1000) if x % 2 else [bytes(1000)])
    limited = request(b"stored", range(10))
    limited.largest = 3500
    reply = run(actor, limited)
    assert (len(reply.values), reply.left) == (4, 6)


def test_nothing_of_a_block_is_kept_after_an_error_of_the_actor():
    actor = actor_of()
    with pytest.raises(KeyError):
        run(actor, request(b"never sent", [1]))
    assert control_of(actor)._block is None
