"""Log records of workers, as the driver's loggers handle them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

from .._dispatch.messages import Message
from .._wire.protocol import Logged
from .._wire.records import unpack_record
from .channels import Channels

# How long the end of an executor waits for handlers (s). Less, and the last records come after the end where handlers
# are slow; more, and one that waits for the executor's end holds that up.
_PATIENCE = 60.0

# After this time (s) the loop has read what was there before.
_SOON = 1e-6


class Logs:
    """Lets the driver's loggers handle what the workers of one executor log, in the order in which it comes.

    The thread is one of its own, as a handler may take long, or use the executor. What the dispatcher hears of a worker
    waits behind the records that the worker has sent before: once the outcome of a call is there, its records are
    handled.

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
        self._thread = threading.Thread(target=self._run, name="thread_chunks-logs", daemon=True)
        self._thread.start()

    def take(self, logged: Logged) -> None:
        """Let a record be handled. Any thread may call."""
        self._queue.put(partial(_handle, logged))

    def behind(self, post: Callable[[Message], None], message: Message) -> None:
        """Post a message when the records are handled that came before it. Any thread may call."""
        put = partial(self._queue.put, partial(post, message))
        if self._channels is None:
            put()
        else:
            self._channels.later(_SOON, put)

    def close(self) -> None:
        """End the thread when it has handled what there is."""
        self._queue.put(None)
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        while (action := self._queue.get()) is not None:
            action()
            del action  # which refers to what came of calls


def _handle(logged: Logged) -> None:
    try:
        record = unpack_record(logged)
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except BaseException:  # of a filter of the user's, say: outcomes wait behind it, and must not wait for ever
        known = logged.fields
        logging.Handler().handleError(
            logging.LogRecord(
                known["name"], known["levelno"], known["pathname"], known["lineno"], known["msg"], (), None
            )
        )
