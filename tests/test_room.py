"""Why workers are not up, and why Ray is not: what the messages say."""

from __future__ import annotations

import os
import time

import pytest
from fake_cluster import FakeExecutor

from thread_chunks._ray.remains import find_logs, why_ended
from thread_chunks._ray.room import Resources, in_words

GIB = 2.0**30


@pytest.fixture
def why():
    """Return why `size` workers with these options are late, `starting` of which there are, on Ray with `resources`."""

    def ask(size, resources, /, *, alone=True, starting=0, **options):
        with FakeExecutor(size, actor_options={}) as executor:
            cluster = executor._engine.cluster
            cluster._options |= options
            cluster._workers |= {object() for _ in range(starting)}
            cluster._runtime.resources = lambda: resources
            cluster._runtime.is_alone = alone
            said = cluster.why_late(size)
            cluster._workers.clear()
        return said

    return ask


def has(**amounts):
    """Return resources, of ``name=(there, free)``."""
    return Resources(
        {name: there for name, (there, _) in amounts.items()}, {name: free for name, (_, free) in amounts.items()}
    )


def test_a_busy_machine_with_room(why):
    resources = has(CPU=(2.0, 2.0), memory=(13203054592.0, 13203054592.0))
    assert why(2, resources) == "the machine is busy"
    assert why(100, resources) == (
        "the machine is busy; you asked for 100 workers on 2 CPUs; chunk_size is how many calls run at once"
    )
    assert why(2, resources, memory=GIB, num_cpus=1) == "the machine is busy"
    assert why(2, resources, runtime_env={"pip": ["x"]}).endswith("or their environment (runtime_env) takes long")


@pytest.mark.parametrize(
    ("free", "options", "said"),
    [
        ({"GPU": (1.0, 0.0)}, {"num_gpus": 1}, "each needs 1 GPU; 0 are left"),
        ({"GPU": (3.0, 1.0)}, {"num_gpus": 2}, "each needs 2 GPUs; 1 is left"),
        ({"memory": (4 * GIB, GIB / 2)}, {"memory": 3 * GIB}, "each needs 3 GiB of memory; 512 MiB are left"),
        ({"licence": (1.0, 0.5)}, {"resources": {"licence": 1}}, "each needs 1 licence; 0.5 are left"),
        (
            {"GPU": (1.0, 0.0), "memory": (GIB, 0.0)},
            {"num_gpus": 1, "memory": int(GIB)},
            "each needs 1 GPU and 1 GiB of memory; 0 GPUs and 0 GiB of memory are left",
        ),
    ],
)
def test_what_there_is_too_little_of(why, free, options, said):
    assert why(2, has(CPU=(2.0, 2.0), **free), starting=2, **options) == f"there is no room for them: {said}"


def test_what_is_not_certain_is_not_said_for_certain(why):
    both = "there is no room for them, or the machine is busy: each needs 1 GPU; 0 are left"
    assert why(2, has(GPU=(2.0, 0.0)), starting=2, num_gpus=1) == both, "they may have taken it themselves"
    pieces = why(2, has(GPU=(4.0, 2.0)), alone=False, num_gpus=2)
    assert pieces == "the machine is busy, or no node has room for them (num_gpus)"
    assert why(2, None) == "Ray does not answer"


def test_amounts_in_words():
    assert in_words({"CPU": 1, "GPU": 0.5, "memory": 2.5 * GIB}) == "1 CPU and 0.5 GPUs and 2.5 GiB of memory"


TIMED_OUT = (
    "[2026-11-30 21:41:48,942 C 25679 25679] (raylet) node_manager.cc:3576:  An unexpected system state has occurred. "
    "You have likely discovered a bug in Ray. Please report this issue at https://github.com/ray-project/ray/issues "
    "and we'll work with you to fix it. Check failed: statussetor3576.has_value() Timed out waiting for file "
    "/tmp/ray/session_2026-11-30_21-41-21_570073_24425/metrics_agent_port_e5ed7f1d\n*** StackTrace Information ***\n"
    "/site-packages/ray/core/src/ray/raylet/raylet(+0xff770a) [0x56444b0f670a] ray::operator<<()\n"
)
NO_THREAD = (
    "terminate called after throwing an instance of 'std::system_error'\n  what():  Resource temporarily unavailable\n"
)


def test_a_process_of_rays_that_timed_out(tmp_path):
    (tmp_path / "raylet.err").write_text(TIMED_OUT)
    said = why_ended("raylet", 27.4, tmp_path)
    assert said.startswith("its process raylet has ended after 27 s: Timed out waiting for file /tmp/ray/session_")
    assert f"({tmp_path}/raylet.err). The machine is too busy" in said
    assert "run it again" in said
    assert "ulimit" not in said


def test_a_process_of_rays_that_met_a_limit(tmp_path):
    (tmp_path / "gcs_server.err").write_text(NO_THREAD)
    said = why_ended("gcs_server", 0.4, tmp_path)
    assert said.startswith("its process gcs_server has ended at once: what():  Resource temporarily unavailable (")
    assert "Some limit may be in the way: of processes and threads (`ulimit -u`)" in said


def test_a_process_of_rays_that_said_why_only_in_its_log(tmp_path):
    head = "[2026-11-30 21:41:32,145 {} 25679 25679] (raylet) main.cc:283: "
    lines = [head.format("I") + "No error so far", head.format("E") + "Failed to bind: " + 1000 * "x"]
    (tmp_path / "raylet.err").touch()
    (tmp_path / "raylet.out").write_text("\n".join(lines))
    said = why_ended("raylet", 0.4, tmp_path)
    assert "at once: Failed to bind: xxx" in said
    assert f"x... ({tmp_path}/raylet.out)" in said
    assert len(said) < 800


@pytest.mark.parametrize("logs", [False, True])
def test_a_process_of_rays_that_said_nothing(tmp_path, logs):
    said = why_ended("raylet", 0.4, tmp_path if logs else None)
    assert said.startswith("its process raylet has ended at once. Some limit is in the way")


def test_the_logs_are_those_of_this_start(tmp_path):
    now = time.time()
    assert find_logs(str(tmp_path), os.getpid(), now) is None
    for name in (f"session_2026-11-30_21-41-21_570073_{os.getpid()}", "session_2026-11-30_21-41-22_570073_1"):
        (tmp_path / name / "logs").mkdir(parents=True)
    logs = find_logs(str(tmp_path), os.getpid(), now)
    assert logs == tmp_path / f"session_2026-11-30_21-41-21_570073_{os.getpid()}" / "logs"
    assert find_logs(str(tmp_path), os.getpid(), now + 60) is None
