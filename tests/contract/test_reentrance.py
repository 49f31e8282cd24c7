"""A signal handler, a finalizer or a callback may use the executor in the middle of another use by the same thread."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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
def test_it_comes_to_its_end(how, use):
    tests = os.path.dirname(os.path.dirname(__file__))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    program = PROGRAM.replace("USE", USES[use]).replace("HOW", repr(how))
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout == "done\n", done.stderr
