"""What makes a call the same call as one of an earlier run: its function, and its arguments.

A function is known by its name, by its code, and by what is bound to it: values that its closure
captured, arguments of a `partial`, the object of a method. Of the code counts what it does, and neither
where it stands nor what is said about it: bytecode with constants and names resolved, defaults, and the
functions nested in it. Functions and classes that are bound count by their code, too. So does what it uses
by name, see `Reach`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from .bytecode import describe_code, digest_of
from .hashing import hash_of
from .members import functions_of, is_wrapper, name_of, original
from .reach import Reach, Reached
from .titles import title_of

_CONSTANTS = (int, float, complex, bool, str, bytes, type(None))

_IS_HEAP_TYPE = 1 << 9  # of a class that a class statement made, in most cases


class _Plain:
    """What an object is at least that has attributes."""


_PICKLING = ("__reduce_ex__", "__reduce__", "__getstate__")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a value is found by beside the arguments. All digests are in hexadecimal.

    Attributes
    ----------
    name : str
        The function's name for people.
    code : str
        A digest of its code, and of what it uses by name.
    bound : str
        A digest of what is bound to it; empty if nothing is.
    own_code : str
        A digest of its code alone, which is the `code` in files of older versions.
    parts : tuple of (str, str)
        What `code` is made of: what it is called, as in "the code of `f`", and its digest.
    uses : tuple of str
        Those of the parts that are code or values of the user's and that the function uses by name.
    title : str
        What it is called for people: where it is a lambda, the name of the function that this calls. Empty if that is
        `name`.
    """

    name: str
    code: str
    bound: str
    own_code: str = ""
    parts: tuple[tuple[str, str], ...] = ()
    uses: tuple[str, ...] = ()
    title: str = ""


def identify(fn: Callable[..., Any], wrapper: str = "") -> Identity:
    """Return the identity of a callable of any kind; `wrapper` is that of a class whose method calls it.

    Raises
    ------
    TypeError
        If it is an object, or a method of one, that cannot be hashed.
    """
    parts = _Parts()
    name = parts.add_callable(fn)
    home, own_name = parts.place or name.rpartition(".")[::2]
    reached = parts.follow(home)
    own_code = digest_of([*parts.code, wrapper])
    own_parts = {f"the code of `{own_name}`": digest_of(parts.code), "the class of the actors": wrapper}
    return Identity(
        name,
        digest_of([own_code, *(text for part in reached.parts for text in part)]) if reached.parts else own_code,
        digest_of(parts.bound) if parts.bound else "",
        own_code,
        (*own_parts.items(), *reached.parts),
        reached.users,
        "" if (title := title_of(fn, name)) == name else title,
    )


def identify_class(cls: type, base: type) -> str:
    """Return a digest of what a class adds to a base, and of what its methods use by name."""
    parts = _Parts()
    for known in (cls, *base.__mro__):  # their methods refer to them by `super`
        parts.visit(known)
    parts.add_class(cls, base)
    reached = parts.follow(cls.__module__).parts
    return digest_of([*parts.code, *parts.bound, *(text for part in reached for text in part)])


class _Parts:
    """Collect what a callable is made of."""

    def __init__(self) -> None:
        self.code: list[str] = []
        self.bound: list[str] = []
        self.met: list[Any] = []  # functions and classes in what is bound, which count by their names there
        self.place: tuple[str, str] | None = None  # module and name of the first function
        self._seen: dict[int, tuple[int, Any]] = {}  # by id: which one it was, and the object, which keeps its id

    def add_callable(self, fn: Any) -> str:
        """Add a callable of any kind, and return its name."""
        fn = original(fn)
        if (which := self.visit(fn)) is not None:
            return which
        if isinstance(fn, partial):
            name = self.add_callable(fn.func)
            self._bind((fn.args, fn.keywords))
            return name
        if isinstance(fn, MethodType):
            name = self.add_callable(fn.__func__)
            if not isinstance(fn.__self__, type):
                self.add_callable(type(fn.__self__))  # with the methods that this one calls
            self._bind(fn.__self__)
            return name
        if isinstance(fn, FunctionType):
            self._add_function(fn)
            self.place = self.place or (fn.__module__, fn.__qualname__)
            return f"{fn.__module__}.{fn.__qualname__}"
        if isinstance(fn, type):
            self.add_class(fn, object)
            return name_of(fn)
        if _has_python_call(fn):
            name = self.add_callable(type(fn))
            self.bound.extend(self._describe_object(fn))
            return name
        if is_wrapper(fn):  # by `functools.lru_cache`, which has no other state
            self.code.append(name_of(type(fn)))
            return self.add_callable(fn.__wrapped__)
        self.bound.append(self._hash(fn))  # of what is written in C: it has a name, or cannot be hashed
        owner = getattr(fn, "__objclass__", None) or getattr(fn, "__self__", None)
        module = getattr(fn, "__module__", None) or getattr(owner, "__module__", None) or "builtins"
        return f"{module}.{getattr(fn, '__qualname__', None) or getattr(fn, '__name__', type(fn).__qualname__)}"

    def add_class(self, cls: type, base: type) -> None:
        """Add what a class, and those that it is derived from, add to a base."""
        for part in cls.__mro__:
            if part in base.__mro__:
                continue
            self.code.append(name_of(part))
            for name, member in sorted(vars(part).items()):
                for function in functions_of(member):
                    self.code.append(name)
                    if self.visit(function) is None:
                        self._add_function(function)
                if not name.startswith("_") and type(member) in _CONSTANTS:
                    self.code.append(f"{name} = {member!r}")

    def follow(self, home: str) -> Reached:
        """Return what the functions use by name; names of the module `home` are written without it."""
        reach = Reach(home)
        reach.add_known(obj for _, obj in self._seen.values())
        for obj in self.met:
            reach.note(obj)
        return reach.follow()

    def visit(self, obj: Any) -> str | None:
        """Return which of the objects that were visited this is; None the first time."""
        if id(obj) in self._seen:
            return f"number {self._seen[id(obj)][0]}"
        self._seen[id(obj)] = len(self._seen), obj
        return None

    def _hash(self, obj: Any) -> str:
        return hash_of(obj, self.met.append)

    def _bind(self, obj: Any) -> None:
        """Add an object to what is bound, or raise TypeError."""
        self.bound.extend(self._describe(obj))

    def _add_function(self, fn: FunctionType) -> None:
        self.code.extend(describe_code(fn.__code__))
        for default in (*(fn.__defaults__ or ()), *sorted((fn.__kwdefaults__ or {}).items())):
            self._add_value(default, f"a default of {fn.__qualname__}", self.code)
        for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not assigned yet
                self.bound.append("empty")
            else:
                self._add_value(value, f"the variable {name!r} that {fn.__qualname__} captured", self.bound)

    def _add_value(self, value: Any, what: str, column: list[str]) -> None:
        try:
            column.extend(list(self._describe(value)))
        except (TypeError, RecursionError) as error:
            warnings.warn(
                f"{what} does not count for the checkpoint: {error}. If it changes, the checkpoint does not "
                "notice: use another file then",
                stacklevel=2,
            )

    def _describe(self, value: Any) -> Iterator[str]:
        """Yield what stands for a value; raise TypeError if nothing does."""
        if type(value) in (list, tuple) and any(map(_may_hold_code, value)):
            yield f"{type(value).__name__} of {len(value)}"
            for item in value:
                yield from self._describe(item)
        elif type(value) is dict and any(map(_may_hold_code, value.values())):
            yield f"dict of {len(value)}"
            hashes = {self._hash(key): key for key in value}
            for digest in sorted(hashes):  # whatever the order in which they came in
                yield digest
                yield from self._describe(value[hashes[digest]])
        elif isinstance(value, ModuleType):
            yield value.__name__
        elif _is_code(value):
            yield self.add_callable(value)
        elif _is_plain_object(value) and (which := self.visit(value)) is not None:
            yield which
        else:
            yield from self._describe_object(value)

    def _describe_object(self, value: Any) -> Iterator[str]:
        if _is_plain_object(value):
            yield self.add_callable(type(value))
            yield from self._describe(dict(sorted(vars(value).items())))
        else:
            yield self._hash(value)


def _is_code(value: Any) -> bool:
    return isinstance(value, (FunctionType, MethodType, partial, type)) or is_wrapper(value) or _has_python_call(value)


def _has_python_call(value: Any) -> bool:
    calls = (vars(part)["__call__"] for part in type(value).__mro__ if "__call__" in vars(part))
    return isinstance(next(calls, None), FunctionType)


def _is_plain_object(value: Any) -> bool:
    """Return whether an object is what it has as attributes, and its class has no say in how it is pickled."""
    cls = type(value)
    return (
        hasattr(value, "__dict__")
        and all(part is object or part.__flags__ & _IS_HEAP_TYPE for part in cls.__mro__)
        and all(getattr(cls, name, None) is getattr(object, name, None) for name in _PICKLING)
        and not any("__slots__" in vars(part) for part in cls.__mro__)
        and cls.__basicsize__ <= _Plain.__basicsize__  # nothing beside the attributes, as an extension's class may have
    )


def _may_hold_code(value: Any) -> bool:
    return type(value) in (list, tuple, dict) or _is_code(value) or _is_plain_object(value)
