"""Which deaths count as kills for memory by the kernel."""

from __future__ import annotations

import signal

import pytest

from thread_chunks._ray import oom
from thread_chunks._ray.oom import KernelKills
from thread_chunks._system import kills

MINE, OTHER = 10, 11  # processes


class Kernel:
    """What the kernel counts and writes."""

    def __init__(self):
        self.groups = {MINE: "mine", OTHER: "other"}
        self.counts = dict.fromkeys(["mine", "other", None], 0)
        self.log = None  # it cannot be read

    def kill(self, pid):
        self.counts[self.groups.get(pid)] += 1
        if self.groups.get(pid) is not None:
            self.counts[None] += 1
        if self.log is not None:
            self.log.append(pid)


@pytest.fixture
def kernel(monkeypatch):
    kernel = Kernel()
    monkeypatch.setattr(oom, "counting_group", kernel.groups.get)
    monkeypatch.setattr(oom, "kernel_kills", kernel.counts.get)
    monkeypatch.setattr(oom, "is_in_log", lambda pid: None if kernel.log is None else pid in kernel.log)
    return kernel


def watching(pid):
    found = KernelKills()
    found.watch(pid)
    return found


@pytest.mark.parametrize("status", [-signal.SIGKILL, None])
@pytest.mark.parametrize("has_log", [False, True])
def test_a_kill_for_memory(kernel, status, has_log):
    kernel.log = [] if has_log else None
    found = watching(MINE)
    assert not found.take(MINE, status)
    kernel.kill(MINE)
    assert found.take(MINE, status)
    assert not found.take(MINE, status), "one kill is for one death"


@pytest.mark.parametrize("status", [0, 1, 137, -signal.SIGSEGV, -signal.SIGTERM])
def test_another_death_while_a_process_is_killed(kernel, status):
    found = watching(MINE)
    kernel.kill(MINE)
    assert not found.take(MINE, status)
    assert found.take(MINE, -signal.SIGKILL), "that it was not leaves the kill to another one"


def test_a_stranger_of_another_control_group(kernel):
    found = watching(MINE)
    kernel.kill(OTHER)
    assert not found.take(MINE, -signal.SIGKILL)


@pytest.mark.parametrize("group", ["mine", None])
def test_a_stranger_of_the_same_control_group_by_the_log(kernel, group):
    kernel.groups.update({MINE: group, OTHER: group})
    kernel.log = []
    found = watching(MINE)
    kernel.kill(OTHER)
    assert not found.take(MINE, -signal.SIGKILL)
    kernel.kill(MINE)
    assert found.take(MINE, -signal.SIGKILL)


def test_a_process_that_has_moved_to_another_control_group_by_the_log(kernel):
    kernel.log = []
    found = watching(MINE)
    kernel.groups[MINE] = "other"
    kernel.kill(MINE)
    assert found.take(MINE, -signal.SIGKILL)


def test_a_kill_of_long_ago(kernel):
    found = watching(MINE)
    kernel.kill(MINE)
    found.look()
    found.look()
    assert not found.take(MINE, -signal.SIGKILL)


def test_who_is_not_watched(kernel):
    found = watching(MINE)
    kernel.kill(MINE)
    found.forget(MINE)
    assert not found.take(MINE, -signal.SIGKILL)


@pytest.mark.parametrize("name", ["memory.events", "memory.oom_control"])
def test_counts_of_the_kernel(tmp_path, name):
    (tmp_path / name).write_text("low 0\noom_kill_disable 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert kills.kernel_kills(tmp_path) == 2
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/vmstat").write_text("pgfault 7\noom_kill 5\n")
    assert kills.kernel_kills(None, tmp_path) == 5
    assert kills.kernel_kills(None, tmp_path / "nowhere") == 0


def test_the_group_that_counts(tmp_path):
    group = tmp_path / "sys/fs/cgroup/a/b"
    group.mkdir(parents=True)
    for process in ("self", "7"):
        (tmp_path / "proc" / process).mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "proc/7/cgroup").write_text("0::/a/b\n")
    assert kills.counting_group(7, tmp_path) is None, "as the uppermost one"
    (group / "memory.events").write_text("oom_kill 0\n")
    assert kills.counting_group(7, tmp_path) == group
    assert kills.counting_group(8, tmp_path) is None


def test_log_that_cannot_be_read(monkeypatch):
    monkeypatch.setattr(kills.os, "readlink", lambda path: "pid:[1]")
    assert kills.is_in_log(1) is None
