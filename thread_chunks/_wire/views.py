"""What a function needs of the driver's globals: each in the version that was there as a call was submitted."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from .._calls.functions import Parcel
from .homes import MISSING, names_of
from .reducing import Key
from .states import Constant, State

# A check that takes longer than this (s) is not made again, while calls are pending, before so many times as long
# have passed. Less, and changes in place of large objects are seen late; more, and `submit` takes its time with them.
_LONG_CHECK = 1e-3
PAUSE = 20


@dataclass(slots=True, eq=False)
class Bundle:
    """Globals that were pickled together, so that they share what they shared. `number` tells their order."""

    number: int
    shipment: Any  # what the cluster made of the pickle


@dataclass(slots=True, eq=False)
class Version:
    """A global as it was: how it travels (None: there is no global of the name), what it was, what it uses in turn."""

    bundle: Bundle | None
    state: State
    uses: set[Key] = field(default_factory=set)
    shares: dict[Key, Version] = field(default_factory=dict)  # the globals that it refers to as objects
    partners: set[Key] = field(default_factory=set)  # of the bundle, those with which it shares a part
    any_name: bool = False

    def join(self, key: Key, other: Version, other_key: Key) -> None:
        """Note that it has parts of another, and needs what these need. The two go together, and share these parts."""
        for version, partner in ((self, other_key), (other, key)):
            version.partners.add(partner)
            version.uses.add(partner)
        self.uses |= other.uses - {key}
        self.shares |= {each: version for each, version in other.shares.items() if each != key}
        self.any_name |= other.any_name


class View:
    """The globals that a function needs.

    Attributes
    ----------
    roots : frozenset of Key
        Those that it names itself.
    versions : dict
        The versions of all that it needs.
    rest : dict
        The versions of what no function names, for who looks globals up by names that it makes up.
    """

    def __init__(
        self, roots: frozenset[Key], versions: dict[Key, Version], rest: dict[Key, Version], whole: bool
    ) -> None:
        self.roots, self.versions, self.rest, self.whole = roots, versions, rest, whole
        self._constants: list[tuple[dict[str, Any], str, Any]] = []
        self._others: list[tuple[dict[str, Any], str, State]] = []
        for (module, name), version in versions.items():
            state = version.state
            if isinstance(state, Constant):
                self._constants.append((names_of(module), name, state.value))
            else:
                self._others.append((names_of(module), name, state))
        self._seconds = 0.0  # that the last check took
        self._checked = time.perf_counter()

    def is_current(self, parcel: Parcel) -> bool:
        """Return whether all is what it was; `parcel` is the function's, of which calls may not be over yet."""
        for names, name, value in self._constants:
            if names.get(name, MISSING) is not value:
                return False
        if self.whole:
            return False
        began = time.perf_counter()
        if self._seconds > _LONG_CHECK and began - self._checked < PAUSE * self._seconds and parcel.pending:
            return True
        for names, name, state in self._others:
            if not state.same(names.get(name, MISSING)):
                return False
        self._checked = time.perf_counter()
        self._seconds = self._checked - began
        return True
