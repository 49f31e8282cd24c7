"""Exceptions that survive pickling, whatever their ``__init__`` takes.

Pickle rebuilds an exception by calling its class with ``args``. That fails for a class whose
``__init__`` takes something else than it passes on, and distorts ``args`` for one that formats
its message. Here the parts that CPython itself keeps are restored directly, and no ``__init__``
or ``__new__`` written in Python is called.
"""

from __future__ import annotations

import copyreg
from types import BuiltinFunctionType, WrapperDescriptorType
from typing import Any


def reduce_exception(error: BaseException) -> tuple[Any, ...] | None:
    """Return what `pickle.Pickler.reducer_override` returns; None if `error` has a way of its own."""
    cls = type(error)
    owner = next(base for base in cls.__mro__ if "__reduce__" in vars(base))
    own = cls.__reduce_ex__ is not object.__reduce_ex__ or cls in copyreg.dispatch_table
    if own or owner.__module__ != "builtins":
        return None
    reduced = error.__reduce__()
    assert isinstance(reduced, tuple)  # as all exceptions that are written in C do it
    state = reduced[2] if len(reduced) > 2 else None
    return _rebuild, (cls, reduced[1]), state, None, None, _restore


def _rebuild(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    error: BaseException = _inherited(cls, "__new__", BuiltinFunctionType)(cls, *args)
    _inherited(cls, "__init__", WrapperDescriptorType)(error, *args)
    return error


def _restore(error: BaseException, state: Any) -> None:
    if state:
        error.__setstate__(state)


def _inherited(cls: type, name: str, kind: type) -> Any:
    """Return the method `name` of the nearest base that is written in C."""
    return next(vars(base)[name] for base in cls.__mro__ if isinstance(vars(base).get(name), kind))
