"""What Ray needs of the machine before it is started here: a token, and a directory for its sockets and logs."""

from __future__ import annotations

import math
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from .. import config
from .._system.limits import address_space, open_files, room_for_threads
from .._system.users import user_id

# The longest path that Ray makes below its directory, for the socket of its object store. The first part names the
# session by date, time and process, at most a number of seven digits.
_LONGEST_BELOW = len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1")

# The longest path of a Unix socket (bytes): 103 on macOS.
_LONGEST_PATH = 103 if sys.platform == "darwin" else 107

# So much room (bytes) Ray's logs of a short run take. Less, and Ray's processes fail as they write them.
_LEAST_ROOM = 32 * 2**20

# So many threads Ray's own processes and the driver have, and a worker; and so many more of each for each CPU that the
# machine has, up to 16: gRPC makes them. On 2 CPUs that is 165 and 23. Less, and a process of Ray's that cannot start a
# thread hangs or ends, the program among them; more, and small machines are refused on which Ray would run.
_RAYS_THREADS, _RAYS_THREADS_BY_CPU = 150, 8
_WORKERS_THREADS, _WORKERS_THREADS_BY_CPU = 21, 1
_MOST_CPUS = 16

MORE_THREADS = "Raise the limit (`ulimit -u`, or that of the container or service)"

# Ray's processes need so many open files each.
_LEAST_FILES = 64

# A worker has so many bytes of addresses beside those of the object store.
_LEAST_ADDRESSES = 3 * 2**29

_SHARED_MEMORY = "/dev/shm"


def fit(options: dict[str, Any]) -> None:
    """Fit options of ``ray.init`` to this machine, where Ray's own defaults would fail on it.

    Raises
    ------
    OSError
        If Ray cannot be started here at all.
    """
    least = rays_threads() + 2 * workers_threads()  # one of them to spare
    if (room := room_for_threads()) < least:
        raise OSError(
            f"it needs {least} processes and threads, and only {max(0, room):.0f} more are allowed. {MORE_THREADS}"
        )
    most = (room - rays_threads()) // workers_threads() - 1  # Ray starts a worker for each CPU at once
    options.setdefault("num_cpus", int(min(config.usable_cpus, most)))
    if (files := open_files()) < _LEAST_FILES:
        raise OSError(
            f"it needs {_LEAST_FILES} open files in each process, and {files:.0f} are allowed. Raise the limit "
            "(`ulimit -n`, or that of the container or service)"
        )
    if (addresses := address_space()) < math.inf:
        if addresses < _LEAST_ADDRESSES:
            raise OSError(
                f"the address space of a process is limited to {addresses / 2**20:,.0f} MiB, and Ray's processes need "
                f"{_LEAST_ADDRESSES / 2**20:,.0f} MiB. Raise the limit (`ulimit -v unlimited`)"
            )
        # Each of Ray's processes maps all of the object store: by default, 30 % of the memory.
        store = min((addresses - _LEAST_ADDRESSES) / 2 + 80 * 2**20, psutil.virtual_memory().total * 0.3)
        options.setdefault("object_store_memory", int(store))
    show_token()
    if "_temp_dir" not in options and (directory := find_directory()) is not None:
        options["_temp_dir"] = directory
    if os.path.isdir(_SHARED_MEMORY) and not _takes_files(Path(_SHARED_MEMORY)):
        options.setdefault("_plasma_directory", options.get("_temp_dir") or default_directory())


def check_room_for_worker(starting: int) -> None:
    """Raise OSError if there may be too few threads for another worker, while so many are starting."""
    needed = (starting + 1) * workers_threads()
    if (room := room_for_threads(enough=needed)) < needed:
        raise OSError(
            f"a worker needs {workers_threads()} processes and threads, {starting} others are starting, and only "
            f"{max(0, room):.0f} more are allowed. {MORE_THREADS}"
        )


def rays_threads() -> int:
    """Return how many threads Ray has where no worker runs, the driver's own among them."""
    return _RAYS_THREADS + _RAYS_THREADS_BY_CPU * _cpus()


def workers_threads() -> int:
    """Return how many threads a worker has."""
    return _WORKERS_THREADS + _WORKERS_THREADS_BY_CPU * _cpus()


def _cpus() -> int:
    return min(os.cpu_count() or 1, _MOST_CPUS)


def show_token() -> None:
    """Put a token for Ray into the environment, where Ray cannot keep one in the home directory.

    Ray's processes know each other by a token. Ray makes one in ``~/.ray/auth_token`` when it is first started, and
    fails where there is no home directory, or where that cannot be written to.
    """
    is_shown = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    is_wanted = os.environ.get("RAY_AUTH_MODE", "token").lower() == "token"
    if is_wanted and not is_shown and not _home_keeps_token():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # for good: Ray remembers it until the process ends


def _home_keeps_token() -> bool:
    home = os.environ.get("HOME", "")
    if not os.path.isabs(home):  # parts of Ray do not look into the database of users
        return False
    directory = Path(home) / ".ray"
    with suppress(OSError, ValueError):
        if (directory / "auth_token").exists():
            return bool((directory / "auth_token").read_text().strip())
        directory.mkdir(parents=True, exist_ok=True)
        return _takes_files(directory)
    return False


def find_directory() -> str | None:
    """Return where Ray may put its sockets and logs; None for where it does by itself.

    Raises
    ------
    OSError
        If there is no directory for it. The error says what is wrong with each.
    """
    # As Ray has it; a directory of the user's own is the last resort, as Ray's is in everybody's.
    reasons = []
    for number, directory in enumerate(_directories()):
        if (reason := _fault_of(directory)) is None:
            return None if number == 0 else directory
        reasons.append(f"{directory} {reason}")
    raise OSError(
        f"it has no directory for its sockets and logs: {'; '.join(reasons)}. Set RAY_TMPDIR to a short path of a "
        "directory that this user may write to"
    )


def default_directory() -> str:
    """Return where Ray puts its sockets and logs by itself."""
    return next(_directories())


def find_own_directory(name: str) -> str:
    """Return a directory for Ray that is this user's alone, and has that name; it is made if it does not exist.

    Raises
    ------
    OSError
        If there is no place for it.
    """
    for base in [base for base in _directories() if os.path.basename(base) != "ray"]:
        directory = os.path.join(base, name)
        if _fault_of(directory) is None and os.stat(base).st_uid == user_id():
            return directory
    raise OSError("Ray has no directory for its sockets and logs. Set RAY_TMPDIR to a short path that you may write to")


def _directories() -> Iterator[str]:
    user = user_id()
    own = "ray-thread_chunks" if user is None else f"ray-{user}"
    bases = [os.environ[name] for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ][:1] or ["/tmp"]
    yield os.path.join(bases[0], "ray")
    for base in (bases[0], "/tmp", "/var/tmp", "/dev/shm"):
        yield os.path.join(base, own)


def _fault_of(directory: str) -> str | None:
    """Return why Ray cannot use a directory, which is made if it does not exist."""
    if not os.path.isabs(directory):
        return "is not an absolute path"
    if not directory.isascii():
        return "has characters beyond ASCII"
    if len(directory) + _LONGEST_BELOW > _LONGEST_PATH:
        return f"is longer than {_LONGEST_PATH - _LONGEST_BELOW} bytes, so that its sockets have no names"
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        return f"cannot be made ({error.strerror})"
    if not _takes_files(Path(directory)):
        return "cannot be written to"
    if shutil.disk_usage(directory).free < _LEAST_ROOM:
        return f"has less than {_LEAST_ROOM // 2**20} MiB left"
    return None


def _takes_files(directory: Path) -> bool:
    with suppress(OSError), tempfile.NamedTemporaryFile(dir=directory, buffering=0) as file:
        return file.write(b"thread_chunks") > 0
    return False
