"""How a worker dies: who says so, how far it was, and when the dispatcher learns of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from functools import partial

from ray.exceptions import OutOfMemoryError

from .._system.exits import Watch
from ..errors import WorkerLost
from .channels import Channels
from .deaths import lost
from .oom import KernelKills

# For how long a process may take to end that Ray calls dead, or that was killed (s). Less, and on a busy machine it is
# not known how far one was whose memory takes long to free; more, and the news of a process that lives on is late.
_TO_END = 5.0

# The same where its end does not come as an event, as there is no channel: other channels wait meanwhile.
_MOMENT = 0.5

# For how long Ray may take to say why a worker died (s). Less, and a kill for memory is not told from others on a busy
# machine; more, and calls wait longer where a child of the worker hides its death from Ray.
_PATIENCE = 1.0

_DIED = "its process has ended, and Ray does not say why"
_BROKEN = "its connection to the driver has ended"

# The number of the block that a worker began last, and the place of the call.
Progress = tuple[int, int]


class Fate:
    """What becomes of one worker.

    The end of its process is seen by the channel, which knows how far it was; Ray says why it died. Neither is sure to
    come: Ray does not see a death while a child of the worker holds its connection, and there may be no channel.

    `up` is called by a thread of Ray's, before the worker is used, and `close` by the dispatcher's. What is written by
    the loop's thread (`_word`, `_progress`, `_has_died`) is read there. `_is_over` is under the lock.

    Parameters
    ----------
    identity : bytes
        What the worker is known by.
    channels : Channels or None
        Where it connects.
    kernel_kills : KernelKills
        What the kernel killed for memory.
    conclude : callable
        Called once, when the worker is lost: takes the error, and how far the worker was, if that is known.
    """

    def __init__(
        self,
        identity: bytes,
        channels: Channels | None,
        kernel_kills: KernelKills,
        conclude: Callable[[WorkerLost, Progress | None], None],
    ) -> None:
        self.place = "not started yet"
        self._identity = identity
        self._channels = channels
        self._kernel_kills = kernel_kills
        self._tell = conclude
        self._pid = 0
        self._has_channel = False
        self._watch: Watch | None = None  # if it is on this machine
        self._word: BaseException | None = None  # what Ray said
        self._progress: Progress | None = None
        self._has_died = False
        self._lock = threading.Lock()
        self._is_over = False
        self.was_killed = False  # by the executor: set by the dispatcher's thread, before its end can be known

    def up(self, host: str, pid: int, *, connected: bool) -> None:
        """Record where the worker is."""
        self.place = f"process {pid} on {host}"
        self._pid, self._has_channel = pid, connected
        if host == socket.gethostname():
            self._watch = Watch(pid)
            self._kernel_kills.watch(pid)

    @property
    def is_over(self) -> bool:
        """Whether the worker is lost."""
        with self._lock:
            return self._is_over

    def close(self) -> None:
        """Watch nothing any more."""
        if self._watch is not None:
            self._watch.close()
            self._kernel_kills.forget(self._pid)

    def broke(self) -> None:
        """Take the worker to be lost, as its channel has ended, as soon as its process ends or that takes too long."""
        self._wait(_TO_END if self._sees_end else _PATIENCE, ConnectionError(_BROKEN))

    def died(self) -> None:
        """Take the worker to be lost, as its process has ended, as soon as Ray says why or that takes too long."""
        if self._channels is not None:
            self._progress = self._channels.progress_of(self._identity)
        self._has_died = True
        if self._word is None:
            self._wait(_PATIENCE, ConnectionError(_DIED))
        else:
            self._conclude(self._word)

    def lost(self, error: BaseException) -> None:
        """Take Ray's word that the worker is dead. How far it was is known when its process has ended."""
        self._wait(0.0, error, self._hear)

    def _hear(self, word: BaseException) -> None:
        self._word = word
        if self._sees_end and not self._has_died:
            self._wait(_TO_END, word)
        else:
            self._conclude(word)

    @property
    def _sees_end(self) -> bool:
        """Whether the end of the process comes as an event."""
        return self._has_channel and self._watch is not None and self._watch.is_held

    def _wait(self, seconds: float, error: BaseException, then: Callable[[BaseException], None] | None = None) -> None:
        then = self._conclude if then is None else then
        if self._channels is None:
            then(error)
        else:
            self._channels.later(seconds, partial(then, error))

    def _conclude(self, error: BaseException) -> None:
        with self._lock:
            is_over, self._is_over = self._is_over, True
        if not is_over:
            error = self._word or error  # Ray may have said why, while something else was waited for
            # Where there is a channel, its process has ended by now, or is not waited for.
            status = None if self._watch is None else self._watch.status(0.0 if self._has_channel else _MOMENT)
            by_kernel = (
                not (self.was_killed or self._watch is None or isinstance(error, OutOfMemoryError))
            ) and self._kernel_kills.take(self._pid, status)
            found = lost(self.place, error, was_up=bool(self._pid), by_kernel=by_kernel, status=status)
            self._tell(found, self._progress)
