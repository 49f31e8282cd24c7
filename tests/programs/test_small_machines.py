"""Ray is started on machines that lack something, or the error says what is in the way."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from scripts import end, start

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


@pytest.mark.parametrize("home", ["", "/proc/nothing", "relative"])
def test_no_home(home, tmp_path):
    end(start(WORKS, tmp_path, HOME=home))
    assert said(tmp_path) == ["1"]


@pytest.mark.parametrize("directory", ["x" * 90, "t\u00e4mp", "missing/below", "file"])
def test_a_directory_that_ray_cannot_use(directory, tmp_path):
    (tmp_path / "file").touch()
    script = "os.environ.pop('RAY_TMPDIR', None)\n" + WORKS
    end(start(script, tmp_path, TMPDIR=str(tmp_path / directory)))
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
    # So many seconds Ray waits for its server, which has ended; 30 by default.
    end(start(limited(BREAKS, "prlimit", "--nofile=32"), tmp_path, RAY_gcs_server_port_wait_time_s="5"))
    assert len(said(tmp_path)) == 2
    assert all("gcs_server" in line and "ulimit -n" in line for line in said(tmp_path))


@pytest.mark.parametrize(("limit", "text"), [(120, "ulimit -u"), (40, "more are allowed")])
def test_too_few_processes(limit, text, tmp_path):
    if os.getuid() != 0:
        pytest.skip("only root can become another user, whose processes are few")
    user = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]
    user += ["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]
    end(start(limited(BREAKS, "prlimit", f"--nproc={limit}", *user), tmp_path))
    assert len(said(tmp_path)) == 2
    assert all("ExecutorBroken" not in line and text in line for line in said(tmp_path))
