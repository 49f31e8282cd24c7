"""Pickle the calls of a block: one by one, or together if all arguments are plain values."""

from __future__ import annotations

import pickle
from itertools import chain, count
from typing import Any

from .._calls.calls import Arguments, parts_of
from .._calls.functions import Batch, name_of
from ..errors import PicklingFailed
from .pickling import OUT_OF_BAND, PLAIN, Argument, Packed, pack, references


class _Bytes:
    """Stand for a large argument of bytes, which pickle would copy in band; arrive as that argument."""

    def __init__(self, value: bytes | bytearray) -> None:
        self._value = value

    def __reduce__(self) -> Any:
        return type(self._value), (pickle.PickleBuffer(self._value),)


def pack_calls(
    calls: list[Arguments], *, carried: bool = False
) -> tuple[bytes | list[Packed | None], dict[int, PicklingFailed]]:
    """Pickle the calls of a block; those that cannot be are None, with their errors by index.

    `carried`: the first argument of each is its function.
    """
    arguments = list(chain.from_iterable(calls))
    kinds = set(map(type, arguments))
    if kinds <= PLAIN and not (bytes in kinds and any(map(_is_large, arguments))):
        return _pack_plain(calls, arguments), {}
    packed: list[Packed | None] = []
    errors = {}
    for index, call in enumerate(calls):
        args, extras = parts_of(call)
        kwargs = extras.keywords
        try:
            packed.append(pack((*_with_arguments_marked(args, kwargs), extras.seed)))
        except PicklingFailed as error:
            packed.append(None)
            errors[index] = _blame(args, kwargs, carried, error)
    return packed, errors


def _pack_plain(calls: list[Arguments], arguments: list[Any]) -> bytes:
    """Pickle calls with plain arguments, which are given once more, one after the other."""
    widths = set(map(len, calls))
    if len(widths) == 1 and 0 not in widths:
        return pickle.dumps((widths.pop(), arguments), 5)
    return pickle.dumps((None, calls), 5)


def unpack_plain(packed: bytes) -> tuple[int | None, list[Any]]:
    """Return how many arguments each call has, and all arguments; or None, and the tuples of them.

    Thousands of tuples, made at once, would set off a collection of garbage, which takes 40 ms in a new process.
    """
    unpacked: tuple[int | None, list[Any]] = pickle.loads(packed)
    return unpacked


def _is_large(value: Any) -> bool:
    return type(value) in (bytes, bytearray) and len(value) >= OUT_OF_BAND


def _with_arguments_marked(args: Arguments, kwargs: dict[str, Any]) -> tuple[Arguments, dict[str, Any]]:
    of_values = references().of_values
    if not any(issubclass(type(value), of_values) or _is_large(value) for value in chain(args, kwargs.values())):
        return args, kwargs

    def marked(value: Any) -> Any:
        if issubclass(type(value), of_values):
            return Argument(value)
        return _Bytes(value) if _is_large(value) else value

    return tuple(map(marked, args)), {name: marked(value) for name, value in kwargs.items()}


def _blame(args: Arguments, kwargs: dict[str, Any], carried: bool, error: PicklingFailed) -> PicklingFailed:
    """Return an error that names what cannot be pickled first: the function, or an argument."""
    names = chain(["the function"] if carried else [], (f"argument {index}" for index in count()))
    named = chain(zip(names, args, strict=False), ((f"argument {name!r}", value) for name, value in kwargs.items()))
    for name, value in named:
        try:
            pack(value)
        except PicklingFailed as culprit:
            if type(value) is Batch:
                return _blame_call(value, culprit)
            blamed = PicklingFailed(f"{name}: {culprit}")
            blamed.__cause__ = culprit.__cause__
            return blamed
    return error


def _blame_call(batch: Batch, error: PicklingFailed) -> PicklingFailed:
    """Return an error that names the call of a batch that cannot be pickled."""
    for fn, args, keywords in batch.calls:
        blamed = _blame((fn, *args), keywords, True, error)
        if blamed is not error:
            named = PicklingFailed(f"in a call of {name_of(fn)}: {blamed}")
            named.__cause__ = blamed.__cause__
            return named
    return error
