"""What makes a call the same call as one of an earlier run: its function, and its arguments.

A function is known by its name, by its code, and by what is bound to it: values that its closure
captured, arguments of a `partial`, the object of a method. Of the code counts what it does, and neither
where it stands nor what is said about it: bytecode with constants and names resolved, defaults, and the
functions nested in it.
"""

from __future__ import annotations

import dis
import hashlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

_FAST = re.compile("(?:LOAD|STORE)_FAST(?:_BORROW)?")
_JUMPS = frozenset((*dis.hasjabs, *dis.hasjrel))

_HAS_DOCSTRING = 0x4000000  # CO_HAS_DOCSTRING, which Python has from 3.13 on


@dataclass(frozen=True, slots=True)
class Identity:
    """A function's name for people, and digests (in hexadecimal, or empty) of its code and of what is bound to it."""

    name: str
    code: str
    bound: str


def identify(fn: Callable[..., Any], wrapper: type | None = None) -> Identity:
    """Return the identity of a callable of any kind, which a method of `wrapper` may call.

    Raises
    ------
    TypeError
        If something is bound to it that cannot be hashed, other than by a closure, for which it warns.
    """
    parts = _Parts([], [])
    name = _walk(fn, parts, set())
    if wrapper is not None:
        parts.code.append(_walk(wrapper, parts, set()))
    return Identity(name, _digest(parts.code), _digest(parts.bound) if parts.bound else "")


def hash_of(obj: Any) -> str:
    """Return joblib's hash of an object, in hexadecimal.

    Raises
    ------
    TypeError
        If it has none, for whatever reason, with the reason as its cause.
    """
    from joblib import hash as joblib_hash  # late: it takes a while, and only checkpoints need it

    try:
        found: str = joblib_hash(obj)
    except Exception as error:
        raise TypeError(f"an object of type {type(obj).__qualname__!r} cannot be hashed: {error}") from error
    return found


@dataclass(slots=True)
class _Parts:
    code: list[str]
    bound: list[str]


def _walk(fn: Any, parts: _Parts, seen: set[int]) -> str:
    """Add what a callable is made of, and return its name."""
    if id(fn) in seen:  # it captured itself
        return "itself"
    seen.add(id(fn))
    if isinstance(fn, partial):
        parts.bound.append(hash_of((fn.args, fn.keywords)))
        return _walk(fn.func, parts, seen)
    if isinstance(fn, MethodType):
        name = _walk(fn.__func__, parts, seen)
        _bind(fn.__self__, parts, seen)
        return name
    if isinstance(fn, FunctionType):
        _add_function(fn, parts, seen)
        return f"{fn.__module__}.{fn.__qualname__}"
    if isinstance(fn, type):
        _add_class(fn, parts, seen)
        return f"{fn.__module__}.{fn.__qualname__}"
    if hasattr(fn, "__wrapped__"):  # by `functools.lru_cache`, say
        parts.code.append(_name_of_type(fn))
        return _walk(fn.__wrapped__, parts, seen)
    call = type(fn).__call__
    if isinstance(call, FunctionType):
        _bind(fn, parts, seen)
        _add_function(call, parts, seen)
        return _name_of_type(fn)
    return _walk_builtin(fn, parts, seen)


def _walk_builtin(fn: Any, parts: _Parts, seen: set[int]) -> str:
    """Add nothing but the name, since there is no code to look at, and the object if it is a method's."""
    owner = getattr(fn, "__self__", None)
    name = getattr(fn, "__qualname__", None) or getattr(fn, "__name__", None)
    if name is None:
        _bind(fn, parts, seen)
        return _name_of_type(fn)
    if owner is not None and not isinstance(owner, ModuleType):
        _bind(owner, parts, seen)
    module = getattr(fn, "__module__", None) or getattr(getattr(fn, "__objclass__", owner), "__module__", "builtins")
    return f"{module}.{name}"


def _name_of_type(obj: Any) -> str:
    return f"{type(obj).__module__}.{type(obj).__qualname__}"


def _bind(obj: Any, parts: _Parts, seen: set[int]) -> None:
    if isinstance(obj, type):
        parts.bound.append(_walk(obj, parts, seen))
    else:
        parts.bound.append(hash_of(obj))


def _add_function(fn: FunctionType, parts: _Parts, seen: set[int]) -> None:
    parts.code.extend(_describe_code(fn.__code__))
    for default in (*(fn.__defaults__ or ()), *sorted((fn.__kwdefaults__ or {}).items())):
        _add_value(default, f"a default of {fn.__qualname__}", parts.code, parts, seen)
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            parts.bound.append("empty")
        else:
            _add_value(value, f"the variable {name!r} that {fn.__qualname__} captured", parts.bound, parts, seen)


def _add_value(value: Any, what: str, column: list[str], parts: _Parts, seen: set[int]) -> None:
    if isinstance(value, (FunctionType, MethodType, partial)):  # whose code counts, and not only its name
        column.append(_walk(value, parts, seen))
        return
    try:
        column.append(hash_of(value))
    except TypeError as error:
        warnings.warn(
            f"{what} does not count for the checkpoint: {error}. If it changes, values that were computed with "
            "another one are taken for the same",
            stacklevel=2,
        )


def _add_class(cls: type, parts: _Parts, seen: set[int]) -> None:
    for name, member in sorted(vars(cls).items()):
        function = getattr(member, "__func__", member)  # of a static or class method
        if isinstance(function, FunctionType) and id(function) not in seen:
            seen.add(id(function))
            parts.code.append(name)
            parts.code.extend(_describe_code(function.__code__))


def _describe_code(code: CodeType) -> Iterator[str]:
    """Yield what code does, without its lines, its file and its docstring."""
    yield repr((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & ~_HAS_DOCSTRING))
    yield repr((code.co_varnames, code.co_freevars, code.co_cellvars))
    # By what the instructions mean, and where they stand among those that mean anything: their numbers count the
    # constants, of which the docstring is one, and what is on one line may be made into one instruction.
    bytecode = dis.Bytecode(code)
    instructions = list(bytecode)
    places = {0: 0}  # by offset
    described: list[tuple[str, Any, int]] = []
    for instruction, following in zip(instructions, [*instructions[1:], None], strict=True):
        places[instruction.offset] = len(described)
        of_a_class = _is_of_a_class(instruction) or (following is not None and _is_of_a_class(following))
        if instruction.opname != "NOP" and not of_a_class:
            described.extend(_apart(instruction))
    for name, value, opcode in described:
        yield name
        if isinstance(value, CodeType):
            yield from _describe_code(value)
        elif opcode in dis.hasconst:
            yield from _describe_constant(value)
        else:
            yield repr(places.get(value) if opcode in _JUMPS else value)
    for entry in getattr(bytecode, "exception_entries", ()):  # from Python 3.11 on
        yield repr([places.get(offset) for offset in (entry.start, entry.end, entry.target)])


def _apart(instruction: dis.Instruction) -> list[tuple[str, Any, int]]:
    """Return name, argument and code of an instruction; those of both if it does the work of two (from 3.13 on)."""
    names = _FAST.findall(instruction.opname)
    if len(names) == 2:
        return [(name, value, instruction.opcode) for name, value in zip(names, instruction.argval, strict=True)]
    return [(instruction.opname, instruction.argval, instruction.opcode)]


def _is_of_a_class(instruction: dis.Instruction) -> bool:
    """Whether it stores what a nested class knows of its place or its docstring; the value was loaded just before."""
    return instruction.opname == "STORE_NAME" and instruction.argval in ("__doc__", "__firstlineno__")


def _describe_constant(value: Any) -> Iterator[str]:
    yield type(value).__name__
    if isinstance(value, (tuple, frozenset)):
        described = [" ".join(_describe_constant(item)) for item in value]
        yield from sorted(described) if isinstance(value, frozenset) else described
    else:
        yield repr(value)


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()[:32]
