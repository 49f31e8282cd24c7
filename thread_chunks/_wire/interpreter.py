"""What a program has set in its interpreter, as far as a worker that runs already can take it over.

What is set at the start of a process alone is in `_system.flags`.
"""

from __future__ import annotations

import builtins
import re
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

_Text = str | re.Pattern[str] | None


class Filter(NamedTuple):
    """A warning filter; its category is named by module and qualified name."""

    action: str
    message: _Text
    category: tuple[str, str]
    module: _Text
    line: int


class _Named(type):
    """The type of what stands for a category of warnings: no worker loads a module for a filter alone."""

    def __subclasscheck__(cls, subclass: type) -> bool:
        return any(_name_of(base) == _name_of(cls) for base in subclass.__mro__)


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
    filters : list of Filter
        The warning filters.
    """

    recursion_limit: int
    digits: int | None
    warn_options: list[str]
    filters: list[Filter]

    @classmethod
    def here(cls) -> Interpreter:
        """Return the settings of this process."""
        digits = sys.get_int_max_str_digits() if hasattr(sys, "get_int_max_str_digits") else None
        filters = [
            Filter(action, message, _name_of(category), module, line)
            for action, message, category, module, line in list(warnings.filters)
            if isinstance(category, type)
        ]
        return cls(sys.getrecursionlimit(), digits, list(sys.warnoptions), filters)

    def take_over(self) -> None:
        """Let them be the settings of this process."""
        with suppress(RecursionError):  # this thread is deeper already than it may be
            sys.setrecursionlimit(self.recursion_limit)
        if self.digits is not None and hasattr(sys, "set_int_max_str_digits"):
            sys.set_int_max_str_digits(self.digits)
        sys.warnoptions[:] = self.warn_options
        warnings.resetwarnings()
        cast(list[Any], warnings.filters).extend(
            (each.action, each.message, _category(*each.category), each.module, each.line) for each in self.filters
        )


def _name_of(category: type) -> tuple[str, str]:
    return category.__module__, category.__qualname__


def _category(module: str, name: str) -> type[Warning]:
    if module == builtins.__name__:
        found: type[Warning] = getattr(builtins, name)
        return found
    return cast(type[Warning], _Named(name, (Warning,), {"__module__": module, "__qualname__": name}))
