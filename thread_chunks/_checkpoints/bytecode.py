"""What code does, and which names it uses, read from its bytecode."""

from __future__ import annotations

import dis
import hashlib
import re
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any

_FAST = re.compile("(?:LOAD|STORE)_FAST(?:_BORROW)?")
_JUMPS = frozenset((*dis.hasjabs, *dis.hasjrel))

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
    """Whether it stores what a nested class knows of its place or its docstring; the value was loaded just before."""
    return instruction.opname == "STORE_NAME" and instruction.argval in ("__doc__", "__firstlineno__")


def _describe_constant(value: Any) -> Iterator[str]:
    yield type(value).__name__
    if isinstance(value, (tuple, frozenset)):
        described = [" ".join(_describe_constant(item)) for item in value]
        yield from sorted(described) if isinstance(value, frozenset) else described
    else:
        yield repr(value)


def digest_of(parts: Iterable[str]) -> str:
    """Return a digest of strings, in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()[:32]
