"""What a function uses by name: the code of the user's functions and classes, and the values of globals.

It is followed from name to name, as far as the code is the user's. What is installed counts by its name.
Nothing here depends on the process: what is found is visited in the order of the code, and described without
addresses.
"""

from __future__ import annotations

import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial, partialmethod
from importlib.machinery import ExtensionFileLoader
from importlib.util import resolve_name
from itertools import accumulate
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

from .._wire.pickling import references
from .bytecode import code_digest, digest_of, names_of
from .hashing import hash_of
from .members import functions_of, has_name, has_users_code, is_wrapper, name_of
from .modules import find_spec, is_users, is_users_spec, module_of, source_of, submodule

# What each module has, which says where it is and not what it does.
_OF_MODULES = frozenset((*vars(ModuleType("")), "__file__", "__cached__", "__path__", "__builtins__"))

# What a class has that is no part of what it does, beside names like `__doc__`.
_OF_CLASSES = ("_abc_impl",)
_ANNOTATIONS = ("__annotate__", "__annotate_func__")
_SLOTS = (MemberDescriptorType, GetSetDescriptorType)

# Of what a function that is installed captured, these count; the rest is its state, as a cache.
_SETTINGS = (bool, int, float, complex, str, bytes, type(None), tuple, frozenset, list, dict, FunctionType, type)

_warned: set[tuple[str, str]] = set()  # what does not count, of which a warning has told


@dataclass(slots=True, frozen=True)
class Reached:
    """What counts: what it is called, and its digest; and which of it is more than the name of what is installed."""

    parts: tuple[tuple[str, str], ...]
    users: tuple[str, ...]


class Reach:
    """Follow names, and describe what they lead to.

    Parameters
    ----------
    home : str
        The module whose names are written without it.
    """

    def __init__(self, home: str) -> None:
        self._users: set[str] = set()  # of what counts, that which is more than the name of something installed
        self._home = home
        self._parts: dict[str, dict[int, str]] = {}  # by what it is called, and by the id of the object
        self._kept: list[Any] = []  # so that ids stay those of the objects
        self._digests: dict[int, str] = {}  # of functions and classes, by id; empty while they are described
        self._hashes: dict[int, str] = {}  # of values, by id: one may take a while
        self._known: set[int] = set()  # functions and classes that count already
        self._scanned: set[int] = set()
        self._functions: deque[FunctionType] = deque()  # whose names are to be followed
        self._objects: deque[tuple[str, Any]] = deque()  # functions and classes that are used by name
        self._noted: deque[Any] = deque()  # functions and classes that are in values
        self._values: deque[tuple[str, Any, tuple[int, str]]] = deque()  # globals, with their module and name
        self._places: dict[str, tuple[int, str]] = {}  # of the globals that count
        self._written: set[tuple[int, str]] = set()

    def add_known(self, objects: Iterable[Any]) -> None:
        """Take functions and classes for described; the names in these functions are to be followed."""
        for obj in objects:
            self._keep(obj)
            self._known.add(id(obj))
            if isinstance(obj, FunctionType):
                self._functions.append(obj)

    def meet(self, obj: Any) -> str | None:
        """Note what a value holds; return a digest of what has no name by which it is found."""
        if isinstance(obj, (references().of_values, *references().others)):
            raise TypeError("a reference to an object of the cluster means nothing to the next run")
        if isinstance(obj, ModuleType):
            return f"module {obj.__name__}"
        if not has_name(obj):
            return self._digest(obj)
        self.note(obj)
        return None

    def note(self, obj: Any) -> None:
        """Note a function or class that counts by its name where it is."""
        if id(obj) not in self._known and has_users_code(obj):
            self._noted.append(obj)

    def follow(self) -> Reached:
        """Follow all names, and return what they lead to."""
        while True:
            if self._functions:
                self._scan(self._functions.popleft())
            elif self._objects:
                self._add(*self._objects.popleft())
            elif self._values:
                self._add_value(*self._values.popleft())
            elif self._noted:
                obj = self._noted.popleft()
                if id(obj) not in self._digests:  # else it is a part by another name
                    self._add(self._label(obj.__module__, obj.__qualname__), obj)
            else:
                break
        found = {
            what: digest_of(digests.values()) if len(digests) > 1 else next(iter(digests.values()))
            for what, digests in self._parts.items()
            if self._places.get(what) not in self._written
        }
        return Reached(tuple(sorted(found.items())), tuple(sorted(self._users & found.keys())))

    def _scan(self, function: FunctionType) -> None:
        if id(function) in self._scanned or not is_users(function.__globals__):
            return
        self._scanned.add(id(function))
        self._keep(function)
        names = function.__globals__
        used = names_of(function.__code__)
        self._written.update((id(names), name) for name in used.written)
        for first, *attributes in used.read:
            if first in names and first not in _OF_MODULES:
                self._resolve(names, first, attributes)
        for imported in used.imported:
            self._import(names.get("__package__") or str(names.get("__name__")).rpartition(".")[0], *imported)

    def _resolve(self, names: dict[str, Any], name: str, attributes: list[str]) -> None:
        label = self._label(names.get("__name__"), name)
        value = names[name]
        while isinstance(value, ModuleType) and is_users(vars(value)):
            if not attributes:
                self._add_module(value.__name__, label)
                return
            name, *attributes = attributes
            names = vars(value)
            try:
                value = submodule(value, name)
            except KeyError:  # it makes it when it is asked for, or has it no more
                self._add_module(value.__name__, label)
                return
            label = f"{label}.{name}"
        if isinstance(value, ModuleType):
            self._put(f"the global `{label}`", value, f"module {value.__name__}")
        elif isinstance(value, (FunctionType, type)) or (is_wrapper(value) and not is_users(module_of(type(value)))):
            self._objects.append((label, value))
            if isinstance(value, FunctionType) and attributes and attributes[0] in vars(value):
                name, names = attributes[0], vars(value)
                self._values.append((f"{label}.{name}", names[name], (id(names), name)))
        else:
            self._values.append((label, value, (id(names), name)))

    def _import(self, package: str, name: str, level: int, wanted: tuple[str, ...]) -> None:
        if level:
            try:
                name = resolve_name("." * level + name, package)
            except ImportError:  # it would fail
                return
        for parent in accumulate(name.split("."), "{}.{}".format):
            if not self._add_module(parent, parent):
                return
        for each in wanted:
            self._add_module(f"{name}.{each}", f"{name}.{each}")

    def _add_module(self, name: str, label: str) -> bool:
        """Add the code of a whole module, and of those that it imports; return False if it is not the user's."""
        what = f"the code of `{label}`"
        if what in self._parts:
            return True
        try:
            spec = find_spec(name)
        except Exception:  # of a finder of the user's
            return False
        if spec is None:
            module = sys.modules.get(name)
            if module is None or not is_users(vars(module)):
                return False
            for each, value in sorted(vars(module).items()):
                if isinstance(value, (FunctionType, type)) and has_users_code(value):
                    self._objects.append((f"{label}.{each}", value))
            return True
        if not is_users_spec(spec):
            return False
        source = source_of(spec)
        if isinstance(source, CodeType):
            self._put(what, spec, code_digest(source), users=True)
            package = spec.name if spec.submodule_search_locations is not None else spec.parent
            for imported in names_of(source).imported:
                self._import(package or "", *imported)
        elif source is not None:  # an extension
            self._put(what, spec, digest_of([source.hex()]), users=True)
        return True

    def _add(self, label: str, obj: Any) -> None:
        if id(obj) in self._known:
            return
        if has_users_code(obj):
            self._put(f"the code of `{label}`", obj, self._digest(obj), users=True)
        else:
            self._put(f"the global `{label}`", obj, self._digest(obj) if is_wrapper(obj) else name_of(obj))

    def _add_value(self, label: str, value: Any, place: tuple[int, str]) -> None:
        what = f"the global `{label}`"
        if place in self._written or id(value) in self._parts.get(what, ()):
            return
        self._places[what] = place
        try:
            digest = self._hash_of(value)
        except (TypeError, RecursionError) as error:
            self._warn(what, error)
            return
        is_installed = callable(value) and not is_users(module_of(type(value)))
        self._put(what, value, digest, users=not is_installed)
        module = sys.modules.get(str(getattr(value, "__module__", None)))
        if module is not None and isinstance(getattr(module, "__loader__", None), ExtensionFileLoader):
            self._add_module(module.__name__, module.__name__)

    def _put(self, what: str, obj: Any, digest: str, *, users: bool = False) -> None:
        self._keep(obj)
        self._parts.setdefault(what, {})[id(obj)] = digest
        if users:
            self._users.add(what)

    def _digest(self, obj: Any) -> str:
        """Return a digest of a function, a class, or what wraps a function."""
        if id(obj) not in self._digests:
            self._keep(obj)
            self._digests[id(obj)] = ""  # as it refers to itself
            self._digests[id(obj)] = digest_of(self._describe(obj))
        return self._digests[id(obj)]

    def _describe(self, obj: Any) -> Iterator[str]:
        if isinstance(obj, FunctionType):
            yield from self._describe_function(obj)
        elif isinstance(obj, type):
            yield from self._describe_class(obj)
        else:  # what wraps a function
            yield name_of(type(obj))
            yield self._hash(obj.__wrapped__, None)

    def _describe_function(self, function: FunctionType) -> Iterator[str]:
        name = function.__qualname__
        is_own = is_users(function.__globals__)
        yield code_digest(function.__code__) if is_own else name_of(function)
        self._functions.append(function)
        if is_own:
            for default in (*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())):
                yield self._hash(default, f"a default of `{name}`")
        rebound = names_of(function.__code__).rebound  # its state
        for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            if variable not in rebound and (is_own or isinstance(value, _SETTINGS) or is_wrapper(value)):
                yield variable
                yield self._hash(value, f"the variable `{variable}` that `{name}` captured" if is_own else None)

    def _describe_class(self, cls: type) -> Iterator[str]:
        for part in cls.__mro__:
            yield name_of(part)
            if not is_users(module_of(part)):
                continue
            members = part.__members__ if issubclass(part, Enum) else {}
            for name, member in members.items():
                yield name
                yield self._hash(member.value, f"`{part.__qualname__}.{name}`")
            for name, member in sorted(vars(part).items()):
                if name not in members:
                    yield from self._describe_attribute(part, name, member)
        if is_users(module_of(type(cls))):
            yield self._hash(type(cls), None)

    def _describe_attribute(self, cls: type, name: str, member: Any) -> Iterator[str]:
        if name in _ANNOTATIONS:
            return
        if functions := list(functions_of(member)):
            yield name
            yield from map(self._digest, functions)
            if isinstance(member, (partial, partialmethod)):
                yield self._hash((member.args, member.keywords), f"`{cls.__qualname__}.{name}`")
        elif not (_is_special(name, cls) or name in _OF_CLASSES or isinstance(member, _SLOTS)):
            yield name
            yield self._hash(member, f"`{cls.__qualname__}.{name}`")

    def _hash(self, value: Any, what: str | None) -> str:
        """Return a digest of a value; if it has none, warn that `what` does not count."""
        try:
            return f"module {value.__name__}" if isinstance(value, ModuleType) else self._hash_of(value)
        except (TypeError, RecursionError) as error:
            if what is not None:
                self._warn(what, error)
            return ""

    def _hash_of(self, value: Any) -> str:
        if id(value) not in self._hashes:
            self._hashes[id(value)] = hash_of(value, self.meet)
            self._keep(value)
        return self._hashes[id(value)]

    def _warn(self, what: str, error: BaseException) -> None:
        if (self._home, what) not in _warned:
            _warned.add((self._home, what))
            warnings.warn(
                f"{what} does not count for the checkpoint: {error}. If it changes, the checkpoint does not "
                "notice: use another file then",
                stacklevel=2,
            )

    def _label(self, module: Any, name: str) -> str:
        return name if module == self._home else f"{module}.{name}"

    def _keep(self, obj: Any) -> None:
        self._kept.append(obj)


def _is_special(name: str, cls: type) -> bool:
    if issubclass(cls, Enum) and name.startswith("_") and name.endswith("_"):
        return True
    return name.startswith("__") and name.endswith("__")
