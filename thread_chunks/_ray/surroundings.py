"""What Ray needs of the machine before it is started here: a token, and a directory for its sockets and logs."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# The longest path that Ray makes below its directory, for the socket of its object store. The first part names the
# session by date, time and process, at most a number of seven digits.
_LONGEST_BELOW = len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1")

# The longest path of a Unix socket (bytes): 103 on macOS.
_LONGEST_PATH = 103 if os.uname().sysname == "Darwin" else 107

# So much room (bytes) Ray's logs of a short run take. Less, and Ray's processes fail as they write them.
_LEAST_ROOM = 32 * 2**20


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


def _directories() -> Iterator[str]:
    own = f"ray-{os.getuid()}"
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
