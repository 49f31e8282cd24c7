"""Locks, values and queues of `multiprocessing` in globals: all workers share the driver's, as forked children do.

A worker is no child of the driver. So a thread of the driver does with them what the workers ask for.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

Reduced = tuple[Any, ...]

_MODULES = ("multiprocessing.synchronize", "multiprocessing.sharedctypes", "multiprocessing.queues")


def is_shared(obj: Any) -> bool:
    """Return whether forked children share an object with their parent."""
    return type(obj).__module__ in _MODULES


def reduce_shared(obj: Any) -> Reduced:
    """Return the reduction of such an object."""
    return Shared, (_address(), _desk.number_of(obj))


class _Desk:
    """What workers ask for; in the driver."""

    def __init__(self) -> None:
        self._objects: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self._count = itertools.count()

    def number_of(self, obj: Any) -> int:
        """Return the number under which workers know an object; it lasts as long as the program."""
        if id(obj) not in self._numbers:
            number = self._numbers[id(obj)] = next(self._count)
            self._objects[number] = obj
        return self._numbers[id(obj)]

    def use(self, number: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method of an object."""
        return getattr(self._objects[number], name)(*args, **kwargs)


_desk = _Desk()


@lru_cache(maxsize=1)
def _manager_class() -> Any:
    from multiprocessing.managers import BaseManager  # only here: most programs share nothing

    class Manager(BaseManager):
        pass

    Manager.register("desk", callable=lambda: _desk, exposed=("use",))
    return Manager


@lru_cache(maxsize=1)
def _address() -> Any:
    server: Any = _manager_class()().get_server()
    threading.Thread(target=server.serve_forever, name="thread_chunks-shared", daemon=True).start()
    return server.address


@lru_cache(maxsize=16)
def _connected(address: Any) -> Any:
    manager: Any = _manager_class()(address)
    manager.connect()
    return manager.desk()


class Shared:
    """The worker's side: asks the driver for all that is done with one of its objects."""

    def __init__(self, address: Any, number: int) -> None:
        self.__dict__.update(_address=address, _number=number)

    def _use(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        return _connected(self._address).use(self._number, name, args, kwargs)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(self._use, name)

    def __reduce__(self) -> Reduced:
        return Shared, (self._address, self._number)

    def __enter__(self) -> Any:
        return self._use("__enter__")

    def __exit__(self, *_: object) -> Any:
        return self._use("__exit__", None, None, None)

    def __len__(self) -> int:
        length: int = self._use("__len__")
        return length

    def __getitem__(self, index: Any) -> Any:
        return self._use("__getitem__", index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._use("__setitem__", index, value)

    @property
    def value(self) -> Any:
        """The value of a `multiprocessing.Value`."""
        return self._use("__getattribute__", "value")

    @value.setter
    def value(self, value: Any) -> None:
        self._use("__setattr__", "value", value)

    def get_lock(self) -> Shared:
        """Return what a `multiprocessing.Value` or `Array` is locked by: itself."""
        return self
