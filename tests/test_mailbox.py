"""The queue of the inbox and the outboxes."""

from __future__ import annotations

import signal
import sys
import threading
import time
from queue import Empty

import pytest

from thread_chunks._calls.mailbox import Mailbox


def test_items_come_in_order():
    mailbox = Mailbox()
    for x in range(3):
        mailbox.put(x)
    assert len(mailbox) == 3
    assert [mailbox.get() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(Empty):
        mailbox.get(timeout=0)
    mailbox.put(3)
    assert mailbox.get(timeout=0) == 3


def test_waits_for_what_comes_later():
    mailbox = Mailbox()
    reader = threading.Thread(target=lambda: mailbox.put(mailbox.get() + mailbox.get(timeout=60)))
    reader.start()
    mailbox.put(1)
    mailbox.put(2)
    reader.join()
    assert mailbox.get() == 3


@pytest.mark.parametrize("timeout", [None, 60, float("inf")])
def test_loses_nothing_from_many_threads(timeout):
    mailbox = Mailbox()

    def write(thread):
        for x in range(2000):
            mailbox.put((thread, x))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=write, args=[n]) for n in range(4)]
        for thread in threads:
            thread.start()
        items = [mailbox.get(timeout=timeout) for _ in range(8000)]
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    for n in range(4):
        assert [x for thread, x in items if thread == n] == list(range(2000))
    assert not len(mailbox)


def test_a_time_out_holds_though_a_signal_handler_takes_longer():
    handled = []
    before = signal.signal(signal.SIGALRM, lambda *_: handled.append(time.sleep(0.1)))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(Empty):
            Mailbox().get(timeout=0.05)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert handled


def test_a_time_out_of_nothing_holds():
    for _ in range(100_000):
        with pytest.raises(Empty):
            Mailbox().get(timeout=0.0)
