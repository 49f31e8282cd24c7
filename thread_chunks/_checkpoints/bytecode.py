"""What code does, and which names it uses, read from its bytecode."""

from __future__ import annotations

import dis
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType
from typing import Any

_FAST = re.compile("(?:LOAD|STORE)_FAST(?:_BORROW)?")
_JUMPS = frozenset((*dis.hasjabs, *dis.hasjrel))

_LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_WRITES = ("STORE_GLOBAL", "DELETE_GLOBAL")

# Of so many functions it is remembered what they do: those of a large program.
_REMEMBERED = 4096

_HAS_DOCSTRING = 0x4000000  # CO_HAS_DOCSTRING, which Python has from 3.13 on


def describe_code(code: CodeType) -> Iterator[str]:
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
            yield from describe_code(value)
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
    """Return whether it stores what a nested class knows of its place or its docstring, which was just loaded."""
    return instruction.opname == "STORE_NAME" and instruction.argval in ("__doc__", "__firstlineno__")


def _describe_constant(value: Any) -> Iterator[str]:
    yield type(value).__name__
    if isinstance(value, (tuple, frozenset)):
        described = [" ".join(_describe_constant(item)) for item in value]
        yield from sorted(described) if isinstance(value, frozenset) else described
    else:
        yield repr(value)


@dataclass(slots=True)
class Names:
    """What code uses that is not its own.

    Attributes
    ----------
    read : list of tuple of str
        Globals, each with the attributes that are taken of it: ``("np", "linalg", "norm")``.
    written : set of str
        Globals that it assigns to.
    rebound : set of str
        Variables of the code around it that it, or what is nested in it, assigns to.
    imported : list of (str, int, tuple of str)
        Modules that it imports, each with its level, and with what is taken of it.
    """

    read: list[tuple[str, ...]] = field(default_factory=list)
    written: set[str] = field(default_factory=set)
    rebound: set[str] = field(default_factory=set)
    imported: list[tuple[str, int, tuple[str, ...]]] = field(default_factory=list)


@lru_cache(_REMEMBERED)
def names_of(code: CodeType) -> Names:
    """Return what code uses, with the code that is nested in it."""
    names = Names()
    _collect_names(code, names)
    names.read = list(dict.fromkeys(names.read))
    return names


def _collect_names(code: CodeType, names: Names) -> None:
    instructions = [each for each in dis.get_instructions(code) if each.opname not in ("EXTENDED_ARG", "NOP", "CACHE")]
    own = {each.argval for each in instructions if each.opname == "STORE_NAME"}  # of the body of a class
    for index, instruction in enumerate(instructions):
        value = instruction.argval
        if instruction.opname in _LOADS and value not in own:
            attributes = []
            for following in instructions[index + 1 :]:
                if following.opname not in _ATTRIBUTES:
                    break
                attributes.append(following.argval)
            names.read.append((value, *attributes))
        elif instruction.opname in _WRITES:
            names.written.add(value)
        elif instruction.opname == "STORE_DEREF" and value in code.co_freevars:
            names.rebound.add(value)
        elif instruction.opname == "IMPORT_NAME":
            level, wanted = (each.argval for each in instructions[index - 2 : index])
            names.imported.append((value, level, wanted or ()))
        if isinstance(value, CodeType) and value.co_name != "__annotate__":
            _collect_names(value, names)


@lru_cache(_REMEMBERED)
def code_digest(code: CodeType) -> str:
    """Return a digest of what code does."""
    return digest_of(describe_code(code))


def digest_of(parts: Iterable[str]) -> str:
    """Return a digest of strings, in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()[:32]
