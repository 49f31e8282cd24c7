"""What becomes of the objects of `__main__`, and of modules like it, in one pickle."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from importlib import import_module
from types import CodeType, FunctionType, ModuleType
from typing import Any

from .classes import find, mark_of, reduce_class
from .copies import reduce_copy
from .files import is_memory_map, reduce_memory_map
from .functions import Cells, Reduced, global_names, names_in, reduce_code, reduce_function, uses_any_name
from .homes import home_of, is_home, look_up, names_of

Key = tuple[str, str]  # of a global: its module, its name

_LRU_CACHE = type(functools.lru_cache(abs))


class Reducer:
    """Reduce what belongs to the modules that travel by value, for one pickle.

    What its module has under its name travels by that name; whoever sends the pickle sees to it that the name is there,
    by `uses`. All else of these modules travels by value.

    Parameters
    ----------
    where : str, optional
        Which global is pickled, for errors. Then what cannot be pickled gets a natural copy, or a stand-in.
    bare_loggers : bool, optional
        Whether loggers travel without their handlers, because log records come back to these. Default: False.
    by_file : bool, optional
        Whether a memory map of a file travels by the file's path, else with its contents. Default: True.

    Attributes
    ----------
    uses : set of Key
        The globals that are needed on arrival.
    objects : set of Key
        The globals that stand for a part of what is pickled, as `global_of` said.
    any_name : bool
        Whether a function may use any global.
    """

    def __init__(self, where: str = "", *, bare_loggers: bool = False, by_file: bool = True) -> None:
        self.where = where
        self._bare_loggers = bare_loggers
        self._by_file = by_file
        self.uses: set[Key] = set()
        self.objects: set[Key] = set()
        self.any_name = False
        self._cells = Cells()

    def is_apart(self, key: Key) -> bool:
        """Return whether a global is not in this pickle; else it is pickled here, by value."""
        return True

    def place_of(self, obj: Any) -> str:
        """Return where an object is, for errors."""
        return self.where

    def renews(self, cls: type) -> str | None:
        """Return the name of a class whose contents are to be taken over where the class is known."""
        return None

    def global_of(self, obj: Any) -> Key | None:
        """Return the global that an object is, if that is there on arrival."""
        return None

    def reduce(self, obj: Any, by_value: Callable[[Any], Any], plainly: Callable[[Any], Any]) -> Any:
        """Return what `pickle.Pickler.reducer_override` returns.

        Parameters
        ----------
        by_value, plainly : callable
            Return cloudpickle's reduction, and pickle's own for what is not a function or class.
        """
        kind = type(obj)
        if kind is CodeType:
            return reduce_code(obj)
        if kind is FunctionType:
            return self._by_name(obj) or self._function(obj, by_value)
        if issubclass(kind, type):
            if is_home(obj.__module__):
                return self._by_name(obj) or self._class(obj, by_value)
        elif kind is _LRU_CACHE:
            if is_home(getattr(obj, "__module__", None)):
                return self._by_name(obj) or (_lru_cache, (obj.__wrapped__, obj.cache_parameters()))
        elif issubclass(kind, ModuleType):
            if is_home(obj.__name__):
                self.uses.update((obj.__name__, name) for name in vars(obj) if not name.startswith("__"))
                return import_module, (obj.__name__,)
        elif self._bare_loggers and issubclass(kind, logging.Logger):
            return by_value(obj)
        elif self._by_file and is_memory_map(obj) and (reduced := reduce_memory_map(obj)) is not NotImplemented:
            return reduced
        elif self.where or kind is functools.cached_property:
            return reduce_copy(obj, self.place_of(obj), plainly)
        return by_value(obj)

    def _by_name(self, obj: Any) -> Reduced | None:
        module = obj.__module__
        if not is_home(module) or look_up(names_of(module), obj.__qualname__) is not obj:
            return None
        key = key_of(obj)
        if not self.is_apart(key):
            return None
        self.uses.add(key)
        return named, (module, obj.__qualname__, mark_of(obj) if isinstance(obj, type) else None)

    def _function(self, function: FunctionType, by_value: Callable[[Any], Any]) -> Any:
        module = home_of(function)
        if module is None:
            return by_value(function)
        self.uses.update((module, name) for name in global_names(function.__code__))
        self._read(module, function)
        self.any_name = self.any_name or uses_any_name(function.__code__)
        return reduce_function(function, module, self._cells)

    def _class(self, cls: type, by_value: Callable[[Any], Any]) -> Any:
        self._read(cls.__module__, cls)
        return reduce_class(cls, by_value(cls), renewed=self.renews(cls))

    def _read(self, module: str, obj: Any) -> None:
        """Note what annotations name that are text."""
        names, annotations = names_of(module), vars(obj).get("__annotations__") if isinstance(obj, type) else None
        if type(obj) is FunctionType:
            annotations = obj.__annotations__
        if annotations:
            self.uses.update((module, name) for name in names_in(annotations) if name in names)


def key_of(obj: Any) -> Key:
    """Return the global by which a function or class travels."""
    return obj.__module__, obj.__qualname__.partition(".")[0]


def named(module: str, qualname: str, mark: bytes | None = None) -> Any:
    """Return what a module has under a name here."""
    if mark is not None and (cls := find(mark)) is not None:
        return cls
    # By `getattr`, as what a worker has not unpacked yet comes at the first use.
    return functools.reduce(getattr, qualname.split("."), import_module(module))


def _lru_cache(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)
