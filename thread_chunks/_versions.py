"""What a program runs on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from ._version import __version__


def versions() -> dict[str, str]:
    """Return the versions of what matters here, by name."""
    try:
        ray = version("ray")
    except PackageNotFoundError:  # it was put on the path by hand
        ray = "unknown"
    return {
        "thread_chunks": __version__,
        "Ray": ray,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",  # `platform.platform` starts a program
        "host": platform.node(),
    }
