"""Which line of the user's code it is that calls the package."""

from __future__ import annotations

import sys

_PACKAGE = __name__.partition(".")[0]


def users_level() -> int:
    """Return the `stacklevel` with which `warnings.warn`, called by the caller, names the user's line."""
    frame, level = sys._getframe(1), 1  # noqa: SLF001 (documented)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        frame, level = frame.f_back, level + 1
    return level
