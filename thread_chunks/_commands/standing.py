"""Commands for a Ray that stays up: `up`, `down`, and `status` without a file."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from typing import Any

import psutil

from .._ray.standing import Standing, find, programs
from .._ray.standing import down as end
from .._ray.standing import up as start
from .shells import commands
from .words import duration, printable

_HOW = {
    "sh": 'eval "$(python -m thread_chunks {})"',
    "csh": "eval `python -m thread_chunks {}`",
    "fish": "eval (python -m thread_chunks {})",
}


def up(shell: str) -> int:
    """Start Ray, or find it. Print commands for `shell` on standard output, and the rest on standard error."""
    standing, is_new = start()
    if standing.differs is not None:
        print(f"Ray is up, but {standing.differs}. End it by: python -m thread_chunks down", file=sys.stderr)
        return 1
    print(f"Ray {'is' if is_new else 'was'} up at {standing.address}. {_advice('up', shell)}", file=sys.stderr)
    # Only variables that are set have to be removed.
    settings = {name: value for name, value in standing.settings.items() if value is not None or name in os.environ}
    print(commands(settings, shell))
    return 0


def down(shell: str) -> int:
    """End Ray. Print commands that remove from `shell` the variables that `up` set."""
    standing = find()
    used = [] if standing is None else programs(standing)
    for line in map(_line, used):
        print(f"It was in use by{line}", file=sys.stderr)
    print("Ray is down." if end() else "Ray was not up.", file=sys.stderr)
    names = ["RAY_ADDRESS", "RAY_AUTH_MODE", *(() if standing is None else standing.token)]
    print(commands(dict.fromkeys(names), shell))
    return 0


def status(*, as_json: bool) -> int:
    """Print whether Ray is up, and which programs use it. The exit status is 1 if it is not up."""
    standing = find()
    using = [] if standing is None else programs(standing)
    if as_json:
        print(json.dumps(_facts(standing, using)))
    elif standing is None:
        print(f"No standing Ray. Start one by: {_HOW['sh'].format('up')}")
    else:
        print(f"Ray {standing.mark.ray} is up at {standing.address}, for {duration(time.time() - standing.started)}")
        if standing.differs is not None:
            print(f"  but {standing.differs}")
        print("\n".join(map(_line, using)) or "  no program uses it")
    return int(standing is None)


def _advice(command: str, shell: str) -> str:
    return (
        f"In a shell: {_HOW[shell].format(command)}"
        if sys.stdout.isatty()
        else "It ends by: python -m thread_chunks down"
    )


def _facts(standing: Standing | None, using: list[psutil.Process]) -> dict[str, Any]:
    if standing is None:
        return {"up": False}
    mark = standing.mark
    return {
        "up": True,
        "address": standing.address,
        "started": standing.started,
        "ray": mark.ray,
        "python": mark.python,
        "prefix": mark.prefix,
        "programs": [{"pid": process.pid, "command": _command(process)} for process in using],
    }


def _line(process: psutil.Process) -> str:
    since = ""
    with suppress(psutil.Error):
        since = f"  for {duration(time.time() - process.create_time())}"
    return f"  {process.pid}  {printable(' '.join(_command(process)))[:100]}{since}"


def _command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return list(process.cmdline())
    return []
