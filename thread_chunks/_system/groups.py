"""The control groups that this process is in, where a system has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def control_groups(root: Path, controller: str, pid: int | None = None) -> list[Path]:
    """Return the directories of the control groups of a process, its own first; empty where a system has none.

    What limits a group limits those below it, too. Both versions of control groups may be mounted at once, anywhere,
    and from any group on, as in a container.

    Parameters
    ----------
    root : Path
        The root of the file system.
    controller : str
        Of version 1: "cpu", "memory", "pids".
    pid : int, optional
        The process. Default: this one.
    """
    found: list[Path] = []
    with suppress(OSError, ValueError, IndexError):
        groups = dict(_groups((root / f"proc/{pid or 'self'}/cgroup").read_text()))
        for line in (root / "proc/self/mountinfo").read_text().splitlines():
            mount, _, kind = line.partition(" - ")
            base, point = mount.split()[3:5]
            name, _, options = kind.split(" ", 2)
            key = "" if name == "cgroup2" else controller
            if key in groups and (name == "cgroup2" or (name == "cgroup" and controller in options.split(","))):
                top = root / point.lstrip("/")
                group = top / os.path.relpath(groups[key], base)
                # Where the group is not below what is mounted, the mount shows what counts.
                inside = [group, *group.parents] if group.is_relative_to(top) and ".." not in group.parts else [top]
                found += [path for path in inside if path.is_relative_to(top)]
    return found


def _groups(text: str) -> Iterator[tuple[str, str]]:
    """Yield (controller, group): the controller is empty for version 2."""
    for line in text.splitlines():
        _, controllers, group = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, group
