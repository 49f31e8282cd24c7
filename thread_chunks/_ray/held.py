"""Which functions an actor holds, and what has to be sent for another."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import OrderedDict
from typing import Any

from .._calls.functions import Function, Parcel
from .._wire.holdings import Holdings
from .._wire.homes import edited
from .._wire.images import Shipment
from .._wire.protocol import CARRIED_KEY, STORED_KEY
from .runtime import RayRuntime
from .terms import Terms, pack_function

_log = logging.getLogger("thread_chunks")

# So many functions of series and `submit` a worker keeps. Fewer, and calls that alternate between
# functions ship them again and again; more, and a worker holds what is not called any more.
_FUNCTIONS_KEPT = 16


class Held:
    """What one actor holds. All but `doubt` belongs to the dispatcher's thread.

    Parameters
    ----------
    terms : Terms
    runtime : RayRuntime
    stored : Function
        The stored function that the actor is started with.
    """

    def __init__(self, terms: Terms, runtime: RayRuntime, stored: Function) -> None:
        self._runtime = runtime
        # The functions that the actor keeps; the one that was used last is last.
        self._functions: OrderedDict[bytes, weakref.ref[Parcel]] = OrderedDict()
        self._stored: Parcel | None = stored.parcel  # what the actor is known to hold as its own
        self._doubt = threading.Event()  # whether functions that were sent may not have arrived
        self._globals = Holdings(terms.ledger)
        _warn_of_edited()
        self.first = Shipment(stored.parcel.shipment, self._globals.update(terms.view, stored.view))

    def doubt(self) -> None:
        """Send everything again when it is needed. Any thread may call."""
        self._doubt.set()

    def replace(self, stored: Function) -> Shipment:
        """Return what brings another stored function."""
        self._stored = stored.parcel
        return Shipment(stored.parcel.shipment, self._globals.update(stored.view))

    def ship(self, function: Function, calls: Any) -> tuple[Any, list[bytes]]:
        """Return what is to be sent so that calls of a function can be run, and the keys of those it can forget.

        Raises
        ------
        Exception
            If the function cannot be pickled, or the object store is full.
        """
        if self._doubt.is_set():
            self._doubt.clear()
            self._functions.clear()
            self._globals.forget()
            self._stored = None
        shipped, forget = self._ship(function)
        update = self._globals.update_for(calls, function.view)
        return (shipped if update is None else Shipment(shipped, update)), forget

    def _ship(self, function: Function) -> tuple[Any, list[bytes]]:
        parcel = function.parcel
        if parcel.key == CARRIED_KEY:
            return None, []
        if parcel.failure is not None:
            raise parcel.failure
        if parcel.shipment is None and function.fn is not None:
            parcel.shipment = pack_function(function.fn, self._runtime)
        if parcel.key == STORED_KEY:
            held, self._stored = self._stored is parcel, parcel
            return (None if held else parcel.shipment), []
        held = self._functions.pop(parcel.key, None) is not None
        forget = [key for key, kept in self._functions.items() if kept() is None]  # of series that are over
        forget += list(self._functions)[: max(0, len(self._functions) - len(forget) + 1 - _FUNCTIONS_KEPT)]
        for key in forget:
            self._functions.pop(key, None)
        self._functions[parcel.key] = weakref.ref(parcel)
        if not held:
            _warn_of_edited()
        return (None if held else parcel.shipment), forget


def _warn_of_edited() -> None:
    """Warn of modules whose files have changed since the driver loaded them."""
    for name in edited():
        _log.warning(
            "the file of the module %s has changed since this process loaded it. Workers that load it from now on run "
            "the new code, and the others the old one. importlib.reload gives all of them the new code",
            name,
        )
