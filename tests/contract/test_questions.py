"""`running()` and `report()`: the calls that run, and counts of the finished ones."""

from __future__ import annotations

import concurrent.futures as cf
import os
import signal

from failing import nap, square, wait_for

from thread_chunks import Report


def test_what_runs(make):
    executor = make(2)
    assert executor.running() == []
    future = executor.submit(nap, 2.0, value=list(range(1000)))
    (call,) = wait_for(lambda: executor.running(stacks=True))
    assert (call.function, call.label) == ("nap", 0)
    assert call.arguments.startswith("2.0, value=[0, 1, 2")
    assert len(call.arguments) < 100
    assert call.host
    assert 0 <= call.seconds < 60
    assert "in nap" in call.stack
    assert call.memory > 2**20
    future.result(60)
    executor.shutdown()
    assert executor.running() == []


def test_what_runs_after_a_change_of_sys_path(make, monkeypatch):
    executor = make(1)
    executor.submit(nap, 0).result(60)
    monkeypatch.syspath_prepend("/nowhere")
    future = executor.submit(nap, 1.0)
    (running,) = wait_for(executor.running)
    assert running.pid > 0
    assert running.host
    future.result(60)


def test_questions_of_a_forked_child(make):
    executor = make(1)
    future = executor.submit(nap, 0)
    future.result(60)
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        refused = 0
        for ask in (executor.report, executor.running, lambda: executor.cancel(cf.Future())):
            try:
                ask()
            except RuntimeError:
                refused += 1
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


def test_report(make):
    executor = make.fresh(2)
    list(executor.map(square, range(5000)))
    futures = [executor.submit(nap, 0.05 * x) for x in (1, 2, 3)] + [executor.submit(nap, "no number")]
    cf.wait(futures)
    executor.shutdown()
    report = executor.report()
    assert isinstance(report, Report)
    naps, squares = report.functions
    assert (squares.function, squares.calls, squares.failures, squares.retries) == ("square", 5000, 0, 0)
    assert squares.seconds.count == 5000
    assert 0 < squares.seconds.median < 0.005
    assert (naps.function, naps.calls, naps.failures) == ("nap", 4, 1)
    assert 0.049 < naps.seconds.median < naps.seconds.max
    assert naps.seconds.max >= 0.15
    assert naps.memory.count >= 3
    assert naps.memory.max > 2**20
    head, first, second = str(report).splitlines()
    assert head.split()[:4] == ["function", "calls", "failures", "retries"]
    assert first.split()[:4] == ["nap", "4", "1", "0"]
    assert second.split()[:4] == ["square", "5000", "0", "0"]


def test_report_of_an_executor_that_ran_nothing(make):
    assert make.fresh(1).report().functions == ()
