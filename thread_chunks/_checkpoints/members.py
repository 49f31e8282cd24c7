"""What functions, classes and what wraps them are made of, and whose they are."""

from __future__ import annotations

import builtins
import inspect
import sys
from collections.abc import Iterator
from functools import cached_property
from types import CellType, FunctionType
from typing import Any

from .modules import is_users, module_of

# As they are before anybody replaces one. Ray does so with `print`, when it first prints what a worker says.
_BUILTINS = dict(vars(builtins))


def original(obj: Any) -> Any:
    """Return the builtin that an object has replaced since the package was imported; any other object as it is."""
    if type(obj) is not FunctionType:
        return obj
    name = next((name for name, value in vars(builtins).items() if value is obj), "")
    return _BUILTINS.get(name, obj)


def functions_of(member: Any) -> Iterator[FunctionType]:
    """Yield the functions that a member of a class consists of."""
    if isinstance(member, property):
        candidates: tuple[Any, ...] = (member.fget, member.fset, member.fdel)
    elif isinstance(member, cached_property):
        candidates = (member.func,)
    else:  # a static or class method; one that `functools` made of another
        member = getattr(member, "__func__", None) or getattr(member, "func", member)
        candidates = (inspect.unwrap(member) if is_wrapper(member) else member,)
    yield from (function for function in candidates if isinstance(function, FunctionType))


def is_wrapper(value: Any) -> bool:
    """Return whether an object wraps a function, as `functools.wraps` and `functools.lru_cache` make it."""
    try:
        return "__wrapped__" in (getattr(value, "__dict__", None) or ())
    except Exception:  # a stand-in for what is not there at the moment
        return False


def has_users_code(obj: Any) -> bool:
    """Return whether a function, a class or a wrapper has code of the user's."""
    if isinstance(obj, type):
        return is_users(module_of(obj))
    if is_wrapper(obj):
        try:
            return has_users_code(inspect.unwrap(obj))
        except ValueError:  # it wraps itself
            return False
    if not isinstance(obj, FunctionType):
        return False
    captured = (cell.cell_contents for cell in obj.__closure__ or () if _is_filled(cell))
    return is_users(obj.__globals__) or any(
        isinstance(value, FunctionType) and is_users(value.__globals__) for value in captured
    )


def _is_filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 (it raises)
    except ValueError:
        return False
    return True


def has_name(obj: Any) -> bool:
    """Return whether a function or a class is found by its name, as pickle finds it."""
    found: Any = sys.modules.get(obj.__module__)
    for name in getattr(obj, "__qualname__", "<unnamed>").split("."):
        found = getattr(found, name, None)
    return found is obj


def name_of(obj: Any) -> str:
    """Return the name of a function or a class, with its module."""
    return f"{obj.__module__}.{getattr(obj, '__qualname__', type(obj).__qualname__)}"
