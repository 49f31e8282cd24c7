"""What calls are called in errors, notes and lines of the log: by function, arguments in short, place in the series."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, TypeVar

from .._calls.blocks import Block
from .._calls.calls import Arguments, Outcomes, extended, parts_of, written
from .._calls.functions import Batch, name_of
from .._calls.series import Series
from .._wire.protocol import CARRIED_KEY

_Error = TypeVar("_Error", bound=BaseException)

# So much is shown of a value, and of all arguments together (characters); so many items of a collection, and so deep.
_LONGEST = 40
_LONGEST_TOGETHER = 200
_ITEMS = 4
_DEPTH = 3

_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("{", "}"),
    deque: ("[", "]"),
}

# What Python says of a call with too few arguments, after the function's name: of a function, a class, a builtin.
_TOO_FEW = re.compile(
    r"(\.__init__)?(\(\))? (missing \d* ?required|takes (at least|exactly) .* given|expected .* arguments?, got 1)"
)

# What has a `repr` that runs no code of the user's, and takes no time.
_MODULES = frozenset({"datetime", "decimal", "fractions", "pathlib", "pathlib._local", "uuid", "numpy"})


def name_of_call(block: Block, place: int) -> str:
    """Return what a call of a block is called: ``f(1, y=2)``, with its place in the series if it is of one."""
    args = block.calls[place]
    if block.function.parcel.key == CARRIED_KEY:  # the first argument of each call is its function
        if type(args[0]) is Batch:
            return short_form_of_batch(args[0])
        args = args[1:]
    written = f"{block.function.name}({short_form(args)})"
    index = block.receiver.index_of(block.first + place)
    return written if index is None else f"call {index} of the series, {written}"


def note_errors(block: Block, outcomes: Outcomes) -> None:
    """Let each error of some outcomes say which call it is of, if they are of a series."""
    if outcomes.errors and isinstance(block.receiver, Series):
        for place, error in outcomes.errors.items():
            note_call(error, name_of_call(block, outcomes.offset + place))
            if _lacks_arguments(error, block, outcomes.offset + place):
                _note(error, "Its only argument is a list or tuple. `starmap` passes each row as arguments")


def _lacks_arguments(error: BaseException, block: Block, place: int) -> bool:
    """Return whether a call had one list or tuple, and Python said that the function takes more arguments."""
    if type(error) is not TypeError or not error.args:
        return False
    text, args = error.args[0], block.calls[place]
    if block.function.parcel.key == CARRIED_KEY:
        args = args[1:]
    positional, extras = parts_of(args)
    return (
        len(positional) == 1
        and not extras.keywords
        and type(positional[0]) in (list, tuple)
        and type(text) is str
        and text.startswith(block.function.name)  # else a function that this one called
        and _TOO_FEW.match(text, len(block.function.name)) is not None
    )


def note_call(error: BaseException, call: str) -> None:
    """Let an error say which call it is of, where Python has notes: from 3.11 on."""
    _note(error, f"In {call}")


def _note(error: BaseException, text: str) -> None:
    if hasattr(error, "add_note"):
        error.add_note(text)


def with_call(error: _Error, call: str, others: int) -> _Error:
    """Return an error of a worker that names the call that ran, or may have run: there are `others`."""
    which = (
        f"It ran {call}" if not others else f"It had {others + 1} calls, as far as they had begun, among them {call}"
    )
    named = type(error)(f"{str(error).rstrip('.')}. {which}")
    named.__cause__ = error.__cause__
    note_call(named, call)
    return named


def short_form(args: Arguments) -> str:
    """Return arguments as they are written in a call, shortened. No code of the user's runs for it."""
    return shortened(written(args, _short), _LONGEST_TOGETHER)


def short_form_of_batch(batch: Batch) -> str:
    """Return the calls of a batch as they are written, shortened, in the same way."""
    calls = (f"{name_of(fn)}({short_form(extended(args, keywords))})" for fn, args, keywords in batch.calls)
    return shortened(_joined(calls, len(batch.calls), _DEPTH), _LONGEST_TOGETHER)


def _short(value: Any, depth: int = _DEPTH) -> str:
    try:
        return _written(value, depth)
    except Exception:  # another thread changes it, say
        return f"<{type(value).__name__} object>"


def _written(value: Any, depth: int) -> str:
    kind = type(value)
    if kind is str or kind is bytes:
        return shortened(repr(value[: _LONGEST + 1]), _LONGEST)
    if kind is int:
        return repr(value) if value.bit_length() < 200 else f"<int of {value.bit_length()} bits>"
    if value is None or value is Ellipsis or kind in (bool, float, complex, range):
        return repr(value)
    if kind in _BRACKETS:
        opening, closing = _BRACKETS[kind]
        if not value and opening == "{":
            return f"{kind.__name__}()"
        items = _joined((_short(item, depth - 1) for item in value), len(value), depth)
        return f"{opening}{items}{',' if kind is tuple and len(value) == 1 else ''}{closing}"
    if kind is dict:
        pairs = (f"{_short(key, depth - 1)}: {_short(item, depth - 1)}" for key, item in value.items())
        return f"{{{_joined(pairs, len(value), depth)}}}"
    if isinstance(value, enum.Enum):
        return f"{kind.__name__}.{value._name_}"
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return _with_fields(kind, kind._fields, tuple.__iter__(value), depth)
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind) if field.repr]
        return _with_fields(kind, names, (object.__getattribute__(value, name) for name in names), depth)
    if kind.__module__ == "numpy" and hasattr(kind, "dtype") and (kind.__name__ == "ndarray" or value.dtype.hasobject):
        return f"<array of shape {value.shape}, {value.dtype}>"
    if kind.__module__ in _MODULES:
        return shortened(" ".join(repr(value).split()), _LONGEST)
    if isinstance(value, (FunctionType, BuiltinFunctionType, MethodType, type)):
        return name_of(value)
    return f"<{kind.__name__} object>"


def _joined(texts: Iterator[str], count: int, depth: int) -> str:
    if count and not depth:
        return "..."
    return ", ".join([*islice(texts, _ITEMS), *(["..."] if count > _ITEMS else [])])


def _with_fields(kind: type, names: Iterable[str], values: Iterable[Any], depth: int) -> str:
    fields = [f"{name}={_short(value, depth - 1)}" for name, value in islice(zip(names, values, strict=False), _ITEMS)]
    return f"{kind.__name__}({', '.join(fields)})" if depth else f"{kind.__name__}(...)"


def shortened(text: str, length: int) -> str:
    """Return a text, cut to so many characters if it is longer."""
    return text if len(text) <= length else f"{text[: length - 3]}..."
