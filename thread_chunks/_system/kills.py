"""Find out which processes of this machine the kernel has killed for memory."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from .groups import control_groups

# So the kernel's log names each process that it kills for memory.
_KILLED = re.compile(rb"Killed process (\d+)[ ,]")

# The namespace of processes in which the kernel's log counts.
_FIRST_NAMESPACE = "pid:[4026531836]"

# Longer than any record of the kernel's log (bytes).
_LONGEST_RECORD = 2**14


def counting_group(pid: int, root: Path = Path("/")) -> Path | None:
    """Return the control group of a process, if that counts the kernel's kills; else None.

    Without one, kills anywhere on the machine count.
    """
    groups = control_groups(root, "memory", pid)[:1]
    return groups[0] if groups and _kills_in(groups[0]) is not None else None


def kernel_kills(group: Path | None, root: Path = Path("/")) -> int:
    """Return how many processes the kernel has killed for memory: in a control group, or on this machine.

    Always 0 where a system does not count them, as macOS and Windows: then no death is known to be one for memory.
    """
    if group is not None:
        return _kills_in(group) or 0
    return _number(root / "proc/vmstat") or 0


def is_in_log(pid: int) -> bool | None:
    """Return whether the kernel's log says that it killed a process for memory; None if the log cannot be read.

    It is for root, and outside of containers, whose processes have other numbers than in the log.
    """
    try:
        if os.readlink("/proc/self/ns/pid") != _FIRST_NAMESPACE:
            return None
        descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, AttributeError):
        return None
    found = False
    try:
        while not found:
            record = os.read(descriptor, _LONGEST_RECORD)
            killed = _KILLED.search(record)
            found = killed is not None and int(killed[1]) == pid
    except OSError:  # that was all, or a part was overwritten meanwhile
        pass
    finally:
        os.close(descriptor)
    return found


def _kills_in(group: Path) -> int | None:
    for name in ("memory.events", "memory.oom_control"):
        if (number := _number(group / name)) is not None:
            return number
    return None


def _number(path: Path) -> int | None:
    with suppress(OSError, StopIteration, ValueError), path.open("rb") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(b"oom_kill "))
    return None
