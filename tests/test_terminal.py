"""How workers come by the driver's standard output and error, within one process."""

from __future__ import annotations

import errno
import os
import socket
import threading

import pytest

from thread_chunks._actor import terminal
from thread_chunks._actor.terminal import Streams
from thread_chunks._ray import outlet as _outlet
from thread_chunks._ray.outlet import Outlet


@pytest.fixture
def outlet():
    outlet = Outlet()
    yield outlet
    outlet.close()


def streams_from(address):
    """Ask for the streams, and return what each is, without redirecting those of this process."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(address)
        _, received, _, _ = socket.recv_fds(connection, 16, 2)
    names = [os.readlink(f"/proc/self/fd/{descriptor}") for descriptor in received]
    for descriptor in received:
        os.close(descriptor)
    return names


def test_the_streams_of_the_process_are_handed_out(outlet, monkeypatch):
    own = [os.fdopen(number, "w", closefd=False) for number in (1, 2)]
    monkeypatch.setattr(_outlet, "_OWN", own)
    for _ in range(2):
        assert streams_from(outlet.address) == [os.readlink(f"/proc/self/fd/{number}") for number in (1, 2)]


def test_a_stream_that_the_process_was_started_without(outlet, monkeypatch):
    monkeypatch.setattr(_outlet, "_OWN", [None, os.fdopen(2, "w", closefd=False)])
    assert streams_from(outlet.address) == [os.devnull, os.readlink("/proc/self/fd/2")]


def test_a_stream_that_was_closed(outlet, monkeypatch):
    read, write = os.pipe()
    closed = os.fdopen(write, "w")
    closed.close()
    os.close(read)
    monkeypatch.setattr(_outlet, "_OWN", [closed, None])
    assert streams_from(outlet.address) == [os.devnull, os.devnull]


def test_another_user_gets_nothing(outlet, monkeypatch):
    monkeypatch.setattr(_outlet.os, "getuid", lambda: -1)
    assert streams_from(outlet.address) == []


def test_a_failure_does_not_end_the_outlet(outlet, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(_outlet.socket, "send_fds", lambda *_: (_ for _ in ()).throw(OSError("no descriptor left")))
        assert streams_from(outlet.address) == []
    assert len(streams_from(outlet.address)) == 2


def test_there_is_no_answer_after_the_end():
    outlet = Outlet()
    outlet.close()
    with pytest.raises(OSError, match="refused"):
        streams_from(outlet.address)
    streams = Streams()
    streams.take(outlet.address)  # does nothing
    streams.give_back()


def test_no_thread_for_the_outlet(monkeypatch):
    def fail(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeError):
        Outlet()


def test_a_moment_without_descriptors_does_not_end_the_outlet(monkeypatch):
    class Exhausted(socket.socket):
        refused = 0

        def accept(self):
            if Exhausted.refused < 3:
                Exhausted.refused += 1
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    monkeypatch.setattr(_outlet.socket, "socket", Exhausted)
    outlet = Outlet()
    monkeypatch.undo()
    assert len(streams_from(outlet.address)) == 2
    assert Exhausted.refused == 3
    outlet.close()


def test_a_worker_takes_no_streams_of_another_user(outlet, monkeypatch):
    before = [os.readlink(f"/proc/self/fd/{number}") for number in (1, 2)]
    monkeypatch.setattr(terminal, "user_of", lambda connection: os.getuid() + 1)
    streams = Streams()
    streams.take(outlet.address)
    monkeypatch.setattr(terminal, "_replace", lambda descriptors: pytest.fail("it has taken them"))
    streams.give_back()
    assert [os.readlink(f"/proc/self/fd/{number}") for number in (1, 2)] == before
