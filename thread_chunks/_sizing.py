"""How many calls make the next block: enough to hide what a message costs, and no more.

A message to an actor and back costs about a millisecond, and a call may cost a microsecond. So a
block has as many calls as fill a target time, by what the calls of its function took before.
"""

from __future__ import annotations

# What a block should take (s). Less, and what the messages cost shows: calls of 10 ms lose 5 % at this target, and
# 10 % at half of it. More, and people see that values come in bunches, there is more to be taken back when a call
# takes long, and a lost worker costs more calls.
TARGET = 0.1

# By how much a block may be longer than the longest so far. Less, and a million short calls need
# many blocks until they travel well; more, and a few calls by chance short bring a block that
# takes far too long.
_GROWTH = 16

# The shortest that blocks get towards the end of a series (s): messages for less work than this cost
# more than unequal ends do.
_SHORTEST = 0.002

# When a block is overdue: after so many times what it should take, and not before so many seconds.
# Less, and every hiccup of a busy machine costs a message and the pace; more, and the calls behind a
# long one wait longer, though a worker may be idle.
_OVERDUE = 2.5
_OVERDUE_AT_LEAST = 0.05


class Pace:
    """How long the calls of one function take, and what follows for its blocks.

    Slow to believe that calls got faster, quick to believe that they got slower: a block that is too
    short costs a millisecond, one that is too long holds calls back.

    Examples
    --------
    >>> pace = Pace()
    >>> pace.block_length(waiting=1000, workers=2)
    1
    >>> pace.observe(calls=1, seconds=0.001)
    >>> pace.block_length(waiting=1000, workers=2)
    16
    """

    __slots__ = ("_length", "_seconds")

    def __init__(self) -> None:
        self._length = 1
        self._seconds = 0.0  # of one call; 0 until the first is observed

    def observe(self, calls: int, seconds: float) -> None:
        """Learn from a block of `calls` calls (at least 1) that took `seconds`."""
        latest = max(seconds / calls, 1e-9)
        self._seconds = max(latest, (latest + self._seconds) / 2)
        self._length = max(1, min(int(TARGET / self._seconds), max(self._length, calls) * _GROWTH))

    def doubt(self) -> None:
        """Begin anew, with single calls: a block took far longer than it should have."""
        self._length = 1

    def block_length(self, waiting: int, workers: int) -> int:
        """Return how many of the `waiting` calls (at least 1) go into the next block.

        Half of an equal share at most, so that blocks get shorter towards the end, and all of the
        `workers` end together.
        """
        share = -(-waiting // (2 * workers))
        shortest = int(_SHORTEST / self._seconds) if self._seconds else 1
        return min(waiting, self._length, max(share, shortest))

    def overdue(self, calls: int) -> float:
        """Return after how many seconds a block of so many calls is overdue."""
        return max(_OVERDUE_AT_LEAST, _OVERDUE * calls * self._seconds)
