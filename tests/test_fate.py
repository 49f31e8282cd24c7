"""When and why a worker counts as lost: its process, its channel and Ray report its death one after the other."""

from __future__ import annotations

import os
import socket
import threading

import pytest
from ray.exceptions import OutOfMemoryError

from thread_chunks import WorkerOutOfMemory
from thread_chunks._ray.fate import Fate
from thread_chunks._ray.oom import KernelKills


class Clock:
    """Stand in for the channels: delayed actions run when a test lets time pass."""

    def __init__(self):
        self.now = 0.0
        self.due = []

    def later(self, seconds, action):
        self.due.append((self.now + seconds, len(self.due), action))

    def pass_time(self, seconds):
        self.now += seconds
        while self.due and min(self.due)[0] <= self.now:
            first = min(self.due)
            self.due.remove(first)
            first[2]()

    def progress_of(self, identity):
        return 7, 3


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def told():
    return []


@pytest.fixture
def fate(clock, told):
    fate = Fate(b"x" * 16, clock, KernelKills(), lambda error, progress: told.append((error, progress)))
    yield fate
    fate.close()


def up(fate):
    fate.up(socket.gethostname(), os.getpid(), connected=True)


def test_how_far_a_worker_was_is_known_though_its_process_ends_late(fate, clock, told):
    up(fate)
    fate.lost(OutOfMemoryError("killed"))
    clock.pass_time(3)  # the machine is busy
    assert told == []
    fate.died()
    ((error, progress),) = told
    assert isinstance(error, WorkerOutOfMemory)
    assert progress == (7, 3)


def test_a_process_that_does_not_end_is_not_waited_for_for_ever(fate, clock, told):
    up(fate)
    fate.broke()
    clock.pass_time(10)
    ((_, progress),) = told
    assert progress is None


def test_the_end_that_cannot_be_seen_is_not_waited_for(fate, clock, told, monkeypatch):
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    up(fate)
    fate.broke()
    clock.pass_time(0.3)
    fate.lost(OutOfMemoryError("killed"))
    clock.pass_time(0)
    ((error, _),) = told
    assert isinstance(error, WorkerOutOfMemory), "Ray's word counts"


def test_a_worker_is_lost_once(fate, clock, told):
    up(fate)
    threads = [threading.Thread(target=action) for action in (fate.broke, fate.died)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fate.lost(OutOfMemoryError("killed"))
    clock.pass_time(10)
    assert len(told) == 1
