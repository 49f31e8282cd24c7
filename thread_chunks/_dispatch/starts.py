"""Start workers: with pauses after some that died before they ran anything, and none after too many of those."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..errors import ExecutorBroken
from .cluster import Cluster, executor_broken
from .crew import Crew
from .messages import Message

_log = logging.getLogger("thread_chunks")

# After so many workers in a row that were lost before they finished a call, no more are started.
# Fewer, and a passing fault would end hours of work; more, and the user waits for an image that can't import.
_MAX_FAILED = 5

# How long to wait before the next one is started (s), after the first that failed; twice as long after each other.
_BACK_OFF = 0.5

# How many workers are started before what the others say is heard again: to start one takes a millisecond or three.
# Less, and it takes longer to start a thousand; more, and those that are up wait.
_AT_ONCE = 4

# After so many seconds a worker that is not up is talked about. Less, and the start of many workers on few CPUs is;
# more, and the user wonders.
_LONG = 10


class Starts:
    """Start workers, as many as there is work for. All belongs to the dispatcher's thread.

    Parameters
    ----------
    crew
        The dispatcher's.
    cluster : Cluster
        Where workers come from.
    post : callable
        The way to the dispatcher.
    clock : callable
        Tells the time.
    give_up : callable
        Breaks the executor.
    size : int
        How many workers there may be.

    Attributes
    ----------
    size : int
        The same, at present.
    all : bool
        Whether so many are to be started, whether there is work for them or not.
    failure : Exception or None
        Why the last attempt to have a worker failed.
    not_before : float
        When the next worker may be started, by the dispatcher's clock.
    """

    def __init__(
        self,
        crew: Crew,
        cluster: Cluster,
        post: Callable[[Message], None],
        clock: Callable[[], float],
        give_up: Callable[[ExecutorBroken], None],
        size: int,
    ) -> None:
        self._crew = crew
        self._cluster = cluster
        self._post = post
        self._clock = clock
        self._give_up = give_up
        self.size = size
        self.all = False
        self.failure: Exception | None = None
        self.not_before = 0.0
        self._failed = 0  # attempts in a row: workers were lost, and not a single call came to an end
        self._failed_at = -1.0  # when the last one did
        self._has_succeeded = False  # whether a call has ever come to an end
        self._has_more = False  # whether `start` left some for the next time
        self._has_warned = False  # of workers that are late, since all that there were had started, and none had failed

    @property
    def unfinished(self) -> bool:
        """Whether more are to be started as soon as there is time."""
        return self._has_more and len(self._crew) < self.size

    def start_all(self) -> None:
        """Start what is to be started whether there is work or not, however long that takes."""
        while self.all:
            count = len(self._crew)
            self.start(0)
            if len(self._crew) == count:
                return

    def start(self, wanted: int) -> None:
        """See to it that `wanted` workers are idle or starting, within `size`; start some, and be `unfinished`."""
        crew = self._crew
        available = len(crew.idle) + len(crew.starting)
        missing = min(self.size - len(crew), (self.size if self.all else wanted) - available)
        self._has_more = False
        if missing > 0 and self._failed >= _MAX_FAILED:
            text = f"{self._failed} workers in a row failed before one of them finished a call"
            self._do_without(text, self.failure)
            return
        if missing > 0 and self._failed and self._clock() < self.not_before:
            return
        if missing > 0 and not crew.starting and not self._failed:
            self._has_warned = False
        for _ in range(min(missing, _AT_ONCE)):
            index = crew.take_index()
            try:
                worker = self._cluster.start_worker(self._post, index)
            except Exception as error:
                crew.give_back_index(index)
                if isinstance(error, OSError) and self._has_succeeded:  # something is short, maybe for a moment
                    self.failed(self._clock(), error)
                else:
                    self._do_without("no worker can be started", error)
                return
            crew.add(worker, self._clock(), index)
        self._has_more = missing > _AT_ONCE
        self.all = self.all and self._has_more

    def one_fewer(self) -> None:
        """Let there be one worker fewer from now on."""
        self.size -= 1

    def warn_of_late(self, now: float) -> None:
        """Log how many workers have been starting for long, and why, once until all that start are up."""
        late = sum(now - member.called > _LONG for member in self._crew.starting)
        if late and not self._has_warned:
            self._has_warned = True
            why = self._cluster.why_late(self.size)
            _log.warning("%d of %d workers are not up after %d s: %s", late, self.size, _LONG, why)

    def failed(self, called: float, error: Exception) -> None:
        """Start the next worker later: the one called then was lost before it finished a call, though it may be up."""
        self.failure = error
        if called > self._failed_at:  # else it is of an attempt that has failed already
            self._failed_at = now = self._clock()
            self.not_before = now + _BACK_OFF * 2**self._failed
            self._failed += 1

    def succeeded(self) -> None:
        """End the row of failed attempts: a call came to its end."""
        self._failed = 0
        self._has_succeeded = True

    def _do_without(self, why: str, error: BaseException | None) -> None:
        """Start no more workers: go on with those that are up, and break if no worker is up."""
        self.size = len(self._crew)
        self.all = False
        if self.size == 0:
            self._give_up(executor_broken(why, error))
        else:
            _log.warning("%s; going on with %d: %s", why, self.size, error)
