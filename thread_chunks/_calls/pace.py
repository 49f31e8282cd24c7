"""How many calls make the next block: enough to hide what a message costs, and no more.

A message to a worker and back takes some 0.2 ms, and a call may take a microsecond. So a block has as many calls as
fill a target time, by what the calls of its function took before.
"""

from __future__ import annotations

# What a block should take (s). Less, and what the messages cost shows: a message and its answer take some 0.2 ms of
# CPU time at both ends, which calls that use all CPUs have to give up. More, and values come in bunches (of calls of
# 10 ms, half of them more than 15 ms late), more is taken back when a call takes long, and a lost worker costs more.
TARGET = 0.04

# The same for a series with `chunksize=1`, of which each value is wanted at once. Less, and messages take longer than
# the calls in them; more, and values are late, and calls wait for others, as the user will see.
PROMPT = 0.001

# What a block costs the driver (s of CPU time in all of its threads).
# Where there are many workers, blocks are so long that these costs are no more than this share of the driver's time,
# which the consumer of the values needs, too; towards the end of a series, where blocks get shorter, no more than the
# other share, if the blocks are no longer than `_END` (s). More, and workers wait for the driver; less, and values come
# in bunches, a lost worker costs more calls, and the workers do not end together: of 1,000 workers with calls of 10 ms,
# 4 % of the time is lost if the share at the end is 0.2, and 1.8 % if it is 0.5.
_COST = 0.0001
_SHARE = 0.1
_SHARE_AT_END = 0.5
_END = 0.5

# Up to which length of its calls (s) a block may be sent to a worker that runs another one, to wait there for its
# turn: that hides what a message and its answer take. Longer ones lose less than that by
# waiting for the answer, and lose more if they have to be taken back.
_BRIEF = 0.1

# No block is longer than this (s), however many workers there are: it has to be computed again if its worker is lost.
_LONGEST = 10.0

# By how much a block may be longer than the longest that was run. Less, and a million short calls need
# many blocks until they travel well; more, and a few calls by chance short bring a block that
# takes far too long.
_GROWTH = 16

# The same, once values have turned out to be so large that the worker ended a block before its time. Less, and it takes
# long until calls with smaller values travel well; more, and blocks are sent of which most comes back.
_CAREFUL_GROWTH = 2

# The shortest that blocks get towards the end of a series (s): messages for less work than this cost
# more than unequal ends do.
_SHORTEST = 0.001

# When a block is overdue: after so many times what it should take, and not before so many seconds.
# Less, and every hiccup of a busy machine costs a message and the pace; more, and the calls behind a
# long one wait longer, though a worker may be idle.
_OVERDUE = 2.5
_OVERDUE_AT_LEAST = 0.02


class Pace:
    """How long the calls of one function take, and what follows for its blocks.

    Slow to believe that calls got faster, quick to believe that they got slower: a block that is too
    short costs a message, one that is too long holds calls back.

    Examples
    --------
    >>> pace = Pace()
    >>> pace.block_length(waiting=1000, workers=2)
    1
    >>> pace.observe(calls=1, seconds=0.001)
    >>> pace.block_length(waiting=1000, workers=2)
    16
    """

    __slots__ = ("_growth", "_longest", "_seconds")

    def __init__(self) -> None:
        self._longest = 1  # calls in a block, by how many others had
        self._growth = _GROWTH
        self._seconds = 0.0  # of one call; 0 until the first is observed

    def observe(self, calls: int, seconds: float, *, full: bool = False) -> None:
        """Learn from `calls` calls (at least 1) of a block that took `seconds`; `full`: no more values would fit."""
        latest = max(seconds / calls, 1e-9)
        self._seconds = max(latest, (latest + self._seconds) / 2)
        if full:
            self._longest, self._growth = calls, _CAREFUL_GROWTH
        else:
            self._longest = max(1, min(int(_LONGEST / self._seconds), max(self._longest, calls * self._growth)))

    @property
    def brief(self) -> bool:
        """Whether calls are known to be so short that the time between two blocks matters."""
        return 0.0 < self._seconds < _BRIEF

    def worth_moving(self, calls: int) -> bool:
        """Return whether so many calls take longer than messages that give them to another worker."""
        return calls * self._seconds > _SHORTEST

    def doubt(self) -> None:
        """Begin anew, with single calls: a block took far longer than it should have."""
        self._longest = 1

    def block_length(self, waiting: int, workers: int, target: float = TARGET) -> int:
        """Return how many of the `waiting` calls (at least 1) go into the next block, which should take `target` (s).

        Half of an equal share at most, so that blocks get shorter towards the end, and all of the
        `workers` end together.
        """
        if not self._seconds:
            return 1
        share = -(-waiting // (2 * workers))
        turn = workers * _COST  # what it takes to serve all workers once
        longest, shortest = target, _SHORTEST
        if target >= TARGET and turn > TARGET * _SHARE:
            longest, shortest = turn / _SHARE, max(turn, min(turn / _SHARE_AT_END, _END))
        most = min(self._longest, round(longest / self._seconds))
        return max(1, min(waiting, most, max(share, int(shortest / self._seconds))))

    def overdue(self, calls: int) -> float:
        """Return after how many seconds a block of so many calls is overdue."""
        return max(_OVERDUE_AT_LEAST, _OVERDUE * calls * self._seconds)
