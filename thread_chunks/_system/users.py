"""Who runs this process."""

from __future__ import annotations

import os


def user_id() -> int | None:
    """Return the number of the user; None where a system has no such numbers, as Windows.

    Without it, workers do not print where the driver prints, and Ray's directory of last resort is everybody's.
    """
    return os.getuid() if hasattr(os, "getuid") else None
