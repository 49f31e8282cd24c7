"""Functions by value: their code, what their closures hold, and the names of the globals that they use.

The globals themselves do not travel with a function. It finds them in its module, where `ledger` and `images` see to
it that they are what the driver has.
"""

from __future__ import annotations

import dis
import linecache
import marshal
import os
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

from .homes import names_of

Reduced = tuple[Any, ...]  # as `pickle.Pickler.reducer_override` returns it

# A function that has one of these names may use any global, by a name that it makes up.
_BY_ANY_NAME = frozenset(
    {"globals", "eval", "exec", "vars", "locals", "dir", "__dict__", "__globals__", "getmembers"}
    | {"__main__", "modules", "import_module", "__import__"}
)

# What a worker binds is the worker's own only if it has had the driver's before.
_OF_GLOBALS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"})

_IDENTIFIER = re.compile(r"[^\W\d]\w*")


class Cells:
    """Stand for the variables of closures, of which functions that share one still share it on arrival."""

    def __init__(self) -> None:
        self._cells: dict[int, _Cell] = {}

    def of(self, function: FunctionType) -> tuple[_Cell, ...]:
        """Return what stands for a function's variables."""
        return tuple(self._cells.setdefault(id(cell), _Cell(cell)) for cell in function.__closure__ or ())


class _Cell:
    """Stand for a variable of a closure, and arrive as a new one without contents."""

    def __init__(self, cell: CellType) -> None:
        self._cell = cell  # kept, so that no other gets its identity meanwhile

    def __reduce__(self) -> Reduced:
        return CellType, ()


def reduce_function(function: FunctionType, module: str, cells: Cells) -> Reduced:
    """Return the reduction of a function whose globals are those of `module`."""
    # What may refer back to the function (variables of the closure, defaults) is in the state, which pickle writes
    # once it has memorised the function itself.
    code = function.__code__
    state = {
        "modules": list(_imported_submodules(function)),
        "contents": [contents(cell) for cell in function.__closure__ or ()],
        "defaults": function.__defaults__,
        "kwdefaults": function.__kwdefaults__,
        "annotations": _annotations(function),
        "attributes": function.__dict__,
        "doc": function.__doc__,
        "qualname": function.__qualname__,
        "module": function.__module__,
        "source": _source(code),
    }
    return _make, (code, module, function.__name__, cells.of(function)), state, None, None, _fill


def reduce_code(code: CodeType) -> Reduced:
    """Return the reduction of code, which keeps the name of its file: tracebacks and `inspect` need it."""
    return marshal.loads, (marshal.dumps(code, 2),)  # later versions depend on who else refers to the constants


def _make(code: CodeType, module: str, name: str, cells: tuple[CellType, ...]) -> FunctionType:
    return FunctionType(code, names_of(module), name, None, cells)


def _fill(function: FunctionType, state: dict[str, Any]) -> None:
    for cell, value in zip(function.__closure__ or (), state["contents"], strict=True):
        if value:
            cell.cell_contents = value[0]
    function.__defaults__ = state["defaults"]
    function.__kwdefaults__ = state["kwdefaults"]
    if state["annotations"]:
        function.__annotations__ = state["annotations"]
    function.__dict__.update(state["attributes"])
    function.__doc__ = state["doc"]
    function.__qualname__ = state["qualname"]
    function.__module__ = state["module"]
    if state["source"] is not None:
        linecache.cache[function.__code__.co_filename] = state["source"]


def contents(cell: CellType) -> tuple[Any, ...]:
    """Return what a variable of a closure holds, or nothing."""
    try:
        return (cell.cell_contents,)
    except ValueError:  # assigned to later, or never
        return ()


@lru_cache(maxsize=4096)
def global_names(code: CodeType) -> frozenset[str]:
    """Return the names of the globals that code may read or bind, those of the functions in it included."""
    # By instruction: `co_names` holds attribute names too, and would drag in globals that the
    # function never reads.
    return frozenset(
        instruction.argval
        for each in _codes(code)
        for instruction in dis.get_instructions(each)
        if instruction.opname in _OF_GLOBALS
    )


@lru_cache(maxsize=4096)
def uses_any_name(code: CodeType) -> bool:
    """Return whether code may read globals by names that it makes up."""
    return any(not _BY_ANY_NAME.isdisjoint(each.co_names) for each in _codes(code))


def names_in(annotations: dict[str, Any]) -> Iterator[str]:
    """Yield the names that stand in annotations that are text."""
    for text in annotations.values():
        if type(text) is str:
            yield from _IDENTIFIER.findall(text)


def _annotations(function: FunctionType) -> dict[str, Any]:
    try:
        return function.__annotations__
    except Exception:  # evaluated when they are asked for, from Python 3.14 on
        return {}


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield `code` and all code nested in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _source(code: CodeType) -> Any:
    """Return the lines of the source if no file has them, as of a notebook's cell."""
    if code.co_filename in linecache.cache and not os.path.exists(code.co_filename):
        return linecache.cache[code.co_filename]
    return None


def _imported_submodules(function: FunctionType) -> Iterator[ModuleType]:
    """Yield the submodules that a function may reach as attributes of a package it uses.

    ``import scipy.optimize`` binds ``scipy`` only, and a module is pickled by its name: without
    this, the worker would import ``scipy`` and find no ``optimize`` in it.
    """
    names, code = function.__globals__, function.__code__
    used = [names.get(name) for name in global_names(code)]
    packages = {m.__name__ for m in used if isinstance(m, ModuleType) and hasattr(m, "__path__")}
    if not packages:
        return
    attributes = {name for each in _codes(code) for name in each.co_names}
    for name, module in list(sys.modules.items()):
        package, _, rest = name.partition(".")
        if module is not None and rest and package in packages and attributes.issuperset(rest.split(".")):
            yield module
