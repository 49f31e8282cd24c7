"""How many calls make the next block."""

from __future__ import annotations


def block_length(waiting: int, chunksize: int | None) -> int:
    """Return how many of the `waiting` calls of a series go into its next block.

    Parameters
    ----------
    waiting : int
        Calls of the series that are not in a block yet; at least 1.
    chunksize : int or None
        What the user asked for. None: one call to a block, which balances best.
    """
    return min(waiting, chunksize or 1)
