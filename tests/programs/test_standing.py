"""Ray that stays up between programs: ``python -m thread_chunks up``, ``status``, ``down``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

import psutil
import pytest
import ray

from thread_chunks._commands import shells

LOOK = """
import sys
from thread_chunks import ChunkExecutor
with ChunkExecutor(2) as executor:
    print(sum(executor.map(abs, range(-3, 3))), flush=True)
    sys.stdin.readline()
"""


class Commands:
    """Runs the commands, in a scope of their own."""

    def __init__(self, directory):
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment["RAY_TMPDIR"] = directory

    def start(self, *arguments, **environment):
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.environment, **environment},
            cwd=self.environment["RAY_TMPDIR"],
        )

    def __call__(self, *arguments, expect=0):
        process = self.start("-m", "thread_chunks", *arguments)
        out, err = process.communicate(timeout=300)
        assert process.returncode == expect, err
        return out

    def marked(self):
        """Return the processes of this scope."""
        found = []
        for process in psutil.process_iter():
            try:
                mark = json.loads(process.environ().get("THREAD_CHUNKS_UP", "{}"))
            except (psutil.Error, ValueError):
                continue
            if mark.get("scope") == self.environment["RAY_TMPDIR"] and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found


@pytest.fixture
def commands():
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as directory:
        commands = Commands(directory)
        yield commands
        left = commands.marked()
        for process in left:
            process.kill()
    assert left == []


def _listening(process):
    return {connection.laddr.ip for connection in process.net_connections("tcp") if connection.status == "LISTEN"}


def test_the_life_of_a_standing_ray(commands, ray_up):
    both = [commands.start("-m", "thread_chunks", "up") for _ in range(2)]
    (first, _), (second, _) = (process.communicate(timeout=300) for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert first == second
    assert first.startswith("RAY_ADDRESS=")
    assert [process.name() for process in commands.marked()].count("gcs_server") == 1

    for address in ("auto", json.loads(commands("status", "--json"))["address"]):
        mode = {} if address == "auto" else {"RAY_AUTH_MODE": "token"}
        program = commands.start("-c", LOOK, RAY_ADDRESS=address, **mode)
        assert program.stdout.readline() == "9\n", program.stderr.read()
        status = json.loads(commands("status", "--json"))  # the program is idle
        assert [using["pid"] for using in status["programs"]] == [program.pid]
        assert str(program.pid) in commands("status")
        inside = set.union(*map(_listening, [*commands.marked(), psutil.Process(program.pid)]))
        assert inside <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
        assert program.communicate("\n", timeout=300)[1] == ""
        assert program.returncode == 0
    assert "no program" in commands("status")

    code = "import sys; sys.prefix = '/elsewhere'; from thread_chunks.__main__ import main; sys.exit(main(['up']))"
    other = commands.start("-c", code)
    out, err = other.communicate(timeout=300)
    assert (other.returncode, out) == (1, "")
    assert f"of {sys.prefix}, and this is" in err
    assert "/elsewhere" in err

    assert commands("down") == "unset RAY_ADDRESS;\nunset RAY_AUTH_MODE;\n"
    assert commands.marked() == []
    assert json.loads(commands("status", "--json", expect=1)) == {"up": False}
    commands("down")  # once more does no harm
    assert ray.get(ray.put(1)) == 1  # another Ray of this user goes on
    assert os.listdir(os.path.join(commands.environment["RAY_TMPDIR"], f"ray-{os.getuid()}")) == []


def test_what_a_kill_has_left_is_cleared_away_and_a_program_is_ended(commands):
    commands("up")
    program = commands.start("-c", LOOK, RAY_ADDRESS="auto")
    assert program.stdout.readline() == "9\n"
    before = {process.pid for process in commands.marked()}
    next(process for process in commands.marked() if process.name() == "raylet").kill()
    commands("status", expect=1)
    program.send_signal(signal.SIGINT)
    program.communicate(timeout=300)
    commands("up")
    after = {process.pid for process in commands.marked()}
    assert after
    assert not before & after
    commands("down")


def test_a_program_whose_ray_is_gone_is_told_how_to_start_it(commands):
    program = commands.start("-c", LOOK, RAY_ADDRESS="[::ffff:127.0.0.1]:1")
    _, err = program.communicate(timeout=300)
    assert "no answer from" in err
    assert "thread_chunks up" in err


def test_without_a_home_directory(commands):
    del commands.environment["HOME"]
    settings = commands("up", "--shell", "sh")
    assert "RAY_AUTH_TOKEN=" in settings
    program = commands.start("-c", LOOK, RAY_ADDRESS="auto")
    assert program.communicate("\n", timeout=300)[0] == "9\n"
    commands("down")


@pytest.mark.parametrize(
    ("shell", "program"), [("sh", "sh"), ("sh", "bash"), ("csh", "csh"), ("csh", "tcsh"), ("fish", "fish")]
)
def test_shells_read_what_is_printed(shell, program, tmp_path):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    values = {"A": "[::1]:1", "B": "it's $HOME! \\ `id` \\' *", "C": "a b"}
    printer = tmp_path / "printer"
    printer.write_text(shells.commands({**values, "GONE": None}, shell))
    run = {"sh": 'eval "$(cat printer)"', "csh": "eval `cat printer`", "fish": "eval (cat printer)"}[shell]
    show = f"{sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    lines = subprocess.run(
        [program, "-c", f"{run}\n{show}"], cwd=tmp_path, env={**os.environ, "GONE": "1"}, capture_output=True, text=True
    )
    seen = json.loads(lines.stdout)
    assert {name: seen[name] for name in values} == values
    assert "GONE" not in seen
