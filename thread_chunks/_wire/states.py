"""What a global was when it was sent, to tell whether it is that still.

What cannot change is compared by identity, functions and classes part by part, all else by its pickle, or the digest of
that. Apart from constants, a state refers to nothing that would not last without it.
"""

from __future__ import annotations

import functools
import logging
import operator
import weakref
from collections.abc import Iterable, Iterator
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Protocol

from .functions import contents, global_names
from .homes import MISSING, home_of, is_by_name, is_home
from .pickling import fingerprint
from .reducing import Reducer

_CONSTANTS = frozenset(
    {int, float, complex, bool, str, bytes, type(None), type(...), range, ModuleType, BuiltinFunctionType, CodeType}
    | {WrapperDescriptorType, type(MISSING)}
)
_OF_CLASSES = (MemberDescriptorType, GetSetDescriptorType)
_LRU_CACHE = type(functools.lru_cache(abs))

# What Python or a library changes in a class that the user has not changed.
_NOT_COMPARED = frozenset(
    {"__dict__", "__weakref__", "_abc_impl", "_value2member_map_", "__annotations_cache__"}
    | {"__dataclass_fields__", "__dataclass_params__", "__attrs_attrs__", "__attrs_props__"}
)


class State(Protocol):
    """What something was."""

    def same(self, value: Any) -> bool:
        """Return whether a value is that still."""


class Constant:
    """Something that cannot change."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def same(self, value: Any) -> bool:
        """Return whether it is the same object."""
        return value is self.value


class _OfKind:
    __slots__ = ("kind",)

    def __init__(self, value: Any) -> None:
        self.kind = type(value)

    def same(self, value: Any) -> bool:
        return type(value) is self.kind


class _Digest:
    __slots__ = ("digest", "identity")

    def __init__(self, value: Any) -> None:
        self.digest, self.identity = _fingerprint(value), id(value)

    def same(self, value: Any) -> bool:
        # An equal object in its place counts as a change: others may still refer to the one before.
        same: bool = id(value) == self.identity and _fingerprint(value) == self.digest
        return same


class _Function:
    """A function of a module that travels by value, if there is nothing in it that could change in place."""

    __slots__ = ("_code", "_defaults", "_ref")

    def __init__(self, value: FunctionType) -> None:
        self._ref: Any = weakref.ref(value)
        self._code, self._defaults = value.__code__, value.__defaults__

    @classmethod
    def suits(cls, value: FunctionType) -> bool:
        if value.__closure__ or value.__kwdefaults__ or value.__dict__ or home_of(value) is None:
            return False
        return all(map(is_constant, value.__defaults__ or ()))

    def same(self, value: Any) -> bool:
        return (
            self._ref() is value
            and value.__code__ is self._code
            and value.__defaults__ is self._defaults
            and not (value.__kwdefaults__ or value.__dict__)
        )


class _Class:
    """A class of a module that travels by value."""

    __slots__ = ("_constants", "_names", "_of_constants", "_others", "_ref")

    def __init__(self, value: type, above: frozenset[int]) -> None:
        own = vars(value)
        above |= {id(value)}
        self._ref, self._names = weakref.ref(value), tuple(own)
        compared = [(name, part) for name, part in own.items() if name not in _NOT_COMPARED]
        self._of_constants = [name for name, part in compared if is_constant(part)]
        self._constants = [own[name] for name in self._of_constants]
        self._others = [
            (name, _OfKind(part) if id(part) in above else state_of(part, above))
            for name, part in compared
            if not is_constant(part)
        ]

    def same(self, value: Any) -> bool:
        if self._ref() is not value:
            return False
        own = vars(value)
        return (
            (tuple(own) == self._names or _compared(own) == _compared(self._names))
            and all(map(operator.is_, map(own.get, self._of_constants), self._constants))
            and all(state.same(own.get(name)) for name, state in self._others)
        )


def _compared(names: Iterable[str]) -> list[str]:
    return [name for name in names if name not in _NOT_COMPARED]


class _Parts:
    """An object that is compared by identity, and by what it consists of."""

    __slots__ = ("_parts", "_ref", "_states")

    def __init__(self, value: Any, above: frozenset[int]) -> None:
        self._ref = weakref.ref(value)
        self._parts = _parts_of(value)
        above |= {id(value)}
        self._states = [_OfKind(part) if id(part) in above else state_of(part, above) for part in self._parts(value)]

    def same(self, value: Any) -> bool:
        if self._ref() is not value:
            return False
        parts = self._parts(value)
        return len(parts) == len(self._states) and all(map(_is_same, self._states, parts))


class _Settings:
    """A logger, of which the settings count, and those of the loggers above it."""

    __slots__ = ("_settings",)

    def __init__(self, value: logging.Logger) -> None:
        self._settings = list(_settings(value))

    def same(self, value: Any) -> bool:
        return issubclass(type(value), logging.Logger) and list(_settings(value)) == self._settings


class _Wrapping:
    """A `property`, `classmethod` or the like, which is made anew for nothing: what it wraps counts."""

    __slots__ = ("_kind", "_states")

    def __init__(self, value: Any, above: frozenset[int]) -> None:
        self._kind = type(value)
        self._states = [state_of(part, above) for part in _wrapped(value)]

    def same(self, value: Any) -> bool:
        return type(value) is self._kind and all(map(_is_same, self._states, _wrapped(value)))


def _is_same(state: State, value: Any) -> bool:
    return state.same(value)


def is_constant(value: Any) -> bool:
    """Return whether it cannot change."""
    kind = type(value)
    return kind in _CONSTANTS or (kind is tuple and all(type(item) in _CONSTANTS for item in value))


def is_value(value: Any) -> bool:
    """Return whether it makes no difference if there is a second one, as of a dtype, a date or a logger."""
    kind = type(value)
    if is_constant(value) or issubclass(kind, logging.Logger):
        return True
    by_hash: Any = kind.__hash__
    return kind is not tuple and by_hash not in (None, object.__hash__) and not is_home(kind.__module__)


def state_of(value: Any, above: frozenset[int] = frozenset()) -> State:
    """Return what a value is now; `above` are the identities of those that it is a part of."""
    kind = type(value)
    if is_constant(value):
        return Constant(value)
    if kind is FunctionType:
        if _Function.suits(value):
            return _Function(value)
        return Constant(value) if _is_elsewhere(value) else _Parts(value, above)
    if issubclass(kind, type):
        return _Class(value, above) if is_home(value.__module__) else Constant(value)
    if kind is _LRU_CACHE:
        return _Parts(value, above)
    if kind in (classmethod, staticmethod, property):
        return _Wrapping(value, above)
    if kind in (logging.Logger, logging.RootLogger):
        return _Settings(value)
    if kind in _OF_CLASSES:
        return _OfKind(value)
    return _Digest(value)


def _is_elsewhere(function: FunctionType) -> bool:
    """Return whether a function travels by the name of a module that a worker imports."""
    return not is_home(function.__module__) and is_by_name(function)


def _parts_of(value: Any) -> Any:
    if type(value) is FunctionType:
        return parts_of if home_of(value) is not None else _parts_of_stranger
    return _parts_of_cache


def parts_of(function: FunctionType) -> list[Any]:
    """Return what a function consists of."""
    parts: list[Any] = [function.__code__]
    if function.__defaults__:
        parts += function.__defaults__
    if function.__kwdefaults__:
        parts += _flat(function.__kwdefaults__.items())
    if function.__dict__:
        parts += _flat(function.__dict__.items())
    for cell in function.__closure__ or ():
        parts += contents(cell)
    return parts


def _parts_of_stranger(function: FunctionType) -> list[Any]:
    """Return the parts of a function that travels by value, with copies of the globals that it uses."""
    names = function.__globals__
    return parts_of(function) + [names.get(name, MISSING) for name in sorted(global_names(function.__code__))]


def _parts_of_cache(cached: Any) -> list[Any]:
    return [cached.__wrapped__]


def _settings(logger: logging.Logger) -> Iterator[Any]:
    each: logging.Logger | None = logger
    while each is not None:
        handlers = [(id(handler), handler.level) for handler in each.handlers]
        yield id(each), each.level, each.propagate, handlers, list(map(id, each.filters))
        each = each.parent


def _flat(items: Iterable[tuple[str, Any]]) -> list[Any]:
    return [part for item in list(items) for part in item]


def _wrapped(value: Any) -> tuple[Any, ...]:
    return (value.fget, value.fset, value.fdel) if type(value) is property else (value.__func__,)


def _fingerprint(value: Any) -> Any:
    try:
        return fingerprint(value, Reducer("a global"))
    except Exception as error:  # it cannot be pickled at all, and what stands for it is the error
        return type(error), str(error)
