"""Texts as the commands print them."""

from __future__ import annotations

import sys

# So much is shown of a text (characters): a function's name may be as long as whoever made a file likes. Less, and the
# longest paths are cut off; more, and a terminal is flooded.
_LONGEST = 5000


def printable(text: str) -> str:
    """Return a text that is not trusted as one printable line, without control characters and not too long."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    line = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    encoding = sys.stdout.encoding or "ascii"
    return line.encode(encoding, "backslashreplace").decode(encoding)


def duration(seconds: float) -> str:
    """Return a duration in words, with at most two units."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
