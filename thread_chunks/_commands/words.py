"""Texts as the commands print them."""

from __future__ import annotations

import sys


def printable(text: str) -> str:
    """Return a text that is not trusted as one printable line, without control characters."""
    line = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    encoding = sys.stdout.encoding or "ascii"
    return line.encode(encoding, "backslashreplace").decode(encoding)


def duration(seconds: float) -> str:
    """Return a duration in words, with at most two units."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
