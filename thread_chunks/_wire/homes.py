"""Which modules travel by value: `__main__`, and those that only the driver's process has.

A worker imports all others by name. Not so a module that was loaded from a file which no path finds, as plug-ins
are and test modules with pytest's ``--import-mode=importlib``, or one that was made by hand.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import time
from contextlib import suppress
from importlib.machinery import ModuleSpec
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle

MAIN = "__main__"

# What is below these directories is installed, and a worker finds it as the driver does.
_INSTALLED = tuple({*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()})

# The folders of what is installed elsewhere, as in another environment that a `.pth` file adds.
_FOLDERS = frozenset({"site-packages", "dist-packages"})

# A look at the files takes some time. So many times that long passes until the next one. Less, and a program of many
# modules pays for it with each new function; more, and the log tells of a change later.
_REST = 50

# At most so long passes (s). Less, and a thousand modules on a slow disk cost some percent of the time; more, and the
# log tells of a change later.
_LONGEST_REST = 5.0

MISSING = object()

_by_value = {MAIN}
_seen: dict[str, Any] = {}  # the modules that were looked at, each as it was then
_count = 0
_specs: dict[str, Any] = {}  # of the modules of the user that a worker imports: what each was loaded by
_times: dict[str, float | None] = {}  # when the file of each of them was changed last, as it was loaded
_reloads: list[str] = []  # the names of those that were loaded again, in their order
_not_before = 0.0  # when to look at the files again


def find_homes() -> set[str]:
    """Return the names of the modules that travel by value."""
    global _count
    if len(sys.modules) != _count:
        _count = len(sys.modules)
        for name, module in list(sys.modules.items()):
            if _seen.get(name, MISSING) is not module:
                _seen[name] = module
                if name not in (MAIN, "__mp_main__"):
                    _note(name, module)
    return _by_value


def add_home(module: ModuleType) -> None:
    """Put a module in its place that is rebuilt here from what the driver sends."""
    name = module.__name__
    _seen[name] = sys.modules[name] = module
    if name != MAIN:
        _by_value.add(name)
        cloudpickle.register_pickle_by_value(module)


def _note(name: str, module: Any) -> None:
    if not _can_be_imported(name, module):
        _by_value.add(name)
        cloudpickle.register_pickle_by_value(module)
        return
    if name in _by_value:
        _by_value.remove(name)
        with suppress(ValueError):
            cloudpickle.unregister_pickle_by_value(module)
    spec = getattr(module, "__spec__", None)
    if name in _specs or not isinstance(spec, ModuleSpec) or not spec.has_location:
        return
    if not _is_installed(str(spec.origin)):
        _times[name] = _changed(spec)  # before `_specs`, by which other threads go
        _specs[name] = spec


def reloads() -> list[str]:
    """Return the names of the modules that were loaded again so far, and that a worker can load again, too."""
    find_homes()
    for name, spec in list(_specs.items()):
        now = names_of(name).get("__spec__", spec)
        if now is not spec and now is not None:
            _specs[name] = now
            _times[name] = _changed(now)
            _reloads.append(name)
    return _reloads


def edited() -> list[str]:
    """Return the names of the modules whose files have changed since they were loaded, each change once.

    It does not look if it has done so a moment ago: there may be a thousand files.
    """
    global _not_before
    start = time.monotonic()
    if start < _not_before:
        return []
    reloads()
    names = []
    for name, spec in list(_specs.items()):
        changed = _changed(spec)
        if changed is not None and changed != _times[name]:
            _times[name] = changed
            names.append(name)
    now = time.monotonic()
    _not_before = now + min(_REST * (now - start), _LONGEST_REST)
    return names


def _changed(spec: Any) -> float | None:
    """Return when the file of a module was changed last; None if it has none."""
    with suppress(OSError, TypeError, AttributeError):
        return os.stat(spec.origin).st_mtime
    return None


def is_home(name: Any) -> bool:
    """Return whether a module of this name travels by value."""
    return type(name) is str and name in find_homes()


def names_of(module: str) -> dict[str, Any]:
    """Return the names of a module, as they are now; none if it is not there."""
    found = sys.modules.get(module)
    return {} if found is None else vars(found)


def home_of(function: FunctionType) -> str | None:
    """Return the module that travels by value and that has the globals of a function."""
    homes = find_homes()
    name = function.__globals__.get("__name__")
    for each in (name, function.__module__, MAIN):
        if type(each) is str and each in homes and names_of(each) is function.__globals__:
            return each
    return None


def look_up(names: dict[str, Any], qualname: str) -> Any:
    """Return what stands under a dotted name; `MISSING` if nothing does."""
    first, *rest = qualname.split(".")
    found = names.get(first, MISSING)
    for name in rest:
        found = getattr(found, name, MISSING)
    return found


def is_by_name(fn: Any) -> bool:
    """Return whether a function or class is what its module has under its name."""
    return type(fn.__module__) is str and look_up(names_of(fn.__module__), fn.__qualname__) is fn


def _is_installed(origin: str) -> bool:
    return origin.startswith(_INSTALLED) or not _FOLDERS.isdisjoint(origin.split(os.sep))


def _can_be_imported(name: str, module: Any) -> bool:
    spec = getattr(module, "__spec__", None)
    if type(module) is not ModuleType or module.__name__ != name:
        return True  # some library's own kind, or its other name for a module
    package, _, _ = name.rpartition(".")
    if spec is None:  # made by hand; or by an extension, which makes it in each process
        code = [value for value in vars(module).values() if type(value) is FunctionType]
        return bool(package) or not any(function.__globals__ is vars(module) for function in code)
    if not (isinstance(spec, ModuleSpec) and spec.has_location) or spec.origin is None:
        return True
    if _is_installed(spec.origin):
        return True
    path = getattr(sys.modules.get(package), "__path__", None) if package else None
    if package and (path is None or not _can_be_imported(package, sys.modules[package])):
        return False
    for finder in list(sys.meta_path):
        with suppress(Exception):  # a finder of the user's
            if (found := finder.find_spec(name, path)) is not None:
                return found.origin == spec.origin
    return False
