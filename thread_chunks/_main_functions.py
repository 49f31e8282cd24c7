"""Functions of ``__main__``: they travel by value, yet share one set of globals per worker.

No worker can import the driver's ``__main__``, so its functions are sent as code. Sent by
cloudpickle alone, each arrival would get globals of its own: what an initializer, or an earlier
call, did to a global would not be seen by the next function. In a forked child of
`ProcessPoolExecutor` it is. So here all of them get the same dictionary in a worker:

* a name is taken from the driver when a function first needs it; from then on it is the
  worker's own, as in a forked child;
* functions and classes are the exception: the newer one replaces the older, because in a
  notebook they are redefined all the time.
"""

from __future__ import annotations

import builtins
import dis
import sys
from collections.abc import Callable, Iterator
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

# The driver's `__main__` as this worker knows it. Only the thread that runs calls writes it.
_globals: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}

Reduced = tuple[Callable[..., Any], tuple[Any, ...], Any, None, None, Callable[[Any, Any], None]]


def is_main_function(obj: object) -> bool:
    """Whether `obj` is a function whose globals are those of this process's ``__main__``."""
    return type(obj) is FunctionType and obj.__globals__ is vars(sys.modules["__main__"])


def reduce_main_function(function: FunctionType) -> Reduced:
    """Return what `pickle.Pickler.reducer_override` returns, with the globals that are used.

    What may refer back to the function (globals, closure, defaults) is in the state, which
    pickle writes once it has memorised the function itself.
    """
    code = function.__code__
    names = set(_global_names(code))
    used = {name: function.__globals__[name] for name in names if name in function.__globals__}
    state = {
        "globals": used,
        "modules": list(_imported_submodules(used, code)),
        "closure": [_contents(cell) for cell in function.__closure__ or ()],
        "defaults": function.__defaults__,
        "kwdefaults": function.__kwdefaults__,
        "attributes": function.__dict__,
        "doc": function.__doc__,
        "qualname": function.__qualname__,
    }
    return _make, (code, function.__name__), state, None, None, _fill


def _make(code: CodeType, name: str) -> FunctionType:
    cells = tuple(CellType() for _ in code.co_freevars)
    return FunctionType(code, _globals, name, None, cells)


def _fill(function: FunctionType, state: dict[str, Any]) -> None:
    for name, value in state["globals"].items():
        if name not in _globals or isinstance(value, (FunctionType, type)):
            _globals[name] = value
    for cell, contents in zip(function.__closure__ or (), state["closure"], strict=True):
        if contents:
            cell.cell_contents = contents[0]
    function.__defaults__ = state["defaults"]
    function.__kwdefaults__ = state["kwdefaults"]
    function.__dict__.update(state["attributes"])
    function.__doc__ = state["doc"]
    function.__qualname__ = state["qualname"]
    function.__module__ = "__main__"


def _contents(cell: CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # assigned to later, or never
        return ()


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield `code` and all code nested in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _global_names(code: CodeType) -> Iterator[str]:
    # By instruction: `co_names` holds attribute names too, and would drag in globals that the
    # function never reads.
    for each in _codes(code):
        for instruction in dis.get_instructions(each):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                yield instruction.argval


def _imported_submodules(used: dict[str, Any], code: CodeType) -> Iterator[ModuleType]:
    """Yield the submodules that the function may reach as attributes of a package it uses.

    ``import scipy.optimize`` binds ``scipy`` only, and a module is pickled by its name: without
    this, the worker would import ``scipy`` and find no ``optimize`` in it.
    """
    packages = {m.__name__ for m in used.values() if isinstance(m, ModuleType) and hasattr(m, "__path__")}
    if not packages:
        return
    attributes = {name for each in _codes(code) for name in each.co_names}
    for name, module in list(sys.modules.items()):
        package, _, rest = name.partition(".")
        if module is not None and rest and package in packages and attributes.issuperset(rest.split(".")):
            yield module
