"""What the commands print."""

from __future__ import annotations

import sys


def printable(text: str) -> str:
    """Return a text that may come from a stranger as one line that does nothing to a terminal, and can be printed."""
    line = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    encoding = sys.stdout.encoding or "ascii"
    return line.encode(encoding, "backslashreplace").decode(encoding)


def duration(seconds: float) -> str:
    """Return a time in words, of two units at most."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
