"""The bar of a series while calls run, in a terminal and in a log file."""

from __future__ import annotations

import io
import sys
import threading
import time
from concurrent import futures

import pytest
from checkpointed import until

from thread_chunks import progress


class Written(io.StringIO):
    def __init__(self, is_terminal):
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self):
        return self.is_terminal


@pytest.fixture(params=["terminal", "file"])
def written(request, monkeypatch):
    """A stream that a test makes standard error. A bar there is drawn anew after a hundredth of a second."""
    monkeypatch.setattr(progress._TqdmBar, "pause", 0.01)
    monkeypatch.setattr(progress._LineBar, "pause", 0.01)
    monkeypatch.setattr(progress, "_MINUTE", 0)
    return Written(request.param == "terminal")


def bars(written):
    """Return the bars that were drawn, in their order."""
    return [bar.strip() for bar in written.getvalue().replace("\r", "\n").splitlines() if "call" in bar]


@pytest.fixture
def wait(tmp_path, written):
    """A function that waits until the bar says that it runs twice, and fails of 0."""
    go = tmp_path / "go"

    def release():
        until(lambda: any("running=2" in bar for bar in bars(written)))
        go.touch()

    def wait(x):
        until(go.exists)
        return 1 // x

    releasing = threading.Thread(target=release)
    releasing.start()
    yield wait
    releasing.join()


@pytest.mark.parametrize("kept", [False, True], ids=["plain", "checkpoint"])
def test_the_bar_says_how_many_run_while_none_finishes(make, wait, written, tmp_path, kept, monkeypatch):
    monkeypatch.setattr(sys, "stderr", written)
    options = {"path": tmp_path / "checkpoint"} if kept else {}
    values = make(2).map(wait, [1, 0, 1], progress_bar=True, return_exceptions=True, chunksize=1, **options)
    assert [type(value) for value in values] == [int, ZeroDivisionError, int]
    assert any("0/3" in bar and "running=2" in bar for bar in bars(written))
    assert "3/3" in bars(written)[-1]
    assert "failed=1" in bars(written)[-1]
    assert "running" not in bars(written)[-1]
    if not written.is_terminal:
        assert all(line.isprintable() for line in written.getvalue().splitlines())


def test_a_time_out_comes_though_the_bar_goes_on(make, wait, written, monkeypatch):
    monkeypatch.setattr(sys, "stderr", written)
    values = make(2).map(wait, [1, 1], progress_bar=True, chunksize=1)
    assert list(values) == [1, 1]
    with pytest.raises(futures.TimeoutError):
        next(make(1).map(time.sleep, [0.5], progress_bar=True, timeout=0.05))
