"""Ray starts on machines that lack something, or the error names the obstacle."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
from scripts import end, start

from thread_chunks._ray import surroundings
from thread_chunks._system.groups import control_groups

WORKS = """
with ChunkExecutor(1) as executor:
    say(executor.submit(abs, -1).result())
"""
BREAKS = """
from thread_chunks import ExecutorBroken
for _ in range(2):
    try:
        ChunkExecutor(1)
    except ExecutorBroken as error:
        say(str(error))
"""
FEWER = """
def wait():
    return until(lambda: os.path.exists("go"), 120)  # longer than the driver waits
with ChunkExecutor(8) as executor:
    calls = [executor.submit(wait) for _ in range(16)]
    say(until(lambda: 1 <= executor.size < 8))
    open("go", "w").close()
    say(sum(call.result() for call in calls), 1 <= executor.size < 8)
"""


def limited(script, *command, expected=0):
    """Put a command in front of a script; skip where it cannot be used."""
    probe = subprocess.run([*command, "true"], capture_output=True, text=True) if shutil.which(command[0]) else None
    if probe is None or probe.returncode != 0:
        pytest.skip(f"{command[0]} cannot be used here")
    return (
        f"""
    if "LIMITED" not in os.environ:
        os.environ["LIMITED"] = "1"
        os.execvp({command[0]!r}, [*{list(command)!r}, sys.executable, __file__])
""".replace("\n    ", "\n")
        + script
    )


def said(tmp_path):
    return (tmp_path / "said").read_text().splitlines()


@pytest.mark.parametrize(
    ("home", "directory"),
    [
        ("", "x" * 90),
        ("/proc/nothing", "t\u00e4mp"),
        ("relative", "missing/below"),
        ("/proc/nothing", None),
        (None, "file"),
    ],
)
def test_no_home_and_a_directory_that_ray_cannot_use(home, directory, tmp_path):
    (tmp_path / "file").touch()
    script, environment = WORKS, {}
    if home is not None:
        environment["HOME"] = home
    if directory is not None:
        script = "os.environ.pop('RAY_TMPDIR', None)\n" + script
        environment["TMPDIR"] = str(tmp_path / directory)
    end(start(script, tmp_path, **environment))
    assert said(tmp_path) == ["1"]


def test_shared_memory_that_cannot_be_written_to(tmp_path):
    mount = 'mount -t tmpfs -o ro tmpfs /dev/shm && exec "$@"'
    end(start(limited(WORKS, "unshare", "-m", "bash", "-c", mount, "x"), tmp_path))
    assert said(tmp_path) == ["1"]


def test_little_shared_memory(tmp_path):
    mount = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
    end(start(limited(WORKS, "unshare", "-m", "bash", "-c", mount, "x"), tmp_path))
    assert said(tmp_path) == ["1"]


def test_a_limited_address_space(tmp_path):
    end(start(limited(WORKS, "prlimit", f"--as={4 * 2**30}"), tmp_path))
    assert said(tmp_path) == ["1"]


def test_too_small_an_address_space(tmp_path):
    end(start(limited(BREAKS, "prlimit", f"--as={2**30}"), tmp_path))
    assert len(said(tmp_path)) == 2
    assert all("address space" in line and "ulimit -v" in line for line in said(tmp_path))


def test_too_few_open_files(tmp_path):
    end(start(limited(BREAKS, "prlimit", "--nofile=48"), tmp_path))
    assert len(said(tmp_path)) == 2
    assert all("open files" in line and "ulimit -n" in line for line in said(tmp_path))


def with_few_processes(script, limit):
    if os.getuid() != 0:
        pytest.skip("only root can become another user, whose processes are few")
    # The limit is for all processes of a user, and tests of several workers run at once.
    uid = 12345 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    user = ["setpriv", "--reuid", str(uid), "--regid", "12345", "--clear-groups"]
    user += ["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]
    return limited(script, "prlimit", f"--nproc={limit}", *user)


@pytest.mark.parametrize("missing", [2, 40, 100])
def test_too_few_processes(missing, tmp_path):
    limit = surroundings.rays_threads() + 2 * surroundings.workers_threads() - missing
    end(start(with_few_processes(BREAKS, limit), tmp_path))
    assert len(said(tmp_path)) == 2
    assert all("more are allowed" in line and "ulimit -u" in line for line in said(tmp_path))


def test_fewer_workers_where_there_are_few_processes(tmp_path):
    limit = surroundings.rays_threads() + 3 * surroundings.workers_threads()
    _, err = end(start(with_few_processes(FEWER, limit), tmp_path))
    assert said(tmp_path) == ["True", "16 True"]
    assert "going on with" in err
    assert "ulimit -u" in err


@pytest.fixture
def grouped():
    """Gives a script that moves itself into a control group of few processes first; sees that none stays there."""
    made = []

    def put(script, limit):
        try:
            group = next(iter(control_groups(Path("/"), "pids"))) / f"thread_chunks-{uuid.uuid4().hex}"
            group.mkdir()
            made.append(group)
            (group / "pids.max").write_text(str(limit))
        except (OSError, StopIteration) as error:
            pytest.skip(f"no control group can be made here: {error!r}")
        return limited(script, "sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "x")

    yield put
    for group in made:
        deadline = time.monotonic() + 60  # far beyond what it takes
        while group.exists() and time.monotonic() < deadline:
            with suppress(OSError):  # some are ending
                group.rmdir()
            time.sleep(0.05)
        assert not group.exists(), (group / "cgroup.procs").read_text()


@pytest.mark.parametrize("limit", [40, 120])
def test_too_few_processes_in_the_control_group(limit, grouped, tmp_path):
    end(start(grouped(BREAKS, limit), tmp_path))
    assert len(said(tmp_path)) == 2
    assert all("more are allowed" in line and "that of the container" in line for line in said(tmp_path))


def test_fewer_workers_where_the_control_group_has_few_processes(grouped, tmp_path):
    limit = surroundings.rays_threads() + 3 * surroundings.workers_threads()
    _, err = end(start(grouped(FEWER, limit), tmp_path))
    assert said(tmp_path) == ["True", "16 True"]
    assert "going on with" in err
    assert "that of the container" in err
