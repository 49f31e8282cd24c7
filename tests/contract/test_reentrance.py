"""A signal handler, a finalizer or a callback may use the executor in the middle of another use by the same thread."""

from __future__ import annotations

import sys

import pytest
from fake_cluster import FakeExecutor

from thread_chunks._dispatch.inbox import Inbox

admit = Inbox.admit

PROGRAM = """
import faulthandler, gc, signal, threading
from concurrent.futures import wait
from fake_cluster import FakeExecutor
faulthandler.dump_traceback_later(120, exit=True)  # far beyond what it takes
executor = FakeExecutor(2)
inner = []
def use():
    USE
if HOW == "signal":
    signal.signal(signal.SIGALRM, lambda *_: use())
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
    made = [executor.submit(abs, -1) for _ in range(3000)]
    signal.setitimer(signal.ITIMER_REAL, 0)
elif HOW == "finalizer":
    class Garbage:
        def __init__(self): self.itself = self
        def __del__(self): use()
    gc.set_threshold(7)
    made = []
    for _ in range(1500):
        Garbage()
        made.append(executor.submit(abs, -1))
    gc.set_threshold(700)
else:
    made = [executor.submit(abs, -1) for _ in range(300)]
    for future in made:
        future.add_done_callback(lambda _: use())
wait(made)
assert len(inner) > 0
assert {future.result() for future in made} == {1}
for future in inner:
    assert future.cancelled() or future.result() == 2
executor.shutdown()
print("done")
"""

USES = {
    "submit": "inner.append(executor.submit(abs, -2))",
    "cancel": "inner.append(executor.submit(abs, -2)); executor.cancel(inner[-1])",
}


@pytest.mark.parametrize("how", ["signal", "finalizer", "callback"])
@pytest.mark.parametrize("use", USES)
def test_it_comes_to_its_end(python, how, use):
    program = PROGRAM.replace("USE", USES[use]).replace("HOW", repr(how))
    assert python.run(program) == "done\n"


ENDING = """
import faulthandler, gc, itertools, signal, threading
from concurrent.futures import wait
from executors import threads_left
from fake_cluster import FakeExecutor
faulthandler.dump_traceback_later(300, exit=True)  # far beyond what it takes
executor, used = None, []
def use():
    if executor is not None:
        used.append(executor)
        executor.shutdown(wait=WAIT)
class Garbage:
    def __init__(self): self.itself = self
    def __del__(self): use()
signal.signal(signal.SIGALRM, lambda *_: use())
ends = 0
for trial in range(60):
    executor = FakeExecutor(1)
    made = []
    if HOW == "signal":
        signal.setitimer(signal.ITIMER_REAL, 0.0002 + trial * 0.00005)
    elif HOW == "finalizer":
        gc.set_threshold(20 + trial)
        Garbage()
    try:
        for _ in range(1000 if HOW != 'callback' else 300):
            made.append(executor.submit(abs, -1))
            if HOW == "callback":
                made[-1].add_done_callback(lambda _: use())
    except RuntimeError as error:
        assert "shutdown" in str(error)
        ends += 1
    assert wait(made, 60).not_done == set()
    assert {future.result() for future in made} <= {1}
    ended, executor = executor, None
    signal.setitimer(signal.ITIMER_REAL, 0)
    gc.set_threshold(700)
    ended.shutdown()
assert ends > 30 or HOW == 'callback', ends
assert threads_left((), patience=60) == []
print("done")
"""


@pytest.mark.parametrize(
    ("how", "wait"),
    [("signal", True), ("signal", False), ("finalizer", True), ("finalizer", False), ("callback", False)],
)
def test_a_shutdown_in_the_middle_of_a_submit(python, how, wait):
    assert python.run(ENDING.replace("WAIT", repr(wait)).replace("HOW", repr(how))) == "done\n"


@pytest.mark.parametrize("wait", [True, False])
def test_a_shutdown_at_each_step_of_a_submit(wait):
    """What is let in while its thread shuts the executor down has its outcome."""
    steps = 0
    while True:
        executor = FakeExecutor(1)
        left = steps
        filename = admit.__code__.co_filename

        def end(frame, event, arg, executor=executor, filename=filename):
            nonlocal left
            if frame.f_code.co_filename != filename:
                return None
            left -= 1
            if left == 0:
                sys.settrace(None)
                executor.shutdown(wait=wait)
            return end

        before = sys.gettrace()
        sys.settrace(end)
        try:
            future = executor.submit(abs, -1)
        except RuntimeError:  # after the shutdown
            future = None
        finally:
            sys.settrace(before)
        if future is not None:
            assert future.result(60) == 1
        executor.shutdown()
        if left > 0:
            break
        steps += 1
    assert steps > 10
