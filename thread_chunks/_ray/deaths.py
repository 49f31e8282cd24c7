"""What is said of a worker that died, by what Ray says of it."""

from __future__ import annotations

import re

from ray.exceptions import OutOfMemoryError

from .._system.exits import exit_name
from ..errors import WorkerLost, WorkerOutOfMemory

_NOT_INSTALLED = (
    "thread_chunks is not installed on its node: install it there, for the Python that Ray was started with; or ship "
    "it, by config.ray_config['runtime_env'] = {'py_modules': [thread_chunks], 'pip': ['joblib', 'psutil', 'tqdm']}, "
    "before Ray is up"
)

# So much is shown of what Ray says of a death, which may be pages (characters).
_LONGEST_TEXT = 300

_OPENING = "The actor died unexpectedly before finishing this task"


# What Ray says of a worker of which it knows nothing but that it is gone.
_UNINFORMED = "Worker unexpectedly exits with a connection error code 2. End of file."


def lost(place: str, error: BaseException, *, was_up: bool, by_kernel: bool, status: int | None) -> WorkerLost:
    """Return the error that says how a worker at `place` died.

    Parameters
    ----------
    place : str
        Its process and host.
    error : BaseException
        What Ray says.
    was_up : bool
        Whether it was up.
    by_kernel : bool
        Whether the kernel killed it for memory.
    status : int or None
        How its process ended, as `os.waitstatus_to_exitcode` has it, if that is known.
    """
    when = "" if was_up else " before it was up"
    found: WorkerLost
    if isinstance(error, OutOfMemoryError):
        said = str(error).partition("\n")[0][:_LONGEST_TEXT]
        found = WorkerOutOfMemory(f"a worker ({place}) was killed by Ray for memory{when}: {said}")
    elif by_kernel:
        found = WorkerOutOfMemory(f"a worker ({place}) was killed by the kernel for memory{when}")
    else:
        found = WorkerLost(f"a worker ({place}) died{_how(_words_of(error), status)}{when}")
    found.__cause__ = error
    return found


def _how(said: str, status: int | None) -> str:
    """Return how a worker died: its signal or exit status if that is known, and what Ray adds to it."""
    if by_signal := re.search(r"receives an? (SIG[A-Z0-9]+)", said):  # which Ray makes an exit with status 1
        return f" of {by_signal[1]}"
    is_informed = bool(said) and not said.startswith(_UNINFORMED)
    if status is None:
        return f" ({said})" if is_informed else ", and Ray does not know how"
    return f" {exit_name(status)}" + (f" ({said})" if is_informed else "")


def _words_of(error: BaseException) -> str:
    """Return what Ray says of a death, on one line, without what it says of each."""
    text = str(error)
    if "No module named 'thread_chunks'" in text:
        return _NOT_INSTALLED
    lines = [line.strip() for line in text.splitlines() if not line.startswith(("\t", _OPENING))]
    said = " ".join(line for line in lines if line).rpartition("Worker exit detail: ")[2]
    return said.partition(" Some common causes include")[0][:_LONGEST_TEXT]
