"""Make functions that travel of those that users give: each is pickled once, while it stays what it is."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any
from uuid import uuid4

from .._calls.functions import Function, Parcel
from .._calls.pace import Pace
from .homes import is_by_name, is_home, names_of
from .ledger import Ledger
from .pickling import Packed
from .protocol import CARRIED_KEY, STORED_KEY
from .reducing import Key, key_of
from .states import State, state_of
from .views import View


@dataclass(slots=True)
class _Kept:
    """How a function travelled, and what it was then; nothing here refers to it."""

    parcel: Parcel
    view: View | None
    state: State | None  # None for a function that travels by its name, which is a global that the view has
    objects: dict[Key, int] = field(default_factory=dict)  # the globals that stand for what it holds, by identity

    def fits(self, fn: Any) -> bool:
        """Return whether the function consists of what it did then."""
        if self.state is None:
            return True
        return self.state.same(fn) and (not self.objects or self.objects == _identities(self.objects))


class Parcels:
    """Make functions that travel. Any thread may ask.

    Parameters
    ----------
    ledger : Ledger
        Of the globals that they use.
    store : callable
        Takes a packed function, and returns what is sent for it.
    """

    def __init__(self, ledger: Ledger, store: Callable[[Packed], Any]) -> None:
        self._ledger = ledger
        self._store = store
        self._kept: weakref.WeakKeyDictionary[Any, _Kept] = weakref.WeakKeyDictionary()

    def for_call(self, fn: Callable[..., Any], pace: Pace) -> Function:
        """Return a function of `submit`, which may be given again."""
        if type(fn) is not FunctionType:
            return Function(fn, Parcel(CARRIED_KEY, pace=pace), view=self._view_beneath(fn))
        kept = self._kept.get(fn)
        if kept is None:
            kept = self._kept.setdefault(fn, self._keep(fn, pace))
        elif not kept.fits(fn):
            kept = self._kept[fn] = self._keep(fn, pace)
        elif kept.view is not None and not kept.view.is_current(kept.parcel):
            parcel, view = self._renewed(fn, kept.parcel, kept.view)
            kept = self._kept[fn] = replace(kept, parcel=parcel, view=view)
        return Function(fn, kept.parcel, view=kept.view)

    def for_series(self, fn: Callable[..., Any], pace: Pace) -> Function:
        """Return the function of a series, pickled now, unless it travels by its name and so has no state."""
        if type(fn) is FunctionType and is_by_name(fn):
            return self.for_call(fn, pace)
        if isinstance(fn, (BuiltinFunctionType, type)) and not is_home(fn.__module__):
            return Function(fn, Parcel(uuid4().bytes, pace=pace))
        kept = self._keep(fn, pace)
        return Function(fn, kept.parcel, view=kept.view)

    def renewed(self, fn: Callable[..., Any] | None, function: Function) -> Function:
        """Return the stored function, which is `fn`, with the globals that it uses as they are now."""
        view: Any = function.view
        if view is None or view.is_current(function.parcel):
            return function
        parcel, view = self._renewed(fn, function.parcel, view)
        return replace(function, parcel=parcel, view=view)

    def _renewed(self, fn: Any, parcel: Parcel, view: View) -> tuple[Parcel, View]:
        """Return the present view of a function, and a parcel that is another one if the function itself has changed.

        A function that travels by its name is a global, too: a worker has to look it up again.
        """
        renewed = self._ledger.view(view.roots, whole=view.whole, before=view)
        if type(fn) is FunctionType:
            itself = key_of(fn)
            if renewed.versions.get(itself) is not view.versions.get(itself):
                key = STORED_KEY if parcel.key == STORED_KEY else uuid4().bytes
                return replace(parcel, key=key), renewed
        return parcel, renewed

    def _keep(self, fn: Callable[..., Any], pace: Pace) -> _Kept:
        parcel = Parcel(uuid4().bytes, pace=pace)
        if type(fn) is FunctionType and is_by_name(fn) and not is_home(fn.__module__):
            return _Kept(parcel, None, None)  # it is pickled when it is first sent
        state = state_of(fn) if type(fn) is FunctionType and not is_by_name(fn) else None
        view = None
        objects: dict[Key, int] = {}
        try:
            packed, view = self._ledger.ship(fn)
            parcel.shipment, objects = self._store(packed), _identities(packed.objects)
        except Exception as error:
            parcel.failure = error
        return _Kept(parcel, view, state, objects)

    def _view_beneath(self, fn: Any) -> View | None:
        """Return the view of the function, or class, that a callable of another kind consists of."""
        while type(fn) in (partial, MethodType):
            fn = getattr(fn, "func", None) or fn.__func__
        if type(fn) is not FunctionType and not isinstance(fn, type):
            fn = type(fn)
        if not (is_home(fn.__module__) and is_by_name(fn)):
            return None
        kept = self._kept.get(fn)
        if kept is None:
            kept = self._kept.setdefault(fn, self._keep(fn, Pace()))
        elif kept.view is not None and not kept.view.is_current(kept.parcel):
            parcel, view = self._renewed(fn, kept.parcel, kept.view)
            kept = self._kept[fn] = replace(kept, parcel=parcel, view=view)
        return kept.view


def _identities(keys: Iterable[Key]) -> dict[Key, int]:
    return {(module, name): id(names_of(module).get(name)) for module, name in keys}
