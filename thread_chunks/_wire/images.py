"""The driver's `__main__`, and modules like it, in a worker.

``sys.modules["__main__"]`` becomes a module of the driver's name, file and names. What functions use is there before
they run; the rest is unpacked when it is looked up. Only the thread that runs calls changes it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import invalidate_caches, reload
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any
from uuid import uuid4

from ..errors import UnpicklingFailed
from . import classes
from .copies import Unsent
from .homes import MISSING, add_home, names_of
from .pickling import Packed, describe, resolved, unpack_stream
from .reducing import Key

_log = logging.getLogger("thread_chunks")

# Tells a worker's process from the driver's, which may be one, in tests.
PROCESS = uuid4().bytes


@dataclass(slots=True)
class Update:
    """What a worker lacks of the driver's globals.

    `modules` has name and attributes of the modules that it is to have. A bundle is what `Ledger` stored, and which of
    its globals are taken from it. `needed` are those that the next calls use, `gone` those that there are no more.
    `reloads` are modules that the driver has loaded again.
    """

    process: bytes
    modules: list[tuple[str, dict[str, Any]]]
    bundles: list[tuple[Any, list[Key]]]
    needed: list[Key]
    gone: list[Key]
    reloads: list[str]


@dataclass(slots=True)
class Shipment:
    """A function, if the worker does not hold it, and what has to be there for it."""

    function: Any = None
    update: Update | None = None


_later: dict[Key, Packed] = {}  # what is here and was not unpacked yet
_before: list[ModuleType] = []  # Ray's own `__main__`, which goes on


class _Image(ModuleType):
    """A module of the driver."""

    def __getattr__(self, name: str) -> Any:
        found = _fetch((self.__name__, name))
        if found is MISSING:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return found

    def __dir__(self) -> list[str]:
        return sorted({*vars(self), *(name for module, name in list(_later) if module == self.__name__)})


def open_shipment(shipment: Shipment | Packed | None) -> Packed | None:
    """Bring the globals up to date, and return the function."""
    if not isinstance(shipment, Shipment):
        return shipment
    if shipment.update is not None and shipment.update.process != PROCESS:
        _apply(shipment.update)
    function: Packed | None = resolved(shipment.function)
    return function


def _apply(update: Update) -> None:
    for name, attributes in update.modules:
        _prepare(name, attributes)
    for name in update.reloads:
        if name in sys.modules:
            _load_again(name)
    for key in update.gone:
        _drop(key)
    for shipped, keys in update.bundles:
        packed = resolved(shipped)
        for key in keys:
            _drop(key)
            _later[key] = packed
    for key in update.needed:
        _fetch(key)


def _load_again(name: str) -> None:
    invalidate_caches()
    try:
        reload(sys.modules[name])
    except Exception as error:
        _log.warning(
            "the driver has reloaded the module %s, and worker %d cannot. Calls there run the old code: %s",
            name,
            os.getpid(),
            describe(error),
        )


def _prepare(name: str, attributes: dict[str, Any]) -> None:
    module = sys.modules.get(name)
    if not isinstance(module, _Image):
        if module is not None:
            _before.append(module)
        module = _Image(name)
        vars(module)["__builtins__"] = __builtins__
        add_home(module)
    for attribute, value in attributes.items():
        if attribute == "__spec__" and value is not None:
            value = ModuleSpec(value[0], None, origin=value[1])
        vars(module)[attribute] = value
        if value is None and attribute in ("__file__", "__path__"):
            del vars(module)[attribute]


def _drop(key: Key) -> None:
    _later.pop(key, None)
    names_of(key[0]).pop(key[1], None)


def _fetch(key: Key) -> Any:
    """Return a global, which is unpacked with those that it shares something with."""
    packed = _later.get(key)
    if packed is None:
        return names_of(key[0]).get(key[1], MISSING)
    together = [other for other, where in _later.items() if where is packed]
    for each in together:
        del _later[each]
    before = set(classes.wanted)
    classes.wanted.update(map(":".join, together))
    try:
        _take(packed, together)
    except BaseException as error:
        _fail(together, error)
    finally:
        classes.wanted.intersection_update(before)
    return names_of(key[0]).get(key[1], MISSING)


def _take(packed: Packed, keys: Iterable[Key]) -> None:
    for module, name, value in unpack_stream(packed):
        if (module, name) in keys:
            names_of(module).setdefault(name, value)  # a call may have bound it meanwhile


def _fail(keys: Iterable[Key], error: BaseException) -> None:
    """Put something that fails in the place of globals that cannot be rebuilt here."""
    for module, name in keys:
        text = f"the global {name!r} of {module} cannot be unpickled: {describe(error)}"
        names_of(module).setdefault(name, Unsent(text, UnpicklingFailed))
