"""What is killed and run again, in a module that takes no time to import."""

from __future__ import annotations

import os
import time


def note_and_wait(path: str) -> None:
    """Write process and time, and wait to be killed; return at once the second time."""
    was_there = os.path.exists(path)
    with open(path, "a") as file:
        file.write(f"{os.getpid()} {time.time()}\n")
    if not was_there:
        time.sleep(600)


class BareNoter:
    """An actor as Ray's documentation shows it."""

    def call(self, path: str) -> None:
        """Write, and wait."""
        note_and_wait(path)


def importing_noter() -> type:
    """Return the same as a worker of the package, which each of its processes has to import."""
    from thread_chunks import LabelledActor

    class ImportingNoter(LabelledActor):
        """An actor that Ray alone calls."""

        def call(self, path: str) -> None:
            """Write, and wait."""
            note_and_wait(path)

    return ImportingNoter
