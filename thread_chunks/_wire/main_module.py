"""Functions and classes of ``__main__``: they travel by value, yet each worker has one of each.

No worker can import the driver's ``__main__``, so what it defines is sent as code. Sent by
cloudpickle alone, each arrival would bring globals of its own: what an initializer, or an earlier
call, did to a global or to a class would not be seen by the next call, as it is in a forked child
of `ProcessPoolExecutor`. So here they share one dictionary in a worker, the worker's image of
``__main__``:

* a global is taken from the driver when a function first needs it; from then on it is the
  worker's own, as in a forked child;
* functions and classes are replaced by newer ones, because in a notebook they are redefined all
  the time; so are numbers, strings and the like, unless a call has assigned to them;
* on the way back, what the image holds travels by name, and arrives as the driver's own.
"""

from __future__ import annotations

import builtins
import dis
import functools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

# The worker's image of the driver's `__main__`. Only the thread that runs calls writes it.
_image: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
_received: dict[str, Any] = {}  # what the driver sent, to tell what a call has assigned to since
_complete: weakref.WeakSet[type] = weakref.WeakSet()  # the classes that arrived with all that is in them

_CONSTANTS = (int, float, complex, bool, str, bytes, type(None), tuple, frozenset)
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_LRU_CACHE = type(functools.lru_cache(abs))

_MISSING = object()

Reduced = tuple[Any, ...]  # as `pickle.Pickler.reducer_override` returns it


class MainReducer:
    """Reduces what belongs to ``__main__``, for one pickle.

    Parameters
    ----------
    homewards : bool
        Whether the pickle goes back to the driver, who has the originals.
    """

    def __init__(self, *, homewards: bool) -> None:
        self._homewards = homewards
        # By identity, so that functions which share a variable still share it on arrival.
        self._cells: dict[int, _Cell] = {}

    def reduce(self, obj: Any, by_value: Callable[[Any], Any]) -> Any:
        """Return what `pickle.Pickler.reducer_override` returns; `by_value` is cloudpickle's."""
        kind = type(obj)
        if kind is functools.cached_property and sys.version_info < (3, 12):  # has a lock before
            return _cached_property, (obj.func, obj.attrname)
        if kind is _LRU_CACHE and getattr(obj, "__module__", None) == "__main__":
            return self._by_name(obj) or (_lru_cache, (obj.__wrapped__, obj.cache_parameters()))
        if kind is FunctionType:
            if obj.__globals__ is _image or obj.__globals__ is vars(sys.modules["__main__"]):
                return self._by_name(obj) or self._function(obj)
        elif issubclass(kind, type) and obj.__module__ == "__main__":
            return self._by_name(obj) or _class(by_value(obj))
        elif self._homewards and kind.__module__ == "__main__" and "__setstate__" not in dir(kind):
            return _instance(obj.__reduce_ex__(5))
        return by_value(obj)

    def _by_name(self, obj: Any) -> Reduced | None:
        if self._homewards and _look_up(_image, obj.__qualname__) is obj:
            return _named, (obj.__qualname__,)
        return None

    def _function(self, function: FunctionType) -> Reduced:
        # What may refer back to the function (globals, variables of the closure, defaults) is in
        # the state, which pickle writes once it has memorised the function itself.
        code = function.__code__
        names = {"__package__", "__file__", *_global_names(code)}
        used = {name: function.__globals__[name] for name in names if name in function.__globals__}
        modules = list(_imported_submodules(used, code))
        closure = function.__closure__ or ()
        state = {
            # A lock cannot be sent, and one of the driver's would be of no use: each worker has its own.
            "globals": {name: _Lock(type(value)) if type(value) in _LOCKS else value for name, value in used.items()},
            "modules": modules,
            "contents": [_contents(cell) for cell in closure],
            "defaults": function.__defaults__,
            "kwdefaults": function.__kwdefaults__,
            "annotations": _annotations(function),
            "attributes": function.__dict__,
            "doc": function.__doc__,
            "qualname": function.__qualname__,
        }
        cells = tuple(self._cells.setdefault(id(cell), _Cell(cell)) for cell in closure)
        return _make, (code, function.__name__, cells), state, None, None, _fill


class _Cell:
    """Stands for a variable of a closure, and arrives as a new one without contents."""

    def __init__(self, cell: CellType) -> None:
        self._cell = cell  # kept, so that no other gets its identity meanwhile

    def __reduce__(self) -> Reduced:
        return _make_cell, ()


class _Lock:
    """Stands for a lock, and arrives as a new one."""

    def __init__(self, kind: type) -> None:
        self._make = threading.Lock if kind is _LOCKS[0] else threading.RLock

    def __reduce__(self) -> Reduced:
        return self._make, ()


def _make_cell() -> CellType:
    return CellType()


def _make(code: CodeType, name: str, cells: tuple[CellType, ...]) -> FunctionType:
    return FunctionType(code, _image, name, None, cells)


def _fill(function: FunctionType, state: dict[str, Any]) -> None:
    for name, value in state["globals"].items():
        if name not in _image or _replaceable(name, value):
            _image[name] = _received[name] = value
    for cell, contents in zip(function.__closure__ or (), state["contents"], strict=True):
        if contents:
            cell.cell_contents = contents[0]
    function.__defaults__ = state["defaults"]
    function.__kwdefaults__ = state["kwdefaults"]
    function.__annotations__ = state["annotations"]
    function.__dict__.update(state["attributes"])
    function.__doc__ = state["doc"]
    function.__qualname__ = state["qualname"]
    function.__module__ = "__main__"
    if function.__qualname__ == function.__name__:
        _image[function.__name__] = function


def _replaceable(name: str, value: Any) -> bool:
    if isinstance(value, (FunctionType, _LRU_CACHE, type)):
        return True
    return type(_image[name]) in _CONSTANTS and _image[name] is _received.get(name, _MISSING)


def _class(reduced: Any) -> Reduced:
    """Return cloudpickle's reduction of a class, with a setter that leaves alone what was set before."""
    make, args, state, _, _, setter = reduced
    return make, args, (setter, state), None, None, _set_class


def _instance(reduced: Any) -> Any:
    """Return the reduction of an object whose class may have slots in the driver; by value it has none."""
    if isinstance(reduced, tuple) and len(reduced) > 2 and reduced[2] is not None:
        return *(*reduced, None, None)[:5], _set_state
    return reduced


def _set_state(obj: Any, state: Any) -> None:
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    slots = slots or {}
    if hasattr(obj, "__dict__"):
        obj.__dict__.update({name: value for name, value in (attributes or {}).items() if name not in slots})
    else:
        slots = {**(attributes or {}), **slots}
    for name, value in slots.items():
        object.__setattr__(obj, name, value)


def _set_class(cls: type, state: tuple[Callable[[type, Any], Any], Any]) -> None:
    # Not by the image: a method that mentions its class has brought it there, still empty.
    if cls not in _complete:
        setter, original = state
        setter(cls, original)
        _complete.add(cls)
        if "." not in cls.__qualname__:
            _image[cls.__qualname__] = cls


def _named(qualname: str) -> Any:
    """Return what ``__main__`` has under a name: its image in a worker, itself in the driver."""
    found = _look_up(_image, qualname)
    if found is _MISSING:
        found = _look_up(vars(sys.modules["__main__"]), qualname)
    if found is _MISSING:
        raise AttributeError(f"__main__ has no {qualname!r} any more")
    return found


def _look_up(names: dict[str, Any], qualname: str) -> Any:
    first, *rest = qualname.split(".")
    found = names.get(first, _MISSING)
    for name in rest:
        found = getattr(found, name, _MISSING)
    return found


def _lru_cache(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _cached_property(function: Callable[..., Any], name: str) -> Any:
    made: functools.cached_property[Any] = functools.cached_property(function)
    made.__set_name__(object, name)
    return made


def _contents(cell: CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # assigned to later, or never
        return ()


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
