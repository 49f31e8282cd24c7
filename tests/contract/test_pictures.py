"""Pictures of a run: tables for notebooks, a page, a trace, and the `repr` of executors."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from itertools import count, pairwise, repeat

import pytest
from failing import nap, square, wait_for

from thread_chunks import Chunker, Report
from thread_chunks._calls.blocks import Batch, Block
from thread_chunks._calls.calls import Outcomes
from thread_chunks._dispatch.crew import Crew
from thread_chunks._dispatch.record import SEVERAL, Record
from thread_chunks._pictures.timeline import Mark


def fail(x):
    raise ValueError(x)


def end_once(path):
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_report_says_what_each_worker_did(make):
    executor = make.fresh(2)
    list(executor.map(square, range(1000)))
    list(executor.map(fail, range(3), chunksize=1, return_exceptions=True))
    executor.submit(nap, 0.05).result()
    timeline = executor.report().timeline
    assert sum(span.calls for span in timeline.spans) == 1004
    assert sum(span.failures for span in timeline.spans) == 3
    assert {span.worker for span in timeline.spans} <= {0, 1}
    assert {span.function for span in timeline.spans} == {"", "square", "fail", "nap"}
    assert all(0 <= span.begin <= span.end <= timeline.seconds for span in timeline.spans)
    for worker in range(2):  # one thing at a time
        spans = [span for span in timeline.spans if span.worker == worker]
        assert all(one.end <= other.begin for one, other in pairwise(spans))
    assert {histogram.function for histogram in timeline.histograms} == {"square", "fail", "nap"}


def test_what_runs_is_in_the_report(make):
    executor = make(1)
    future = executor.submit(nap, 1.0)
    wait_for(executor.running)
    assert executor.report().timeline.spans[-1].mark is Mark.RUNNING
    future.result(60)
    assert executor.report().timeline.spans[-1].mark is Mark.NONE


def test_what_is_lost_and_retried_is_marked(executor_on_ray, tmp_path):
    executor = executor_on_ray.fresh(1, max_retries=1)
    executor.submit(end_once, str(tmp_path / "ended")).result(60)
    report = executor.report()
    assert [span.mark for span in report.timeline.spans if span.function == "end_once"] == [Mark.LOST, Mark.RETRIED]
    executor.with_options(max_retries=0, call_timeout=0.5).submit(nap, 60).exception(60)
    report = executor.report()
    assert report.timeline.spans[-1].mark is Mark.KILLED
    assert [failed for _, failed in report.timeline.failures] == [1]
    report.save(tmp_path / "run.json")
    events = json.loads((tmp_path / "run.json").read_text())["traceEvents"]
    assert {"lost", "retried", "killed"} <= {event["name"] for event in events if event["ph"] == "i"}


def test_a_trace(make, tmp_path):
    executor = make.fresh(2)
    list(executor.map(square, range(100)))
    executor.report().save(tmp_path / "run.json")
    trace = json.loads((tmp_path / "run.json").read_text())
    assert sum(event["args"]["calls"] for event in trace["traceEvents"] if event["ph"] == "X") == 100
    assert all(event["dur"] >= 0 for event in trace["traceEvents"] if event["ph"] == "X")
    assert trace["otherData"]["Python"] == sys.version.split()[0]
    with pytest.raises(ValueError, match=r"\.html or \.json"):
        executor.report().save(tmp_path / "run.png")


def test_tables_for_notebooks(make):
    executor = make.fresh(2)
    list(executor.map(square, range(10)))
    table = executor.report()._repr_html_()
    assert table.startswith("<table>")
    assert "<td>square</td><td>10</td>" in table
    future = executor.submit(nap, 1.0, "<b>")
    running = wait_for(executor.running)
    assert isinstance(running, list)
    assert "&lt;b&gt;" in running._repr_html_()
    future.result(60)
    assert Report(())._repr_html_().count("<tr>") == 1


def test_an_executor_says_what_it_is(make):
    executor = make.unkept(2)
    assert "0 busy, open" in repr(executor)
    future = executor.submit(nap, 1.0)
    wait_for(executor.running)
    assert "of 2 workers up, 1 busy, open" in repr(executor)
    future.result(60)
    executor.shutdown()
    assert repr(executor) == f"<{type(executor).__name__}: shut down>"


def test_a_chunker_says_what_it_is(ray_up):
    with Chunker(abs, chunk_size=2) as chunker:
        chunker([[1]])
        assert re.fullmatch(r"<Chunker on <ChunkExecutor: [12] of 2 workers up, 0 busy, open>>", repr(chunker))


class _Function:
    def __init__(self, name):
        self.name = name


class _Records:
    """A record, and blocks of some workers that finish one after the other."""

    def __init__(self, workers, functions=("f",)):
        self._now = 0.0
        self.record = Record(lambda: self._now)
        crew = Crew()
        for worker in range(workers):
            crew.add(object(), 0.0, worker)
        self._members = list(crew)
        self._functions = [_Function(name) for name in functions]
        self._turns = count()

    def settle(self, times, calls=1, seconds=0.01, long=()):
        for turn, _ in zip(self._turns, repeat(None, times), strict=False):
            self._now += seconds / len(self._members)
            block = Block(self._functions[turn % len(self._functions)], Batch([]), 0, [()] * calls)
            member = self._members[turn % len(self._members)]
            self.record.settled(member, block, Outcomes([None] * calls, seconds=seconds, long=dict(enumerate(long))))


@pytest.mark.parametrize("functions", ["f", "fg"])
def test_any_number_of_blocks_costs_little_memory(functions):
    records = _Records(8, functions)
    records.settle(100_000, long=[(0.05, 2**20)])
    timeline = records.record.report(()).timeline
    assert sum(span.calls for span in timeline.spans) == 100_000
    assert 1000 < len(timeline.spans) <= 16_384
    assert sum(map(sys.getsizeof, timeline.spans)) + 3 * 24 * len(timeline.spans) < 10 * 2**20
    assert {span.function for span in timeline.spans} <= {*functions, SEVERAL}


def test_failures_are_counted_however_many_there_are():
    records = _Records(1)
    block = Block(_Function("f"), Batch([]), 0, [()])
    for _ in range(20_000):
        records.record.failed(block, 1)
    failures = records.record.report(()).timeline.failures
    assert sum(failed for _, failed in failures) == 20_000
    assert len(failures) <= 4096
