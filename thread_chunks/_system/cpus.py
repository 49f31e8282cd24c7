"""How many CPUs this process may use."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

from .groups import control_groups


def usable_cpus() -> int:
    """Return how many CPUs this process may use, at least 1.

    The least of: the CPUs of the machine, the affinity (``taskset``, Slurm), the quota of the control groups that the
    process is in (containers, systemd's ``CPUQuota``), and ``LOKY_MAX_CPU_COUNT``, joblib's variable for it. Where a
    system has no affinity or no control groups, as macOS and Windows, the others count.

    `joblib.cpu_count` takes a second to import, and sees a quota only at the root of the control groups.
    """
    counts = [_cpus_of_affinity(), quota(Path("/"))]
    with suppress(KeyError, ValueError):
        counts.append(int(os.environ["LOKY_MAX_CPU_COUNT"]))
    return max(1, math.ceil(min(counts)))


def _cpus_of_affinity() -> int:
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quota(root: Path) -> float:
    """Return the smallest quota (CPUs) of the control groups of this process, infinite without one.

    Parameters
    ----------
    root : Path
        The root of the file system.
    """
    return min((_quota_of(group) for group in control_groups(root, "cpu")), default=math.inf)


def _quota_of(group: Path) -> float:
    with suppress(OSError, ValueError):  # "max" is no number
        most, period = (group / "cpu.max").read_text().split()
        return float(most) / float(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        most, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(most) / float(period) if float(most) > 0 else math.inf
    return math.inf
