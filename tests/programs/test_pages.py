"""The page of a run, in a browser."""

from __future__ import annotations

import os
import signal

import pytest
from failing import wait_for
from fake_cluster import FakeExecutor
from pages import show

from thread_chunks import ChunkExecutor


def end_once(path):
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)


def half(x):
    return 1 / (x % 2)


def test_a_run_on_ray(ray_up, tmp_path):
    with ChunkExecutor(2, max_retries=1) as executor:
        list(executor.map(abs, range(5000)))
        list(executor.map(half, range(10), return_exceptions=True))
        executor.submit(end_once, str(tmp_path / "ended")).result(60)
    report = executor.report()
    report.save(tmp_path / "run.html")
    shown = show(tmp_path / "run.html", tmp_path / "browser")
    assert shown.complaints == []
    assert shown.count("worker") == 2
    assert shown.count("span") == len(report.timeline.spans)
    assert (shown.count("lost"), shown.count("retried")) == (1, 1)
    assert "5011 calls, 5 failed, 1 retried" in shown.document
    assert "max_retries" in shown.document


def _sum_of(numbers):
    return sum(numbers)


@pytest.mark.parametrize("name", ["</script><script>console.error(1)</script>", "<!--", "\u2028&amp;"])
def test_names_do_nothing_to_the_page(tmp_path, name):
    def function(x):
        return x

    function.__qualname__ = function.__name__ = name
    with FakeExecutor(1) as executor:
        list(executor.map(function, range(10)))
    executor.report().save(tmp_path / "run.html")
    shown = show(tmp_path / "run.html", tmp_path / "browser")
    assert shown.complaints == []
    assert shown.count("worker") == 1


def test_a_thousand_workers(tmp_path):
    with FakeExecutor(_sum_of, 1000) as executor:  # a stored function: all workers start at once
        wait_for(lambda: "1000 of 1000 workers up" in repr(executor))
        list(executor.map(([x] for x in range(20_000)), chunksize=5))
        report = executor.report()
    report.save(tmp_path / "run.html")
    shown = show(tmp_path / "run.html", tmp_path / "browser")
    assert shown.complaints == []
    assert shown.count("worker") == 1000
    assert shown.count("span") == len(report.timeline.spans) > 1000


def test_no_run_at_all(tmp_path):
    with FakeExecutor(1) as executor:
        executor.report().save(tmp_path / "run.html")
    assert show(tmp_path / "run.html", tmp_path / "browser").complaints == []
