"""What cannot be pickled, and is in a global all the same: natural copies, and stand-ins that fail when used."""

from __future__ import annotations

import contextvars
import functools
import inspect
import io
import logging
import os
import queue
import sqlite3
import sys
import threading
import weakref
from collections.abc import Callable
from types import CellType, FunctionType, GeneratorType
from typing import Any, NoReturn

from ..errors import PicklingFailed
from .shared import is_shared, reduce_shared

Reduced = tuple[Any, ...]

_LOCK, _RLOCK = type(threading.Lock()), type(threading.RLock())
_STREAMS = ("stdin", "stdout", "stderr")

# What a call may do with an object, beside taking its attributes.
_OPERATIONS = """
    call enter exit aenter aexit iter next aiter anext await len bool int float index getitem setitem delitem contains
    add sub mul truediv floordiv mod and or lt le gt ge repr str format fspath reduce_ex
"""


def reduce_copy(obj: Any, where: str, reduce: Callable[[Any], Any]) -> Any:
    """Return the reduction of what `obj` becomes in a worker; NotImplemented if it can be pickled as it is.

    Parameters
    ----------
    where : str
        Which global it is in, for the error.
    reduce : callable
        Asks for the reduction that an object has itself, as pickle would.
    """
    copy = _COPIES.get(type(obj))
    try:
        reduced = NotImplemented if copy is None else copy(obj)
        if reduced is NotImplemented and is_shared(obj):
            reduced = reduce_shared(obj)
        return reduce(obj) if reduced is NotImplemented else reduced
    except Exception as error:
        kind = f"{type(obj).__module__}.{type(obj).__qualname__}".removeprefix("builtins.")
        return Unsent, (f"{where} ({kind}) cannot be sent: open it in an initializer. {error}", PicklingFailed)


class Unsent:
    """Stand for an object that could not be sent, and raise when it is used. A call may put another in its place."""

    def __init__(self, text: str, kind: type[Exception]) -> None:
        object.__setattr__(self, "_error", (kind, text))

    def __getattr__(self, name: str) -> NoReturn:
        kind, text = object.__getattribute__(self, "_error")
        raise kind(text)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        self.__getattr__(name)


def _refuse(self: Unsent, *args: Any, **kwargs: Any) -> NoReturn:
    self.__getattr__("")


for _operation in _OPERATIONS.split():
    setattr(Unsent, f"__{_operation}__", _refuse)


def _lock(lock: Any) -> Reduced:
    return (threading.Lock if type(lock) is _LOCK else threading.RLock), ()


def _local(local: threading.local) -> Reduced:
    return threading.local, (), dict(vars(local)), None, None, _update


def _update(obj: Any, attributes: dict[str, Any]) -> None:
    vars(obj).update(attributes)


def _variable(variable: contextvars.ContextVar[Any]) -> Reduced:
    try:
        return _make_variable, (variable.name, variable.get())
    except LookupError:
        return contextvars.ContextVar, (variable.name,)


def _make_variable(name: str, value: Any) -> contextvars.ContextVar[Any]:
    return contextvars.ContextVar(name, default=value)


def _weak(weak: Any) -> Reduced:
    return type(weak), (), None, None, iter(list(weak.items()))


def _weak_set(weak: Any) -> Reduced:
    return weakref.WeakSet, (list(weak),)


def _reference(reference: weakref.ref[Any]) -> Reduced:
    obj = reference()
    return (_gone, ()) if obj is None else (weakref.ref, (obj,))


def _method(reference: weakref.WeakMethod[Any]) -> Reduced:
    method = reference()
    return (_gone, ()) if method is None else (weakref.WeakMethod, (method,))


def _gone() -> Callable[[], None]:
    return weakref.ref(type("_Gone", (), {})())


def _simple_queue(items: Any) -> Any:
    return (queue.SimpleQueue, ()) if items.empty() else NotImplemented


def _memory(view: memoryview) -> Reduced:
    return memoryview, (view.tobytes() if view.readonly else bytearray(view.tobytes()),)


def _logger(logger: logging.Logger) -> Reduced:
    chain: list[tuple[str | None, int, bool, list[Any], list[Any]]] = []
    each: logging.Logger | None = logger
    while each is not None:
        name = None if each.parent is None else each.name
        chain.append((name, each.level, each.propagate, each.handlers, each.filters))
        each = each.parent
    return _make_logger, (logger.name if logger.parent is not None else None,), chain, None, None, _set_loggers


def _make_logger(name: str | None) -> logging.Logger:
    return logging.getLogger(name)


_set: dict[logging.Logger, list[Any]] = {}  # the handlers and filters that loggers have from the driver


def _set_loggers(_: logging.Logger, chain: list[tuple[str | None, int, bool, list[Any], list[Any]]]) -> None:
    for name, level, propagate, handlers, filters in chain:
        logger = logging.getLogger(name)
        if [*logger.handlers, *logger.filters] == _set.get(logger, []):  # else code in the worker has set it up
            logger.setLevel(level)
            logger.propagate, logger.handlers, logger.filters = propagate, handlers, filters
            _set[logger] = [*handlers, *filters]


def _file(file: Any) -> Any:
    for name in _STREAMS:
        if file in (getattr(sys, name), getattr(sys, f"__{name}__")):
            return getattr, (sys, name)
    if not isinstance(file.name, str) or file.closed:
        raise ValueError("it is not a file that can be opened by its name")
    mode, text = file.mode, isinstance(file, io.TextIOWrapper)
    options = {"encoding": file.encoding, "errors": file.errors} if text else {}
    if os.path.samefile(file.name, os.devnull) or mode.startswith("a"):
        return _open, (os.path.abspath(file.name), mode, options, None)
    if mode not in ("r", "rb"):
        raise ValueError("two processes that write to a file from its beginning destroy what the other wrote")
    return _open, (os.path.abspath(file.name), mode, options, file.tell())


def _open(name: str, mode: str, options: dict[str, Any], position: int | None) -> Any:
    file = open(name, mode, **options)  # noqa: SIM115 (as long as the worker)
    if position is not None:
        file.seek(position)
    return file


def _generator(generator: GeneratorType[Any, Any, Any]) -> Reduced:
    if inspect.getgeneratorstate(generator) != inspect.GEN_CREATED:
        raise ValueError("it has begun")
    code, frame = generator.gi_code, generator.gi_frame
    assert frame is not None  # as it has not begun
    held = frame.f_locals
    cells = tuple(CellType(held[name]) if name in held else CellType() for name in code.co_freevars)
    function = FunctionType(code, frame.f_globals, code.co_name, None, cells)
    if code.co_kwonlyargcount or code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        raise ValueError("it has other than positional arguments")
    return _start, (function, *(held[name] for name in code.co_varnames[: code.co_argcount]))


def _start(function: FunctionType, *args: Any) -> Any:
    return function(*args)


def _database(database: sqlite3.Connection) -> Reduced:
    files = [file for _, _, file in database.execute("pragma database_list")]
    if any(files):
        raise ValueError("SQLite forbids that two processes share a connection")
    return _make_database, (list(database.iterdump()), database.isolation_level)


def _make_database(script: list[str], level: Any) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=level)
    database.executescript("\n".join(script))
    return database


def _cached_property(made: functools.cached_property[Any]) -> Any:
    if sys.version_info >= (3, 12):  # no lock any more
        return NotImplemented
    return _make_cached_property, (made.func, made.attrname)


def _make_cached_property(function: Callable[..., Any], name: str) -> Any:
    made: functools.cached_property[Any] = functools.cached_property(function)
    made.__set_name__(object, name)
    return made


_COPIES: dict[type, Callable[[Any], Any]] = {
    _LOCK: _lock,
    _RLOCK: _lock,
    threading.local: _local,
    contextvars.ContextVar: _variable,
    weakref.WeakKeyDictionary: _weak,
    weakref.WeakValueDictionary: _weak,
    weakref.WeakSet: _weak_set,
    weakref.ref: _reference,
    weakref.WeakMethod: _method,
    queue.SimpleQueue: _simple_queue,
    memoryview: _memory,
    logging.Logger: _logger,
    logging.RootLogger: _logger,
    io.TextIOWrapper: _file,
    io.BufferedReader: _file,
    io.BufferedWriter: _file,
    io.BufferedRandom: _file,
    io.FileIO: _file,
    GeneratorType: _generator,
    sqlite3.Connection: _database,
    functools.cached_property: _cached_property,
}
