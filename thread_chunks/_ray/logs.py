"""Log records of workers, as the driver's loggers handle them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue

from .._dispatch.messages import Message
from .._wire.protocol import Logged
from .._wire.records import unpack_record
from .channels import Channels

# How long the end of an executor waits for handlers (s). Less, and the last records come after the end where handlers
# are slow; more, and one that waits for the executor's end holds that up.
_PATIENCE = 60.0

# How long outcomes wait for handlers at most (s), and how often that is looked at. Less, and records of slow handlers
# come after the outcome of their call; more, and a handler that waits for an outcome does so for longer.
_AT_MOST = 1.0

# After this time (s) the loop has read what was there before.
_SOON = 1e-6


class Logs:
    """Lets the driver's loggers handle what the workers of one executor log, in the order in which it comes.

    The thread is one of its own, as a handler may take long, or use the executor. What the dispatcher hears of a worker
    waits behind the records that the worker has sent before: once the outcome of a call is there, its records are
    handled. It waits for a second or two at most, as a handler may itself wait for an outcome.

    Parameters
    ----------
    channels : Channels or None
        By which records come.

    Raises
    ------
    RuntimeError
        If there can be no more threads.
    """

    def __init__(self, channels: Channels | None) -> None:
        self._channels = channels
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # Messages that wait, each with its number, and since when. Under the lock, and posted under it: in their order.
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, float, Callable[[], None]]] = deque()
        self._count = 0
        self._is_timed = False
        self._thread = threading.Thread(target=self._run, name="thread_chunks-logs", daemon=True)
        self._thread.start()

    def take(self, logged: Logged) -> None:
        """Let a record be handled. Any thread may call."""
        self._queue.put(partial(_handle, logged))

    def behind(self, post: Callable[[Message], None], message: Message) -> None:
        """Post a message when the records are handled that came before it. Any thread may call."""
        with self._lock:
            self._count += 1
            self._waiting.append((self._count, time.monotonic(), partial(post, message)))
            put = partial(self._queue.put, partial(self._post_up_to, self._count))
            was_timed, self._is_timed = self._is_timed, True
        if self._channels is None:
            put()
            return
        self._channels.later(_SOON, put)
        if not was_timed:
            self._channels.later(_AT_MOST, self._post_late_ones)

    def close(self) -> None:
        """End the thread when it has handled what there is."""
        self._queue.put(None)
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        while (action := self._queue.get()) is not None:
            with suppress(BaseException):  # of a handler, which standard error has been told; outcomes wait behind it
                action()
            del action  # which refers to what came of calls

    def _post_up_to(self, number: int) -> None:
        with self._lock:
            while self._waiting and self._waiting[0][0] <= number:
                self._waiting.popleft()[2]()

    def _post_late_ones(self) -> None:
        now = time.monotonic()
        with self._lock:
            while self._waiting and self._waiting[0][1] <= now - _AT_MOST:
                self._waiting.popleft()[2]()
            self._is_timed = bool(self._waiting)
        if self._is_timed and self._channels is not None:
            self._channels.later(_AT_MOST, self._post_late_ones)


def _handle(logged: Logged) -> None:
    try:
        record = unpack_record(logged)
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except BaseException:  # of a filter of the user's, say: outcomes wait behind it, and must not wait for ever
        known = {"name": "?", "levelno": 0, "pathname": "?", "lineno": 0, "msg": "?", **logged.fields}
        where = known["name"], known["levelno"], known["pathname"], known["lineno"]
        logging.Handler().handleError(logging.LogRecord(*where, known["msg"], (), None))
