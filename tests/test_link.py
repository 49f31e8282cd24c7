"""The link to one actor: orders are carried out once and in order, though messages are late or lost."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from ray.exceptions import ActorDiedError

from thread_chunks._ray.link import Link, Order
from thread_chunks._wire.protocol import Leave, encode

LEAVE = encode(Leave())


class Method:
    def __init__(self, actor, name):
        self.actor, self.name = actor, name

    def remote(self, *args):
        return self.actor.call(self.name, *args)


class Actor:
    """An actor as Ray has it: it carries out one call after the other. What is under way arrives when the test says."""

    def __init__(self):
        self.calls = deque()  # of Ray's: (name, argument, future)
        self.way = deque()  # payloads that are under way to it
        self.inbox = deque()  # those that have arrived
        self.back = deque()  # its messages on their way to the driver
        self.done = []  # the numbers of the orders that it has carried out
        self.stay = None  # the call in which it is attached
        self.dead = False
        self.closed = False

    def __getattr__(self, name):
        if name.startswith("thread_chunks_"):
            return Method(self, name)
        raise AttributeError(name)

    def call(self, name, argument):
        future = Future()
        if self.dead:
            future.set_exception(ActorDiedError())
        else:
            self.calls.append((name, argument, future))
        reference = type("Reference", (), {"future": lambda self: future})
        return reference()

    # What a channel does.

    def send(self, payload):
        if not self.dead:
            self.way.append(payload)

    def close(self):
        self.closed = True

    # What may happen next.

    def begin_call(self):
        name, argument, future = self.calls.popleft()
        if name == "thread_chunks_attach":
            self.stay = future
        else:
            if name == "thread_chunks_run":
                self.done.append(argument)
            future.set_result(None)

    def leave(self):
        stay, self.stay = self.stay, None
        self.back.append(None)
        stay.set_result(None)

    def take(self):
        payload = self.inbox.popleft()
        if payload == LEAVE:
            self.leave()
        else:
            self.done.append(int(payload))
            self.back.append(int(payload))

    def die(self):
        self.dead = True
        calls, self.calls = self.calls, deque()
        for future in [*([self.stay] if self.stay else []), *(future for _, _, future in calls)]:
            future.set_exception(ActorDiedError())
        self.stay = None


class Links(RuleBasedStateMachine):
    """Orders go by the channel or by Ray, in any mixture, while the actor attaches and leaves."""

    def __init__(self):
        super().__init__()
        self.actor = Actor()
        self.sent = 0
        self.losses = []
        self.connected = None
        self.link = Link(self.actor, b"me", self.actor, True, lambda: True, lambda *_: None, self.losses.append)

    @rule(large=st.booleans())
    def send(self, large):
        self.sent += 1
        number = self.sent

        def call(actor):
            return actor.call("thread_chunks_run", number).future()

        self.link.send(Order(number, None if large or self.connected is False else b"%d" % number, call))

    @precondition(lambda self: self.connected is None)
    @rule(connected=st.booleans())
    def come_up(self, connected):
        self.connected = connected
        self.link.ready(connected=connected)

    @precondition(lambda self: self.actor.way)
    @rule()
    def arrive(self):
        self.actor.inbox.append(self.actor.way.popleft())

    @precondition(lambda self: self.actor.calls and self.actor.stay is None)
    @rule()
    def begin_call(self):
        self.actor.begin_call()

    @precondition(lambda self: self.actor.stay is not None and self.actor.inbox)
    @rule()
    def take(self):
        self.actor.take()

    @precondition(lambda self: self.actor.stay is not None and not self.actor.inbox)
    @rule()
    def leave_for_want_of_work(self):
        self.actor.leave()

    @precondition(lambda self: self.actor.stay is not None)
    @rule()
    def leave_for_others(self):
        self.actor.leave()

    @precondition(lambda self: self.actor.back)
    @rule()
    def hear(self):
        said = self.actor.back.popleft()
        if said is None:
            self.link.left()
        else:
            self.link.answered(said)

    @precondition(lambda self: not self.actor.dead)
    @rule()
    def die(self):
        told = len(self.losses)
        had_stay = self.actor.stay is not None
        self.actor.die()
        assert len(self.losses) > told or not had_stay, "Ray's word is passed on"

    @invariant()
    def once_and_in_order(self):
        assert self.actor.done == list(range(1, len(self.actor.done) + 1))

    def step(self):
        """Let one of the things happen that are bound to; return whether there was one."""
        actor = self.actor
        if self.connected is None:
            self.come_up(True)
        elif actor.way:
            self.arrive()
        elif actor.back:
            self.hear()
        elif actor.stay is not None and actor.inbox:
            self.take()
        elif actor.stay is None and actor.calls:
            self.begin_call()
        elif actor.stay is not None:
            actor.leave()
        else:
            return False
        return True

    def teardown(self):
        """Check that all orders are carried out in the end, and that the actor is then released."""
        if self.actor.dead:
            return
        self.link.close(at_once=False)
        for _ in range(1000 + 20 * self.sent):
            if not self.step():
                break
        assert self.actor.done == list(range(1, self.sent + 1))
        assert self.link.handle is None
        assert self.actor.closed


Links.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLinks = Links.TestCase


def test_who_waits_for_the_end_of_all_orders_is_woken():
    actor = Actor()
    link = Link(actor, b"me", actor, True, lambda: True, lambda *_: None, lambda error: None)
    link.ready(connected=True)
    link.send(Order(1, b"1", lambda actor: None))
    waiting = threading.Thread(target=link.settle, args=(60,))
    waiting.start()
    link.answered(1)
    waiting.join(30)
    assert not waiting.is_alive()
