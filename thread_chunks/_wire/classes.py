"""Classes by value: one class of the driver is one class in a worker, however often it travels.

What a class statement runs (``__init_subclass__``, a metaclass's ``__new__``, ``__set_name__``) has run in the driver.
What came of it arrives as the contents of the classes, so nothing of it is run again.
"""

from __future__ import annotations

import abc
import copyreg
import enum
import typing
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import MemberDescriptorType
from typing import Any
from uuid import uuid4

from .homes import is_home

Reduced = tuple[Any, ...]

# Who knows a class by what; the class of a driver and its copy in a worker have the same.
_classes: weakref.WeakValueDictionary[bytes, type] = weakref.WeakValueDictionary()
_marks: weakref.WeakKeyDictionary[type, bytes] = weakref.WeakKeyDictionary()

_PLAIN_METACLASSES = (type, abc.ABCMeta, type(typing.Protocol))

# What a class has to have from the beginning on.
_AT_BIRTH = ("__module__", "__slots__", "__orig_bases__", "_is_protocol", "__firstlineno__")


def mark_of(cls: type) -> bytes:
    """Return what a class is known by, in the driver and in the workers."""
    mark = _marks.get(cls)
    if mark is None:
        mark = uuid4().bytes
        _remember(mark, cls)
    return mark


def find(mark: bytes) -> type | None:
    """Return the class that is known by `mark` in this process."""
    return _classes.get(mark)


def _remember(mark: bytes, cls: type) -> None:
    _marks[cls], _classes[mark] = mark, cls


def reduce_class(cls: type, reduced: Reduced, *, renewed: str | None) -> Reduced:
    """Return the reduction of a class, given cloudpickle's.

    Parameters
    ----------
    renewed : str or None
        The name under which it was found to have changed, if it was: a worker that has it takes over what is in it.
    """
    make, args, state, _, _, setter = reduced
    metaclass = type(cls)
    plain = next(kind for kind in type.mro(metaclass) if not is_home(kind.__module__))
    if plain in _PLAIN_METACLASSES:
        own = vars(cls)
        birth = {name: own[name] for name in _AT_BIRTH if name in own} | {"__qualname__": cls.__qualname__}
        make, args = _construct, (metaclass, cls.__name__, cls.__bases__, birth)
        attributes = {name: value for name, value in state[0].items() if type(value) is not MemberDescriptorType}
        state = (attributes, *state[1:])
    state = (_with_annotations(cls, state[0]), *state[1:])
    # An enum's members have what its `__init__` or `__new__` gave them.
    members = [(each, dict(vars(each))) for each in list[Any](cls)] if isinstance(cls, enum.EnumMeta) else None
    contents = setter, state, members, copyreg.dispatch_table.get(cls)
    return _make, (mark_of(cls), make, args), (renewed, contents), None, None, _fill


def _with_annotations(cls: type, attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of a class with its annotations, which from Python 3.14 on are made when they are asked for.

    cloudpickle leaves out the function that makes them. If it fails, as for a name that is not there, none travel.
    """
    if "__annotate_func__" not in vars(cls):
        return attributes
    contents = {name: value for name, value in attributes.items() if not name.startswith("__annotat")}
    with suppress(Exception):
        contents["__annotations__"] = cls.__annotations__
    return contents


wanted: set[str] = set()  # the names that are taken from the pickle that is being read now


def _make(mark: bytes, make: Callable[..., type], args: tuple[Any, ...]) -> type:
    cls = find(mark)
    if cls is None:
        try:
            with _silenced(base for base in _ancestors(args) if is_home(base.__module__)):
                cls = make(*args)
        except TypeError:  # a library's hook wants keywords that are not known any more
            with _silenced(_ancestors(args)):
                cls = make(*args)
        _remember(mark, cls)
        _unfilled.add(cls)
    return cls


_unfilled: weakref.WeakSet[type] = weakref.WeakSet()  # the classes that are new here, and have no contents yet


def _fill(cls: type, state: tuple[str | None, tuple[Any, ...]]) -> None:
    renewed, (setter, contents, members, reducer) = state
    if cls in _unfilled or (renewed is not None and renewed in wanted):
        setter(cls, contents)
        if members is None:
            _drop_others(cls, contents[0])
        for member, attributes in members or ():
            vars(member).update(attributes)
        if reducer is not None:
            copyreg.pickle(cls, reducer)
        _unfilled.discard(cls)


def _drop_others(cls: type, attributes: dict[str, Any]) -> None:
    """Delete what the driver has deleted."""
    for name, value in list(vars(cls).items()):
        if name not in attributes and not name.startswith("__") and type(value) is not MemberDescriptorType:
            with suppress(AttributeError, TypeError):
                type.__delattr__(cls, name)


def _construct(metaclass: type, name: str, bases: tuple[type, ...], birth: dict[str, Any]) -> type:
    plain: Any = next(kind for kind in metaclass.__mro__ if not is_home(kind.__module__))
    made: type = plain.__new__(metaclass, name, bases, dict(birth))
    return made


def _ancestors(args: tuple[Any, ...]) -> Iterator[type]:
    for bases in args:
        for base in bases if type(bases) is tuple else ():
            yield from getattr(base, "__mro__", ())


@contextmanager
def _silenced(bases: Iterable[type]) -> Iterator[None]:
    """Keep classes from being told of their new subclass."""
    hooks = {base: vars(base)["__init_subclass__"] for base in bases if "__init_subclass__" in vars(base)}
    changed = []
    try:
        for base in hooks:
            try:
                type.__setattr__(base, "__init_subclass__", classmethod(_say_nothing))
            except TypeError:  # it is written in C
                continue
            changed.append(base)
        yield
    finally:
        for base in changed:
            type.__setattr__(base, "__init_subclass__", hooks[base])


def _say_nothing(cls: type, /, **keywords: Any) -> None:
    pass
