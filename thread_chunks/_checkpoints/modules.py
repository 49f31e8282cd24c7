"""Which modules are the user's: not the standard library's, and not those of an installed package."""

from __future__ import annotations

import os
import sys
import sysconfig
from functools import lru_cache
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

_OWN = __name__.partition(".")[0]
_INSTALLED = ("site-packages", "dist-packages")


def is_users(names: dict[str, Any]) -> bool:
    """Return whether these are the globals of a module of the user's. One of an editable installation is."""
    name = str(names.get("__name__"))
    if name == "__main__":
        return True
    places = [file] if (file := names.get("__file__")) else list(names.get("__path__") or ())
    return _is_users(name, *map(str, places))


@lru_cache(None)
def _is_users(name: str, *places: str) -> bool:
    top = name.partition(".")[0]
    if top == _OWN:
        return False
    if not places:  # built in, frozen, or made by a program
        return top not in sys.stdlib_module_names
    return not all(map(_is_installed, places))


def _is_installed(place: str) -> bool:
    path = os.path.realpath(place)
    if any(part in _INSTALLED for part in path.split(os.sep)):
        return True
    libraries = (os.path.realpath(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib"))
    return any(path.startswith(library + os.sep) for library in libraries)


def module_of(cls: type) -> dict[str, Any]:
    """Return the globals of the module of a class, or its name if that is all there is."""
    module = sys.modules.get(cls.__module__)
    return {"__name__": cls.__module__} if module is None else vars(module)


def find_spec(name: str) -> ModuleSpec | None:
    """Find a module without importing anything; return None if it does not exist."""
    path: Any = None
    spec = None
    for length in range(1, name.count(".") + 2):
        prefix = ".".join(name.split(".")[:length])
        known = sys.modules.get(prefix)
        spec = getattr(known, "__spec__", None)
        if spec is None:
            for finder in sys.meta_path:
                if (spec := finder.find_spec(prefix, path)) is not None:
                    break
        if spec is None:
            return None
        path = getattr(known, "__path__", None) or spec.submodule_search_locations
        if path is None and length <= name.count("."):
            return None
    return spec


def is_users_spec(spec: ModuleSpec) -> bool:
    """Return whether a module that was found, and perhaps not imported, is the user's."""
    names: dict[str, Any] = {"__name__": spec.name, "__path__": spec.submodule_search_locations}
    if spec.has_location:
        names["__file__"] = spec.origin
    return is_users(names)


def source_of(spec: ModuleSpec) -> CodeType | bytes | None:
    """Return the code of a module; the bytes of its file if it has none, as an extension has; None without a file."""
    get_code = getattr(spec.loader, "get_code", None)
    try:
        code = None if get_code is None else get_code(spec.name)
    except Exception:  # whatever a loader makes of a file that is not what it was
        code = None
    if isinstance(code, CodeType):
        return code
    if spec.has_location and spec.origin is not None and os.path.isfile(spec.origin):
        with open(spec.origin, "rb") as file:
            return file.read()
    return None


def submodule(module: ModuleType, name: str) -> Any:
    """Return an attribute of a module, without asking the module to make it; raise KeyError if it is not there."""
    found = vars(module)
    return found[name] if name in found else sys.modules[f"{module.__name__}.{name}"]
