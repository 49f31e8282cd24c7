"""Calls run in the main thread of the worker's process, as with `ProcessPoolExecutor`."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest


def _thread():
    return threading.current_thread() is threading.main_thread()


def _handler():
    """Return whether a signal handler that the call installed got its signal."""
    told = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: told.append(number))
    signal.raise_signal(signal.SIGUSR2)
    signal.signal(signal.SIGUSR2, before)
    return told == [signal.SIGUSR2]


class _Late(Exception):
    pass


def _alarm():
    """Return whether an alarm interrupts a call that sleeps."""

    def ring(number, frame):
        raise _Late

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        time.sleep(60)
    except _Late:
        return True
    finally:
        signal.signal(signal.SIGALRM, before)
    return False


def _event_loop():
    """Return whether a call finds an event loop that nothing has made, and whether it can run one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = type(asyncio.get_event_loop()).__name__
        except RuntimeError as error:
            found = type(error).__name__
    return found, asyncio.run(asyncio.sleep(0, "done"))


SCENARIOS = [_thread, _handler, _alarm, _event_loop]


@pytest.fixture
def executor(executor_on_ray):
    return executor_on_ray(1)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_as_in_a_standard_pool(executor, scenario):
    # A fresh process: a forked one has the event loop policy of whatever ran before in this one.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert executor.submit(scenario).result() == pool.submit(scenario).result()
