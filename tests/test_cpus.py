"""How many CPUs the process may use: the default of `chunk_size`."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from thread_chunks._system.cpus import quota, usable_cpus

V2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "33 23 0:29 {} /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"


@pytest.fixture
def machine(tmp_path):
    """Make the root of a machine: its mounts, the groups of the process, and the quotas below /sys/fs/cgroup."""

    def make(mounts, groups, **files):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/mountinfo").write_text("22 1 254:0 / / rw - ext4 /dev/vda rw\n" + mounts)
        (tmp_path / "proc/self/cgroup").write_text(groups)
        for path, text in files.items():
            file = tmp_path / "sys/fs/cgroup" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path

    return make


@pytest.mark.parametrize(("text", "cpus"), [("150000 100000", 1.5), ("max 100000", math.inf), ("50000 100000", 0.5)])
def test_a_container_of_version_2(text, cpus, machine):
    assert quota(machine(V2, "0::/\n", **{"cpu.max": text})) == cpus


def test_the_groups_of_systemd(machine):
    files = {
        "system.slice/job.service/cpu.max": "max 100000",
        "system.slice/cpu.max": "200000 100000",
        "other.slice/cpu.max": "100000 100000",
    }
    assert quota(machine(V2, "0::/system.slice/job.service\n", **files)) == 2


def test_a_container_of_version_1_without_a_namespace(machine):
    files = {"cpu,cpuacct/cpu.cfs_quota_us": "300000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}
    assert quota(machine(V1.format("/docker/abc"), "4:cpu,cpuacct:/docker/abc\n", **files)) == 3


def test_a_group_of_version_1_below_another(machine):
    files = {
        "cpu,cpuacct/cpu.cfs_quota_us": "-1",
        "cpu,cpuacct/cpu.cfs_period_us": "100000",
        "cpu,cpuacct/a/cpu.cfs_quota_us": "100000",
        "cpu,cpuacct/a/cpu.cfs_period_us": "100000",
        "cpu,cpuacct/a/b/cpu.cfs_quota_us": "400000",
        "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000",
    }
    assert quota(machine(V1.format("/"), "4:cpu,cpuacct:/a/b\n0::/\n", **files)) == 1


def test_a_group_outside_of_what_is_mounted(machine):
    assert quota(machine(V2, "0::/../sibling\n", **{"cpu.max": "100000 100000"})) == 1


def test_both_versions_at_once(machine):
    unified = "31 23 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    files = {"cpu,cpuacct/cpu.cfs_quota_us": "100000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}
    assert quota(machine(unified + V1.format("/"), "4:cpu,cpuacct:/\n0::/\n", **files)) == 1


@pytest.mark.parametrize("mounts", ["", "nonsense\n", "1 2 3 - cgroup2\n"])
def test_nothing_that_can_be_understood(mounts, machine):
    assert quota(machine(mounts, "0::/\n")) == math.inf


def test_no_proc(tmp_path):
    assert quota(tmp_path) == math.inf


def test_the_variable_of_joblib(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert usable_cpus() == 1
    for nonsense in ("", "many", "-3"):
        monkeypatch.setenv("LOKY_MAX_CPU_COUNT", nonsense)
        assert usable_cpus() >= 1


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_the_affinity_of_this_machine():
    one = {min(os.sched_getaffinity(0))}
    program = "from thread_chunks import config; print(config.default_chunk_size)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, one)
    )
    assert done.stdout == "1\n"


@pytest.mark.process
def test_a_quota_of_this_machine():
    group = Path(f"/sys/fs/cgroup/cpu/thread_chunks-{os.getpid()}")
    try:
        group.mkdir()
        (group / "cpu.cfs_quota_us").write_text("100000")
    except OSError as error:
        pytest.skip(f"no quota can be set here: {error}")
    try:
        program = f"""if True:
            import os
            open("{group}/cgroup.procs", "w").write(str(os.getpid()))
            from thread_chunks import config
            print(config.default_chunk_size)
            """
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout == "1\n"
    finally:
        group.rmdir()
