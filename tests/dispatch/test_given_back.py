"""Calls of `submit` that their worker has given back wait again, though their futures say that they run."""

from __future__ import annotations

import weakref
from concurrent.futures import CancelledError

import pytest
from manual_cluster import ready_driver

from thread_chunks._calls.blocks import Block
from thread_chunks._dispatch.queue import Queue


def given_back(names="abcdef"):
    """Return a driver whose worker runs the first call and has given back the others, and the futures."""
    driver, worker, futures = ready_driver(names)
    assert len(worker.block.calls) == len(names)
    driver.surrender()
    worker.answer_surrender(running=1)
    driver.deliver(worker)
    assert [len(item.calls) for item in driver.dispatcher._waiting if isinstance(item, Block)] == [len(names) - 1]
    return driver, worker, futures


def finish(driver):
    while driver.running:
        driver.finish(driver.running[0])


@pytest.mark.parametrize("wanted", ["b", "d", "f", "bc", "cd", "bdf", "bcdef", "fedcb"])
def test_cancel_of_those(wanted):
    driver, _, futures = given_back()
    futures = dict(zip("abcdef", futures, strict=True))
    for name in wanted:
        assert driver.cancel(futures[name])
        assert isinstance(futures[name].exception(0), CancelledError)
        assert not driver.cancel(futures[name])
        assert driver.arguments[name]() is None
    finish(driver)
    assert driver.cluster.ran == [name for name in "abcdef" if name not in wanted]
    assert all(futures[name].result(0) == name for name in driver.cluster.ran)
    assert not driver.dispatcher._waiting
    assert driver.dispatcher._waiting._given_back == {}


def test_they_are_forgotten_once_they_are_sent():
    driver, _, futures = given_back()
    finish(driver)
    assert driver.dispatcher._waiting._given_back == {}
    reference = weakref.ref(futures.pop())
    del futures
    assert reference() is None


def test_no_future_is_looked_for_among_all_that_wait(monkeypatch):
    driver, worker, futures = given_back()
    more = [driver.submit("z") for _ in range(100)]
    looked = []
    find = Block.find
    monkeypatch.setattr(Block, "find", lambda block, future: looked.append(block) or find(block, future))
    monkeypatch.setattr(Queue, "__iter__", lambda queue: pytest.fail("all that waits was looked at"))
    assert driver.cancel(futures[3])
    assert looked == [], "it is known where a call is that was given back"
    worker.finish()
    driver.deliver(worker)
    assert not driver.dispatcher.has(futures[0])
    assert len(looked) <= 2, "what its worker has"
    assert not driver.cancel(futures[3])
    monkeypatch.undo()
    finish(driver)
    assert {future.result(0) for future in more} == {"z"}
