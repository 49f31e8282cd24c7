"""What a process of Ray's that has ended left in its files, for messages."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

# So much of a line is quoted (characters), and so much of a file is read (bytes).
_LONGEST = 300
_READ = 2**20

# If it lived for less than so long (s), it has ended at once. Ray's own time-outs are longer.
_AT_ONCE = 5.0

# What stands before the text of a line of Ray's: date, level, process and thread, name, place in the source.
_HEAD = re.compile(r"^\[[\d :,.-]+ (?P<level>[A-Z]) [\d ]+\] (?:\(\w+\) )?(?:[\w./]+:\d+: *)?")
_PHRASES = re.compile(r"An unexpected system state has occurred\..*?fix it\. *|Check failed: \S+ *")
_TELLING = re.compile(r"check failed|timed? ?out|what\(\)|error|fail|cannot|unable|unavailable|no space|denied", re.I)
_TIMED_OUT = re.compile(r"timed? ?out", re.I)

BUSY = "The machine is too busy for Ray's own time-outs: run it again"


def find_logs(directory: str, pid: int, since: float) -> Path | None:
    """Return where the session of Ray logs that a process has begun since a time, below Ray's directory."""
    found = []
    for session in Path(directory).glob(f"session_*_{pid}"):
        with suppress(OSError):
            found.append(((session / "logs").stat().st_ctime, session / "logs"))
    newest, logs = max(found, default=(0.0, None))
    return logs if newest >= since - 1 else None  # file systems have clocks of their own


def why_ended(name: str, lived: float, logs: Path | None) -> str:
    """Return that a process has ended, after so many seconds, with what it said last, and what to do."""
    text = f"its process {name} has ended {'at once' if lived < _AT_ONCE else f'after {lived:.0f} s'}"
    line, file = ("", None) if logs is None else _first_telling(logs, name)
    if file is not None:
        text += f": {line} ({file})"
    if _TIMED_OUT.search(line):
        return f"{text}. {BUSY}"
    return (
        f"{text}. Some limit {'is' if file is None else 'may be'} in the way: of processes and threads (`ulimit -u`), "
        "of address space (`ulimit -v`), of open files (`ulimit -n`), or of the container"
    )


def _first_telling(logs: Path, name: str) -> tuple[str, Path | None]:
    """Return the first line of a process that says why it ended, in short, and its file; None if there is none."""
    for ending in ("err", "log", "out"):
        file = logs / f"{name}.{ending}"
        for line in _lines(file):
            head = _HEAD.match(line)
            # What is no line of Ray's log, as of the C++ library, is only looked at where nothing else is written.
            is_serious = ending == "err" if head is None else head["level"] in "ECF"
            if is_serious and _TELLING.search(line) and not line.startswith(("terminate called", "***")):
                said = _PHRASES.sub("", line[head.end() if head else 0 :]).strip()
                return (said if len(said) <= _LONGEST else f"{said[: _LONGEST - 3]}..."), file
    return "", None


def _lines(file: Path) -> list[str]:
    with suppress(OSError), open(file, "rb") as opened:
        return os.fsdecode(opened.read(_READ)).splitlines()
    return []
