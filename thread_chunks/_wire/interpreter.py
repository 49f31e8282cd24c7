"""What a program has set in its interpreter, as far as a worker that runs already can take it over.

What is set at the start of a process alone is in `_system.flags`.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from ..errors import PicklingFailed, UnpicklingFailed
from .pickling import Packed, pack, unpack
from .reducing import Key


@dataclass(slots=True)
class Interpreter:
    """Settings of an interpreter.

    Attributes
    ----------
    recursion_limit : int
        That of ``sys.setrecursionlimit``.
    digits : int or None
        How many digits an int may have as a string; None where Python has no such limit.
    warn_options : list of str
        Those of the command line (``-W``). Processes that a call starts take them from there.
    filters : list of Packed
        The warning filters, without those that cannot be pickled.
    """

    recursion_limit: int
    digits: int | None
    warn_options: list[str]
    filters: list[Packed]

    @classmethod
    def here(cls) -> Interpreter:
        """Return the settings of this process."""
        filters = []
        for each in list(warnings.filters):
            with suppress(PicklingFailed):  # its category is one of a kind
                filters.append(pack(tuple(each)))
        digits = sys.get_int_max_str_digits() if hasattr(sys, "get_int_max_str_digits") else None
        return cls(sys.getrecursionlimit(), digits, list(sys.warnoptions), filters)

    @property
    def uses(self) -> frozenset[Key]:
        """The globals that have to be where they are taken over, for all of the filters."""
        return frozenset().union(*(packed.uses for packed in self.filters))

    def take_over(self) -> None:
        """Let them be the settings of this process; filters whose categories are not here are left out."""
        with suppress(RecursionError):  # this thread is deeper already than it may be
            sys.setrecursionlimit(self.recursion_limit)
        if self.digits is not None and hasattr(sys, "set_int_max_str_digits"):
            sys.set_int_max_str_digits(self.digits)
        sys.warnoptions[:] = self.warn_options
        filters: list[Any] = []
        for packed in self.filters:
            with suppress(UnpicklingFailed):
                filters.append(unpack(packed))
        # In this order: modules that were imported for a category have set filters of their own.
        warnings.resetwarnings()
        cast(list[Any], warnings.filters).extend(filters)
