"""The defaults. Assign to them at any time: they are read when they are used.

Attributes
----------
default_chunk_size : int
    How many calls run at once where nothing else is said: the CPUs this process may use. On a
    cluster that the package did not start, its CPUs, unless another number is assigned here.
usable_cpus : int
    The CPUs that this process may use: those of its affinity, the CPU quota of its container or of systemd, and
    ``LOKY_MAX_CPU_COUNT``, whichever is least. Ray gets as many when the package starts it.
ray_config : dict
    Keyword arguments for ``ray.init``, when the package is the one to start Ray. By default
    Ray starts without its dashboard, and prints nothing.
forward_logging : bool
    Whether executors forward log records of calls where they are not told, as those of `chunk` and `Chunker`. Default:
    False.
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
