"""Functions as they arrive in a worker."""

from __future__ import annotations

from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import Any

from .._wire.pickling import Packed, unpack
from ..errors import UnpicklingFailed


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
