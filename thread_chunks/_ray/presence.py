"""What must be known of Ray before anything here needs it. It is not imported, unless the user has done so.

Attributes
----------
was_forked : bool
    Whether this process was forked while Ray was up, which cannot be used here then.
"""

from __future__ import annotations

import atexit
import sys

from .._system.forks import in_forked_children
from .._wire.pickling import References, find_references_by

was_forked = False


def _references() -> References | None:
    if "ray" not in sys.modules:  # then there are no references
        return None
    from .references import REFERENCES

    return REFERENCES


def _after_fork() -> None:
    global was_forked
    ray = sys.modules.get("ray")
    if ray is not None and hasattr(ray, "is_initialized"):  # else another thread was importing it
        was_forked = was_forked or ray.is_initialized()
        # Ray's exit hook waits for ever in a forked child, which has none of its threads.
        atexit.unregister(ray.shutdown)


find_references_by(_references)
in_forked_children(_after_fork)
