"""A hypothesis state machine that uses the whole executor, on the fake cluster, in any order.

`dispatch/test_any_order.py` is thorough about the dispatcher and knows nothing else; this one goes
through pickling, shipping of functions, threads, dropping and the interpreter's garbage collector.
"""

from __future__ import annotations

import concurrent.futures as cf
import gc
import itertools
import os
import threading

from fake_cluster import FakeExecutor
from functions import BreaksOnArrival, Counter, ReducesToNoException, Unpicklable, raise_it, square
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from insides import with_thread

from thread_chunks import ExecutorBroken, PicklingFailed, UnpicklingFailed, WorkerLost

LOST = (WorkerLost, ExecutorBroken, cf.CancelledError)
# Never the same one twice: the thread of a killed actor may be late, and run its call in the next example.
numbers = itertools.count(1)
ran = []  # the numbers that were squared, in whatever thread plays the actor


def note(x):
    ran.append(x)
    return x * x


class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.executor = None
        self.futures = []  # (future, its possible outcomes)
        self.series = []  # (iterator, numbers)
        self.threads = []

    @precondition(lambda self: self.executor is None)
    @rule(size=st.integers(1, 3), stored=st.booleans())
    def create(self, size, stored):
        self.executor, thread = with_thread(FakeExecutor, note if stored else None, size)
        self.threads.append(thread)

    @precondition(lambda self: self.executor is not None)
    @rule(
        case=st.sampled_from(
            [
                (square, Unpicklable, PicklingFailed),
                (square, BreaksOnArrival, UnpicklingFailed),
                (lambda make: make(), lambda: Unpicklable, PicklingFailed),
                (raise_it, lambda: ReducesToNoException, UnpicklingFailed),
                (raise_it, lambda: ZeroDivisionError, ZeroDivisionError),
                (Counter().count, int, 1),
            ]
        )
    )
    def submit_odd(self, case):
        fn, argument, expected = case
        self.futures.append((self.executor.submit(fn, argument()), expected))

    @precondition(lambda self: self.executor is not None)
    @rule()
    def submit(self):
        number = next(numbers)
        self.futures.append((self.executor.submit(note, number), number**2))

    @precondition(lambda self: self.executor is not None)
    @rule(
        count=st.integers(1, 8),
        chunksize=st.none() | st.integers(1, 3),
        buffersize=st.none() | st.integers(1, 3),
        again=st.booleans(),
    )
    def map(self, count, chunksize, buffersize, again):
        xs = list(itertools.islice(numbers, count))
        fn = note if again else (lambda x, note=note: note(x))
        values = self.executor.map(fn, iter(xs), chunksize=chunksize, buffersize=buffersize)
        self.series.append((values, [x * x for x in xs]))

    @precondition(lambda self: self.series)
    @rule(data=st.data(), close=st.booleans())
    def consume(self, data, close):
        values, expected = self.series.pop(data.draw(st.integers(0, len(self.series) - 1)))
        if close:
            values.close()
        else:
            self.read(values, expected)

    def read(self, values, expected):
        try:
            got = list(values)
        except (*LOST, RuntimeError):
            return
        assert got == expected

    @precondition(lambda self: self.futures)
    @rule(data=st.data())
    def cancel(self, data):
        data.draw(st.sampled_from(self.futures))[0].cancel()

    @precondition(lambda self: self.executor is not None)
    @rule()
    def kill_a_worker(self):
        for handle in self.executor.actors[:1]:
            assert handle.up.wait(60)  # some deaths before that would break the executor
            handle.die()

    @precondition(lambda self: self.executor is not None)
    @rule(how=st.sampled_from(["wait", "leave", "cancel", "drop"]))
    def end(self, how):
        if how == "wait":
            self.executor.shutdown()
        elif how == "leave":
            self.executor.shutdown(wait=False)
        elif how == "cancel":
            self.executor.shutdown(wait=False, cancel_futures=True)
        self.executor = None  # promise f: only iterators that feed a series keep it alive

    def teardown(self):
        if self.executor is not None:
            self.end("leave")
        for values, expected in self.series:
            self.read(values, expected)
        self.series.clear()
        gc.collect()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "promises a and f"
        for future, expected in self.futures:
            assert future.done(), "promise a"
            if future.cancelled() or isinstance(future.exception(), LOST):
                continue
            if isinstance(expected, type):
                assert type(future.exception()) is expected
            else:
                assert future.result() == expected
        assert len(set(ran)) == len(ran), "promise b"
        assert not [thread for thread in threading.enumerate() if thread in self.threads]


TestStorms = Machine.TestCase
TestStorms.settings = settings(
    max_examples=150 if os.environ.get("CI") else 50,  # of half a second each
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
