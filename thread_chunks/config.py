"""Defaults, which are read when they are used: assign to them at any time.

Attributes
----------
default_chunk_size : int
    How many calls run at once if `chunk_size` is not given: the number of CPUs that this process may use. On a cluster
    that the package did not start: the number of its CPUs, unless another number is assigned here.
usable_cpus : int
    How many CPUs this process may use: the least of its affinity, the CPU quota of its container or of systemd, and
    ``LOKY_MAX_CPU_COUNT``. Ray gets as many when the package starts it.
ray_config : dict
    Keyword arguments for ``ray.init``, when the package is the one to start Ray. By default
    Ray starts without its dashboard, and prints nothing.
forward_logging : bool
    Whether executors forward the log records of calls if `forward_logging` is not given, as in `chunk` and `Chunker`.
    Default: False.
progress_bar : bool
    Whether `chunk` and `Chunker` show a progress bar. Default: True.

Examples
--------
>>> from thread_chunks import config
>>> config.default_chunk_size = 4
>>> config.ray_config["num_cpus"] = 8
>>> config.progress_bar = False
"""

from __future__ import annotations

from typing import Any

from ._system import cpus as _cpus

__all__ = ["default_chunk_size", "forward_logging", "progress_bar", "ray_config"]


usable_cpus: int = _cpus.usable_cpus()
default_chunk_size: int = usable_cpus
ray_config: dict[str, Any] = {
    "include_dashboard": False,
    "log_to_driver": False,
    "logging_level": "error",
}
forward_logging: bool = False
progress_bar: bool = True
