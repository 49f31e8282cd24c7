"""What a function is called for people, whatever lambda is around it."""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

from .members import has_users_code, name_of

_LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")


def title_of(fn: Any, name: str) -> str:
    """Return the name of the function that a lambda calls: the first one of the user's, or the first; else `name`."""
    while type(fn) is partial:
        fn = fn.func
    if type(fn) is not FunctionType or fn.__name__ != "<lambda>":
        return name
    called = [found for found in _loaded(fn, fn.__code__) if _has_title(found)]
    first: Callable[..., Any] | None = next(filter(has_users_code, called), called[0] if called else None)
    return name if first is None else name_of(first)


def _has_title(obj: Any) -> bool:
    return isinstance(obj, (FunctionType, MethodType, type)) and "<lambda>" not in obj.__qualname__


def _loaded(fn: FunctionType, code: CodeType) -> Iterator[Any]:
    """Yield what a function loads by name, attributes of modules and objects included, without running anything."""
    captured = dict(zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True))
    found: Any = None
    for instruction in dis.get_instructions(code):
        if instruction.opname in _LOADS:
            yield found
            found = _value(instruction.argval, captured, fn.__globals__)
        elif instruction.opname in _ATTRIBUTES and found is not None:
            # Not by `getattr`, which may run code of the user's.
            found = getattr(found, "__dict__", {}).get(instruction.argval)
    yield found
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _loaded(fn, constant)


def _value(name: str, captured: dict[str, Any], names: dict[str, Any]) -> Any:
    if name not in captured:
        return names.get(name)
    try:
        return captured[name].cell_contents
    except ValueError:  # not assigned yet
        return None
