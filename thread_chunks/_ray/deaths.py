"""What is said of a worker that died, by what Ray says of it."""

from __future__ import annotations

from ray.exceptions import OutOfMemoryError

from .._calls.blocks import Block
from ..errors import WorkerLost, WorkerOutOfMemory

_NOT_INSTALLED = (
    "thread_chunks is not installed on its node: install it there, for the Python that Ray was started with; or ship "
    "it, by config.ray_config['runtime_env'] = {'py_modules': [thread_chunks], 'pip': ['joblib', 'psutil', 'tqdm']}, "
    "before Ray is up"
)

# So much is shown of what Ray says of a lack of memory, which is pages (characters).
_LONGEST_TEXT = 300


def lost(place: str, error: BaseException, block: Block | None, *, by_kernel: bool) -> WorkerLost:
    """Return the error of the calls that a worker at `place` ran, of `block`; None: it was not up yet."""
    if block is None:
        doing = "before it was up"
    else:
        count, name = len(block.calls), block.function.name
        calls = f"call {block.first} of {name}" if count == 1 else f"{count} calls of {name}, as far as they had begun"
        doing = f"while it ran {calls}"
    found: WorkerLost
    if isinstance(error, OutOfMemoryError):
        said = str(error).partition("\n")[0][:_LONGEST_TEXT]
        found = WorkerOutOfMemory(f"a worker ({place}) was killed by Ray for want of memory {doing}. {said}")
    elif by_kernel:
        found = WorkerOutOfMemory(f"a worker ({place}) was killed by the kernel for want of memory {doing}.")
    else:
        reason = _NOT_INSTALLED if "No module named 'thread_chunks'" in str(error) else error
        found = WorkerLost(f"a worker ({place}) died {doing}. {reason}")
    found.__cause__ = error
    return found
