"""Write commands that set environment variables, for each kind of shell."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping

SHELLS = ("sh", "csh", "fish")


def guess() -> str:
    """Return the kind of the user's login shell. bash and zsh are of the kind ``sh``."""
    name = os.path.basename(os.environ.get("SHELL", ""))
    return "fish" if name == "fish" else "csh" if name.endswith("csh") else "sh"


def commands(settings: Mapping[str, str | None], shell: str) -> str:
    """Return lines for the ``eval`` of a shell, which set variables, or remove those that are None."""
    return "\n".join(_command(name, value, shell) for name, value in settings.items())


def _command(name: str, value: str | None, shell: str) -> str:
    if shell == "fish":
        # In single quotes, a backslash escapes only a quote or another backslash.
        return f"set -e {name};" if value is None else f"set -gx {name} '{_escaped(value)}';"
    if shell == "csh":
        # csh replaces `!` even in quotes.
        return (
            f"unsetenv {name};" if value is None else f"setenv {name} {shlex.quote(value).replace('!', chr(92) + '!')};"
        )
    return f"unset {name};" if value is None else f"{name}={shlex.quote(value)}; export {name};"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
