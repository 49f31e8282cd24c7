"""Options of Python's command line that a process must have from its start, as its environment gives them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# By attribute of `sys.flags`: -O, -X dev, -X utf8, -X warn_default_encoding.
_VARIABLES = {
    "optimize": "PYTHONOPTIMIZE",
    "dev_mode": "PYTHONDEVMODE",
    "utf8_mode": "PYTHONUTF8",
    "warn_default_encoding": "PYTHONWARNDEFAULTENCODING",
}


def flags_as_environment() -> dict[str, str]:
    """Return the variables that give other processes the flags of this one."""
    flags = {variable: int(getattr(sys.flags, name)) for name, variable in _VARIABLES.items()}
    return {variable: str(value) for variable, value in flags.items() if value}


@contextmanager
def flags_in_environment() -> Iterator[None]:
    """Give this process's flags to those that are started within the block."""
    given = flags_as_environment()
    before = {variable: os.environ.get(variable) for variable in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for variable, value in before.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value
