"""The way to the dispatcher, from any thread, and the gate in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty

from .._calls.calls import Arguments
from .._calls.mailbox import Mailbox
from .._calls.series import Series
from ..errors import ExecutorBroken
from .messages import Inspect, Message, More, Work


class Inbox:
    """The way to the dispatcher, from any thread, and the gate in it.

    Promise: what `admit` lets in is handled; once the gate is shut, nothing more is let in.
    """

    def __init__(self) -> None:
        self._messages: Mailbox[Message] = Mailbox()
        # Re-entrant: a signal handler or a finalizer may submit, or close, while its thread is in here.
        self._gate = threading.RLock()
        self._here = threading.local()
        # These are written under the gate, and never go back. So `check` may read them without it, before each call of
        # a series that is fed: at the worst it lets a call pass that comes too late, and the end of the series says so.
        self._closed = False
        self._deaf = False  # to questions
        self._broken: ExecutorBroken | None = None

    def admit(self, work: Work) -> None:
        """Let work in.

        Raises
        ------
        ExecutorBroken
            If the executor is broken.
        RuntimeError
            If it was shut down.
        """
        outer = self.is_used_here
        self._here.used = True
        try:
            with self._gate:
                self.check()
                self._messages.put(work)
        finally:
            self._here.used = outer

    @property
    def is_used_here(self) -> bool:
        """Whether the thread that asks is in the middle of letting work in, as a signal handler or a finalizer may be.

        What it waits for then may wait for it.
        """
        return getattr(self._here, "used", False)

    def shut(self) -> bool:
        """Shut the gate; return whether something has come. It may have come through while its thread shut the gate."""
        self.close()
        return bool(self._messages)

    def check(self) -> None:
        """Raise what `admit` would."""
        if self._broken is not None:
            # A copy, because an exception collects the tracebacks of all places it is raised in.
            raise ExecutorBroken(*self._broken.args) from self._broken.__cause__
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

    @property
    def state(self) -> str:
        """Whether work is let in, in a word or two."""
        return "broken" if self._broken is not None else "shut down" if self._closed else "open"

    def feed(self, series: Series, args: Arguments) -> None:
        """Add a call to a series that was admitted; raises as `admit` does."""
        self.check()
        series.add(args)
        # Read after the append: see `Queue._unqueue`.
        if not series.queued:
            self.admit(More(series))

    def ask(self, question: Inspect) -> bool:
        """Let a question in, also when work is refused. Returns whether it will be answered: False after the end."""
        with self._gate:
            if not self._deaf:
                self._messages.put(question)
            return not self._deaf

    def refuse_questions(self) -> None:
        """Let no question in any more."""
        with self._gate:
            self._deaf = True

    def close(self, broken: ExecutorBroken | None = None) -> None:
        """Shut the gate."""
        with self._gate:
            self._closed = True
            self._broken = self._broken or broken

    def post(self, message: Message) -> None:
        """Tell the dispatcher something that cannot be refused."""
        self._messages.put(message)

    def get(self, timeout: float | None = None) -> list[Message]:
        """Wait for a message, at most `timeout` seconds, and return it; or none if none came."""
        try:
            return [self._messages.get(timeout=timeout)]
        except Empty:
            return []

    def drain(self) -> Iterator[Message]:
        """Yield all messages that are there."""
        for _ in range(len(self._messages)):
            if self._messages:  # the handler of one of them may have taken the rest, too
                yield self._messages.get()
