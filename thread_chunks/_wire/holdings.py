"""Which of the driver's globals a worker holds, and what it is sent of them."""

from __future__ import annotations

import sys
from typing import Any

from .homes import find_homes, names_of, reloads
from .images import PROCESS, Update
from .ledger import Ledger
from .pickling import Packed
from .reducing import Key
from .views import Bundle, Version, View


class Holdings:
    """Which versions of a ledger one worker holds. Belongs to the dispatcher's thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._reloads = len(reloads())  # of which the worker knows
        self.forget()

    def forget(self) -> None:
        """Note that what was sent may not have arrived."""
        self._held: dict[Key, Version] = {}
        self._packed: set[Key] = set()  # of these, those that it may not have unpacked
        self._modules: list[tuple[str, dict[str, Any]]] = []
        self._last: View | None = None  # which it has all of

    def update_for(self, calls: bytes | list[Packed | None], view: View | None) -> Update | None:
        """Return what the worker lacks for calls of a function with this view, and for their arguments."""
        uses: set[Key] = set()
        for call in calls if isinstance(calls, list) else ():
            if call is not None and call.uses:
                uses |= call.uses
                call.uses = frozenset()
        return self.update(view, self._ledger.view(uses) if uses else None)

    def update(self, view: View | None, more: View | None = None) -> Update | None:
        """Return what the worker lacks for calls that need these views, and note that it is sent."""
        loaded = reloads()
        if more is None and (view is None or view is self._last) and len(loaded) == self._reloads:
            return None
        again, self._reloads = list(dict.fromkeys(loaded[self._reloads :])), len(loaded)
        bundles: dict[Bundle, list[Key]] = {}
        needed: list[Key] = []
        gone: list[Key] = []
        self._last = view if more is None else None
        for each in (view, more):
            if each is not None:
                self._add(each, bundles, needed, gone)
        modules = describe_modules()
        if modules == self._modules and not (bundles or needed or gone or again):
            return None
        modules, self._modules = [] if modules == self._modules else modules, modules
        needed.sort(key=self._number)  # what is in one bundle may need what is in those before
        ordered = sorted(bundles, key=lambda bundle: bundle.number)
        return Update(PROCESS, modules, [(bundle.shipment, bundles[bundle]) for bundle in ordered], needed, gone, again)

    def _number(self, key: Key) -> int:
        bundle = self._held[key].bundle
        return -1 if bundle is None else bundle.number

    def _add(self, view: View, bundles: dict[Bundle, list[Key]], needed: list[Key], gone: list[Key]) -> None:
        for key, version in view.versions.items():
            if self._held.get(key) is not version:
                before, self._held[key] = self._held.get(key), version
                if version.bundle is not None:
                    bundles.setdefault(version.bundle, []).append(key)
                    needed.append(key)
                elif before is not None and before.bundle is not None:
                    gone.append(key)
            elif key in self._packed:
                needed.append(key)
            self._packed.discard(key)
        for key, version in view.rest.items():
            if self._held.get(key) is not version and version.bundle is not None:
                self._held[key] = version
                bundles.setdefault(version.bundle, []).append(key)
                self._packed.add(key)
        if view.whole:
            for key in [key for key in self._held if key[1] not in names_of(key[0]) and key not in view.versions]:
                gone.append(key)
                del self._held[key]


def describe_modules() -> list[tuple[str, dict[str, Any]]]:
    """Return what makes the modules that travel by value what they are, beside their names."""
    described = []
    for name in sorted(find_homes()):
        if name in sys.modules:
            names = names_of(name)
            spec = names.get("__spec__")
            attributes = {each: names.get(each) for each in ("__file__", "__doc__", "__package__")}
            attributes["__spec__"] = None if spec is None else (spec.name, spec.origin)
            attributes["__path__"] = list(names["__path__"]) if "__path__" in names else None
            described.append((name, attributes))
    return described
