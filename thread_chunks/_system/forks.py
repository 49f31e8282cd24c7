"""What is to be done when this process forks."""

from __future__ import annotations

import os
from collections.abc import Callable


def in_forked_children(action: Callable[[], object]) -> None:
    """Let each child that this process forks do something first.

    A system without it, as Windows, does not fork, and nothing is lost.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=action)
