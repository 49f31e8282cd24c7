"""What runs the calls of a block in a worker's process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import Any

from .._wire.pickling import Packed, pack, unpack
from ..errors import UnpicklingFailed
from .block import RunningBlock

# From this duration (s) on, a call's duration and memory are noted. Less, and calls spend their time with it.
LONG = 0.02

# How often a worker looks at its memory, if that is limited (s). Less, and it takes time from the calls: each look
# takes some 15 us and the interpreter lock. More, and the limit is exceeded by more: 20 MB by a call that takes 1 GB/s.
LOOKS = 0.02


def extend_path(paths: list[str]) -> None:
    sys.path.extend(path for path in paths if path not in sys.path)


def call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def load(function: Packed) -> Callable[..., Any]:
    """Return the function; if it cannot be rebuilt, one that says so to each of its calls.

    Its large arrays are shared by all actors of a node, and therefore read-only.
    """
    try:
        loaded: Callable[..., Any] = unpack(function, writable=False)
    except UnpicklingFailed as failure:
        text, cause = str(failure), failure.__cause__

        def fail(*args: Any, **kwargs: Any) -> None:
            raise UnpicklingFailed(text) from cause

        return fail
    return loaded


def load_for_each_call(function: Packed) -> Callable[..., Any]:
    """Return the function, made anew for each call if it may change as it runs, as if it came along."""
    loaded = load(function)
    if isinstance(loaded, (FunctionType, BuiltinFunctionType, type)):
        return loaded
    return lambda *args, **kwargs: unpack(function, writable=False)(*args, **kwargs)


def keeping(function: Callable[..., Any], block: RunningBlock) -> Callable[..., None]:
    """Return `function`, whose value goes aside for Ray to pickle."""

    def call(*args: Any) -> None:
        value = function(*args)
        pack(value)  # for its error: one of Ray's own would come too late
        block.kept = value

    return call


def next_call(function: Callable[..., Any], block: RunningBlock) -> Callable[[], Any]:
    """Return what runs the next call of a block, and does not refer to its arguments afterwards."""
    items, width, pop = block.items, block.width, block.items.pop
    if width == 1:
        return lambda: function(pop())
    if width is None:
        return lambda: function(*pop())

    def run() -> Any:
        args = items[: -width - 1 : -1]
        del items[-width:]
        return function(*args)

    return run


def opening(function: Callable[..., Any], writable: bool) -> Callable[[Packed | None], Any]:
    """Return `function` of a packed call, which is unpacked at the last moment."""

    def call(packed: Packed | None) -> Any:
        if packed is None:  # it could not be sent, and the driver has the error
            return None
        args, kwargs = unpack(packed, writable=writable)
        return function(*args, **kwargs)

    return call
