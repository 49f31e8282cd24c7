"""Ray that stays up between programs: ``python -m thread_chunks up`` starts it, ``down`` ends it.

Nothing is written down about it. Each of its processes has a mark in its environment, which what it starts inherits,
and all questions are answered from the table of processes. So nothing is stale after a reboot or ``kill -9``.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from .. import config
from .._system.users import user_id
from .surroundings import find_own_directory, fit

_MARK = "THREAD_CHUNKS_UP"

# The settings by which a process shows its token, beside the file ~/.ray/auth_token.
_TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")

# Without one of these, Ray is not up.
_VITAL = {"gcs_server", "raylet"}

# How long Ray's start may take (s). It takes some seconds.
_PATIENCE = 120.0

# How long Ray's processes have to end by themselves, and how long to wait for those that were killed (s).
_GRACE = 5.0

# Ray takes 127.0.0.1 for "this machine, as others reach it", and would look for the head at its outward address. This
# form of the same address it leaves as it is.
_LOOPBACK = "[::ffff:127.0.0.1]"

_UNABLE = "Ray that stays up needs Linux or macOS"


@dataclass(frozen=True, slots=True)
class Mark:
    """What each process of a standing Ray has in its environment.

    Attributes
    ----------
    scope : str
        ``RAY_TMPDIR`` of who started it. Each has a Ray of its own.
    directory : str
        Where Ray has its sockets and logs. Nothing else is there.
    ray, python, prefix : str
        The versions, and the environment that its workers run in.
    """

    scope: str
    directory: str
    ray: str = field(default_factory=lambda: version("ray"))
    python: str = field(default_factory=platform.python_version)
    prefix: str = sys.prefix


@dataclass(frozen=True, slots=True)
class Standing:
    """A standing Ray.

    Attributes
    ----------
    mark : Mark
        What its processes carry.
    port : int
        Of its head.
    started : float
        When (s since the epoch).
    token : dict
        Environment variables that show its token; empty if that is in ``~/.ray/auth_token``.
    """

    mark: Mark
    port: int
    started: float
    token: dict[str, str]

    @property
    def address(self) -> str:
        """Where programs find it, as a value of ``RAY_ADDRESS``."""
        return f"{_LOOPBACK}:{self.port}"

    @property
    def settings(self) -> dict[str, str | None]:
        """Environment variables that programs need; None for those that must not be set."""
        return {
            "RAY_ADDRESS": self.address,
            "RAY_AUTH_MODE": "token",
            **{name: self.token.get(name) for name in _TOKENS},
        }

    @property
    def differs(self) -> str | None:
        """What its workers run that is not what this process runs; None if it is the same."""
        own = Mark(self.mark.scope, self.mark.directory)
        if self.mark == own:
            return None
        return (
            f"it is Ray {self.mark.ray} on Python {self.mark.python} of {self.mark.prefix}, and this is Ray {own.ray} "
            f"on Python {own.python} of {own.prefix}"
        )


def find() -> Standing | None:
    """Return this user's standing Ray; None if it is not up."""
    vital = {process.name(): (process, mark) for process, mark in _marked() if process.name() in _VITAL}
    if vital.keys() != _VITAL:
        return None
    head, mark = vital["gcs_server"]
    with suppress(psutil.Error):
        environment = head.environ()
        token = {name: environment[name] for name in _TOKENS if environment.get(name)}
        for connection in head.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return Standing(mark, connection.laddr.port, head.create_time(), token)
    return None


def up() -> tuple[Standing, bool]:
    """Find this user's standing Ray, or start it; return it, and whether it was started.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    if user_id() is None:
        raise OSError(_UNABLE)
    scope = _scope()
    directory = _directory(scope)
    with _alone(directory):
        found = find()
        if found is not None:
            return found, False
        _end()  # what is left of one that was killed
        _start(Mark(scope, directory))
        found = find()
        if found is None:
            raise OSError("Ray ended right after its start")
        Path(directory, "ray_current_cluster").write_text(found.address)  # where Ray looks for the address "auto"
        return found, True


def down() -> bool:
    """End this user's standing Ray, with all that belongs to it; return whether there was something to end.

    Raises
    ------
    OSError
        If some of it does not end.
    """
    if user_id() is None:
        raise OSError(_UNABLE)
    directory = _directory(_scope())
    with _alone(directory):
        found = _end()
        shutil.rmtree(directory, ignore_errors=True)
    return found


def programs(standing: Standing) -> list[psutil.Process]:
    """Return the programs that are connected to it, whether they run something or not."""
    own = set(_processes())
    found = set()
    with suppress(psutil.AccessDenied):
        for connection in psutil.net_connections("tcp"):
            if (
                connection.pid
                and connection.status == psutil.CONN_ESTABLISHED
                and connection.raddr.port == standing.port
            ):
                with suppress(psutil.Error):
                    found.add(psutil.Process(connection.pid))
    return sorted(found - own, key=lambda process: process.pid)


def _scope() -> str:
    return os.environ.get("RAY_TMPDIR", "")


def _directory(scope: str) -> str:
    return find_own_directory(f"up-{zlib.crc32(scope.encode()):08x}" if scope else "up")


def _marked() -> Iterator[tuple[psutil.Process, Mark]]:
    """Yield this user's processes that have the mark of this scope."""
    for process in psutil.process_iter() if user_id() is not None else ():
        with suppress(psutil.Error, ValueError, TypeError):
            if process.uids().real == user_id() and process.status() != psutil.STATUS_ZOMBIE:
                mark = Mark(**json.loads(process.environ().get(_MARK, "")))
                if mark.scope == _scope():
                    yield process, mark


def _processes() -> Iterator[psutil.Process]:
    """Yield what belongs to the standing Ray: what has its mark, and what that has started; but not this process."""
    spared = {psutil.Process(), *psutil.Process().parents()}
    for process, _ in _marked():
        with suppress(psutil.Error):
            yield from {process, *process.children(recursive=True)} - spared


@contextmanager
def _alone(directory: str) -> Iterator[None]:
    """Let no two processes start and end Ray at once."""
    import fcntl  # which Windows lacks

    descriptor = os.open(os.path.dirname(directory), os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _start(mark: Mark) -> None:
    options: dict[str, Any] = {"num_cpus": config.usable_cpus, "_temp_dir": mark.directory}
    shutil.rmtree(mark.directory, ignore_errors=True)
    os.mkdir(mark.directory, 0o700)
    fit(options)
    _make_token()
    environment = {
        **os.environ,
        _MARK: json.dumps(asdict(mark)),
        "RAY_AUTH_MODE": "token",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's word for: this machine alone, by its loopback address
    }
    environment.pop("RAY_ADDRESS", None)
    flags = [f"--{name.strip('_').replace('_', '-')}={value}" for name, value in options.items()]
    flags += ["--node-ip-address=127.0.0.1", "--port=0", "--include-dashboard=false", "--include-log-monitor=false"]
    output = Path(mark.directory) / "start.log"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--disable-usage-stats", *flags],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=mark.directory,
            env=environment,
            start_new_session=True,  # it outlives the terminal
        )
    try:
        status: object = process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        status = f"no end within {_PATIENCE:.0f} s"
    except BaseException:
        _end()
        raise
    if status != 0:
        said = output.read_text(errors="replace").splitlines()[-3:]
        _end()
        raise OSError(f"Ray cannot be started (`ray start`: {status}): {' / '.join(said)}")


def _make_token() -> None:
    """Write a token to the file where Ray looks for it, if no other is shown. Ray itself would not."""
    if not any(os.environ.get(name) for name in _TOKENS):
        path = Path("~/.ray/auth_token").expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))


def _end() -> bool:
    """End all that belongs to the standing Ray, and remove its directory."""
    directories: set[str] = set()
    found = False
    for kill in (False, True, True):  # once more, for what was started meanwhile
        directories |= {mark.directory for _, mark in _marked()}
        left = set(_processes())
        found = found or bool(left)
        for process in left:
            with suppress(psutil.Error):
                process.kill() if kill else process.terminate()
        psutil.wait_procs(left, _GRACE)
    if left := set(_processes()):
        raise OSError(f"Ray's processes {', '.join(str(process.pid) for process in left)} did not end")
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
    return found
