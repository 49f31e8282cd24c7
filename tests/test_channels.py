"""The channel between driver and worker: authentication, messages, and the death of either end."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
import time
from contextlib import closing, suppress
from uuid import uuid4

import pytest

from thread_chunks._actor.channel import connect
from thread_chunks._ray.channels import Channels
from thread_chunks._wire.framing import (
    ANSWER,
    CHALLENGE,
    KEY,
    WELCOME,
    ChannelAddress,
    Frames,
    answer,
    frame,
    new_key,
    slot_in,
)
from thread_chunks._wire.page import SLOTS


class Owner:
    """Record the news of a channel."""

    def __init__(self):
        self.payloads = []
        self.came = threading.Semaphore(0)
        self.broken = threading.Event()
        self.dead = threading.Event()

    def received(self, payload):
        self.payloads.append(payload)
        self.came.release()

    def broke(self):
        self.broken.set()

    def died(self):
        self.dead.set()

    def wait(self, count=1):
        for _ in range(count):
            assert self.came.acquire(timeout=30)
        return self.payloads


def descriptors():
    """Return the open file descriptors, with their targets."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return {(number, target) for number, target in found if not target.startswith("/proc")}


@pytest.fixture(params=["unix", "tcp"])
def channels(request):
    before = descriptors()
    channels = Channels("127.0.0.1", patience=1)
    if request.param == "tcp":
        address = channels.address
        channels.address = ChannelAddress(address.key, None, address.host, address.port)
    yield channels
    channels.close()
    deadline = time.monotonic() + 30
    while left := descriptors() - before:
        assert time.monotonic() < deadline, f"{left} are left"
        time.sleep(0.01)


def pair(channels):
    """Return both ends of a channel, and the owner of the driver's end."""
    identity, owner = uuid4().bytes, Owner()
    ours = channels.expect(identity, owner)
    theirs = connect(channels.address, identity)
    assert theirs is not None
    return ours, theirs, owner


def stranger(address):
    """Return a connection that has proved nothing."""
    if address.unix is not None:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(30)
        connection.connect(address.unix)
        return connection
    return socket.create_connection((address.host, address.port), 30)


def exactly(connection, count):
    received = b""
    while len(received) < count:
        more = connection.recv(count - len(received))
        assert more, "the connection was closed"
        received += more
    return received


def is_dropped(connection):
    """Return whether the other end closes a connection."""
    connection.settimeout(30)
    with suppress(ConnectionError):
        while connection.recv(4096):
            pass
    return True


def test_messages_of_any_size_arrive_whole_and_in_order(channels):
    ours, theirs, owner = pair(channels)
    payloads = [b"", b"x", *(bytes([n % 251]) * (n * 7919 % 300_000) for n in range(60)), bytes(5_000_000)]
    got = []
    reader = threading.Thread(target=lambda: got.extend(theirs.receive()))
    reader.start()
    for payload in payloads:
        ours.send(payload)
        theirs.send(payload)
    assert owner.wait(len(payloads)) == payloads
    while len(got) < len(payloads):
        time.sleep(0.01)
    ours.close()
    reader.join(30)
    assert got == payloads
    theirs.close()


def test_frames_are_cut_wherever_the_bytes_are_split():
    payloads = [b"", b"a", b"bc" * 100]
    data = b"".join(map(frame, payloads))
    for size in range(1, 40):
        frames = Frames()
        found = [p for start in range(0, len(data), size) for p in frames.feed(data[start : start + size])]
        assert found == payloads


def test_what_is_sent_before_the_worker_connects_arrives(channels):
    identity = uuid4().bytes
    ours = channels.expect(identity, Owner())
    ours.send(b"early")
    theirs = connect(channels.address, identity)
    assert next(theirs.receive()) == b"early"
    theirs.close()


def test_a_worker_that_does_not_read_holds_up_no_other(channels):
    ours, theirs, _ = pair(channels)
    others, other, owner = pair(channels)
    for _ in range(300):
        ours.send(bytes(100_000))  # 30 MB that the other end does not read
    others.send(b"on")
    assert next(other.receive()) == b"on"
    other.send(b"and back")
    assert owner.wait() == [b"and back"]
    for count, payload in enumerate(theirs.receive(), 1):
        assert payload == bytes(100_000)
        if count == 300:
            break
    theirs.close()
    other.close()


def test_two_hundred_workers_are_heard(channels):
    pairs = [pair(channels) for _ in range(200)]
    for number, (ours, theirs, owner) in enumerate(pairs):
        ours.send(b"to %d" % number)
        theirs.send(b"from %d" % number)
        assert owner.wait() == [b"from %d" % number]
        assert next(theirs.receive()) == b"to %d" % number
    for _, theirs, _ in pairs:
        theirs.close()
    for _, _, owner in pairs:
        assert owner.broken.wait(30) or owner.dead.is_set()


@pytest.mark.parametrize("said", [b"", b"garbage" * 100, b"GET / HTTP/1.1\r\n\r\n" * 20, bytes(ANSWER)])
def test_a_stranger_is_dropped_and_holds_up_no_worker(channels, said):
    with closing(stranger(channels.address)) as connection:
        connection.sendall(said)
        ours, theirs, owner = pair(channels)
        theirs.send(b"hello")
        assert owner.wait() == [b"hello"]
        assert is_dropped(connection)
    theirs.close()
    del ours


def test_who_has_another_key_does_not_get_in_nor_takes_a_stranger_for_the_driver(channels):
    identity, owner = uuid4().bytes, Owner()
    channels.expect(identity, owner)
    address = channels.address
    assert connect(ChannelAddress(new_key(), address.unix, address.host, address.port), identity) is None
    theirs = connect(address, identity)
    theirs.send(b"still expected")
    assert owner.wait() == [b"still expected"]
    theirs.close()


def test_who_is_not_expected_does_not_get_in(channels):
    assert connect(channels.address, uuid4().bytes) is None
    identity = uuid4().bytes
    channels.expect(identity, Owner())
    theirs = connect(channels.address, identity)
    assert connect(channels.address, identity) is None, "there is one already"
    theirs.close()


def test_an_answer_can_not_be_used_twice(channels):
    identity = uuid4().bytes
    channels.expect(identity, Owner())
    key = channels.address.key
    with closing(stranger(channels.address)) as connection:
        challenge = exactly(connection, CHALLENGE)
        answered = answer(key, challenge, identity)
        with closing(stranger(channels.address)) as other:
            exactly(other, CHALLENGE)
            other.sendall(answered)
            assert is_dropped(other)
        connection.sendall(answered)
        assert slot_in(key, challenge, answered, exactly(connection, WELCOME)) is not None


def test_a_flood_of_strangers_keeps_no_worker_out(channels):
    crowd = []
    try:
        for _ in range(700):
            crowd.append(stranger(channels.address))
        _, theirs, owner = pair(channels)
        theirs.send(b"in")
        assert owner.wait() == [b"in"]
        theirs.close()
    finally:
        for connection in crowd:
            connection.close()


def test_a_message_that_makes_no_sense_ends_the_channel(channels):
    _, theirs, owner = pair(channels)
    theirs._socket.sendall(b"\xff" * 8)
    assert owner.broken.wait(30)
    theirs.close()


def test_the_end_of_a_worker_is_told(channels):
    _, theirs, owner = pair(channels)
    theirs.send(b"last words")
    theirs.close()
    assert owner.broken.wait(30)
    assert owner.payloads == [b"last words"]


def test_a_channel_that_is_closed_tells_nothing(channels):
    ours, theirs, owner = pair(channels)
    ours.close()
    assert list(theirs.receive()) == []
    theirs.close()
    assert not owner.broken.is_set()


def test_an_idle_channel_wakes_no_thread_up(channels):
    ours, theirs, _ = pair(channels)
    with closing(stranger(channels.address)) as connection:
        assert is_dropped(connection), "it has said nothing for seconds; then there is nothing to wait for"
    thread = next(thread for thread in threading.enumerate() if thread.name == "thread_chunks-channels")
    status = f"/proc/self/task/{thread.native_id}/status"

    def switches():
        with open(status) as file:
            return [line for line in file if line.startswith("voluntary_ctxt_switches")]

    time.sleep(0.2)
    before = switches()
    time.sleep(1)
    assert switches() == before
    theirs.close()
    del ours


def test_a_page_has_as_many_slots_as_workers_and_is_read_when_one_is_gone():
    channels = Channels()
    try:
        identity, owner = uuid4().bytes, Owner()
        ours = channels.expect(identity, owner)
        theirs = connect(channels.address, identity)
        theirs.page[0], theirs.page[1] = 7, 42
        assert channels.progress_of(identity) == (7, 42)
        theirs.close()
        ours.close()
        assert SLOTS >= 1000
    finally:
        channels.close()


CERTIFICATE = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=thread_chunks"]


@pytest.fixture
def tls(tmp_path, monkeypatch):
    """Settings for TLS in Ray: one certificate, which is its own authority."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(["openssl", *CERTIFICATE, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    monkeypatch.setenv("RAY_USE_TLS", "1")
    monkeypatch.setenv("RAY_TLS_SERVER_CERT", str(certificate))
    monkeypatch.setenv("RAY_TLS_SERVER_KEY", str(key))
    monkeypatch.setenv("RAY_TLS_CA_CERT", str(certificate))


@pytest.mark.process
def test_between_machines_tls_is_used_where_ray_uses_it(tls):
    from thread_chunks._system.tls import tls_context

    channels = Channels("127.0.0.1", tls_context(server=True))
    try:
        address = channels.address
        assert address.encrypted
        remote = ChannelAddress(address.key, None, address.host, address.port, encrypted=True)
        identity, owner = uuid4().bytes, Owner()
        ours = channels.expect(identity, owner)
        theirs = connect(remote, identity)
        payloads = [b"secret" * 100_000, b"", b"more"]
        got = []
        reader = threading.Thread(target=lambda: got.extend(theirs.receive()))
        reader.start()
        for payload in payloads:
            ours.send(payload)
            theirs.send(payload)
        assert owner.wait(3) == payloads
        plain = connect(ChannelAddress(address.key, None, address.host, address.port), uuid4().bytes)
        assert plain is None, "nothing goes there unencrypted"
        nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection((address.host, address.port), 30) as connection,
            suppress(OSError),
            nobody.wrap_socket(connection) as encrypted,
        ):
            assert encrypted.recv(1) == b"", "who shows no certificate got in"
        while len(got) < 3:
            time.sleep(0.01)
        ours.close()
        reader.join(30)
        assert got == payloads
        theirs.close()
    finally:
        channels.close()


def test_a_key_is_long_and_new():
    assert len(new_key()) == KEY
    assert new_key() != new_key()
