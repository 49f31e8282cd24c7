"""Calls that wait for futures among their arguments: they hold no worker, and stand in no queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

from .._calls.calls import Arguments, Call, KeptCall, extended, parts_of
from .messages import Depending, Message, Satisfied
from .queue import Queue


def futures_among(args: Arguments) -> list[Future[Any]]:
    """Return the futures that are arguments by themselves, positional or by keyword."""
    positional, extras = parts_of(args)
    values = (*positional, *extras.keywords.values())
    return [value for value in values if issubclass(type(value), Future)]


def link(depending: Depending, post: Callable[[Message], None]) -> None:
    """Let the dispatcher hear of what a call waits for, and of its cancellation.

    By messages, whoever resolves the futures: a chain of calls, each of which resolves the next one's, may be long.
    """
    depending.call.future.add_done_callback(_Link(depending, post))
    for future in depending.futures:
        future.add_done_callback(_Link(depending, post))


class _Link:
    """What a future calls, and what refers to nothing any more afterwards, though the future keeps it."""

    __slots__ = ("_depending", "_post")

    def __init__(self, depending: Depending, post: Callable[[Message], None]) -> None:
        self._depending: Depending | None = depending
        self._post: Callable[[Message], None] | None = post

    def __call__(self, future: Future[Any]) -> None:
        depending, self._depending = self._depending, None
        post, self._post = self._post, None
        if depending is not None and post is not None:
            post(Satisfied(depending, future))


class Dependents:
    """The calls that wait for futures. All belongs to the dispatcher's thread.

    Parameters
    ----------
    queue : Queue
        Where a call waits for a worker once it waits for no future any more.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._waiting: dict[Depending, int] = {}  # for how many futures each waits

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, depending: Depending) -> None:
        """Let a call wait."""
        self._waiting[depending] = len(depending.futures)

    def satisfied(self, depending: Depending, future: Future[Any]) -> None:
        """Let a call go on, or fail, as a future is over that it waits for; or forget it, as it was cancelled."""
        if depending not in self._waiting:
            return
        call = depending.call
        error = None if future.cancelled() else future.exception()
        if future is call.future:  # the user has cancelled it
            self._forget(depending)
            call.claim()  # which tells `wait` and `as_completed`
        elif future.cancelled() or isinstance(error, CancelledError):
            self._forget(depending)
            call.cancel()
        elif error is not None:
            self._forget(depending)
            if call.claim():
                call.resolve(None, error)
        else:
            self._waiting[depending] -= 1
            if not self._waiting[depending]:
                self._forget(depending)
                if _is_to_run(call):
                    self._queue.add(call)

    def cancel_all(self) -> None:
        """Cancel all calls that wait."""
        for call in self.drain():
            call.cancel()

    def drain(self) -> Iterator[Call]:
        """Yield all calls that wait, and let them wait no more."""
        while self._waiting:
            depending, _ = self._waiting.popitem()
            depending.futures.clear()
            yield depending.call

    def _forget(self, depending: Depending) -> None:
        del self._waiting[depending]
        depending.futures.clear()


def _is_to_run(call: Call) -> bool:
    """Give a call the values of what it waited for; return False if its own value, or an error, is there already."""
    args = call.given.args = _with_values(call.given.args)
    if isinstance(call, KeptCall):
        found: tuple[Any] | None = None
        error: BaseException | None = None
        try:
            found = call.keeper.find(args)
        except Exception as raised:  # the arguments have no hash, say
            error = raised
        if found is not None or error is not None:
            if call.claim():
                call.resolve(None if found is None else found[0], error)
            return False
    return True


def _with_values(args: Arguments) -> Arguments:
    """Return arguments with the values of the futures among them."""
    positional, extras = parts_of(args)
    keywords = {name: _value(value) for name, value in extras.keywords.items()}
    return extended(tuple(map(_value, positional)), keywords, extras.seed)


def _value(argument: Any) -> Any:
    return argument.result() if issubclass(type(argument), Future) else argument
