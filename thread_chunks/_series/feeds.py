"""Where the calls of a series go in."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from itertools import chain, islice
from typing import Any, Protocol

from .._calls.calls import UNLIMITED, Arguments, Limits, Outcomes
from .._calls.functions import Function
from .._calls.mailbox import Mailbox
from .._calls.series import Delivery, Journal, Outbox, Series
from .._calls.supply import Supply
from .._dispatch.inbox import Inbox
from .._dispatch.messages import Abandon
from .._dispatch.naming import note_call, short_form


class Feed(Protocol):
    """Where the calls of a series go in."""

    outbox: Outbox
    admitted: int
    lazy: bool  # whether `refill` has anything to do
    arguments: dict[int, Arguments] | None  # those of calls whose values were not yielded, by label, if they are wanted

    def refill(self) -> None:
        """Let one more call in, if the input has one."""

    def add(self, args: Arguments) -> None:
        """Let a call in that is not of the input."""

    def leave_out(self) -> None:
        """Count a call that need not run, so that those behind it are known by their place."""

    def abandon(self) -> None:
        """Cancel the calls that have not started, and drop all references."""


class SeriesFeed:
    """Feed a `Series` to the dispatcher.

    Parameters
    ----------
    calls : iterable of tuple
        The arguments of the calls. A `Supply` is taken over as it is.
    chunksize : int or None
        Calls to a block.
    buffersize : int or None
        How far to run ahead of the consumer; None: let everything in now.
    owner : object
        The executor, if it is to be fed later on: until then it must not end by being dropped.
    journal : Journal or None
        Where values are kept.
    limits : Limits
        What the calls may take.
    with_arguments : bool
        Whether the arguments are wanted beside the values.
    """

    def __init__(
        self,
        inbox: Inbox,
        function: Function,
        calls: Iterable[Arguments],
        chunksize: int | None,
        buffersize: int | None,
        *,
        owner: object,
        journal: Journal | None = None,
        limits: Limits = UNLIMITED,
        with_arguments: bool = False,
    ) -> None:
        self.outbox: Outbox = Mailbox()
        self.admitted = 0
        self.lazy = buffersize is not None
        self.arguments: dict[int, Arguments] | None = {} if with_arguments else None
        if with_arguments and isinstance(calls, Supply):
            calls = chain(calls)  # each is looked at as it is let in
        self._owner = owner
        self._inbox = inbox
        self._rest = iter(()) if isinstance(calls, Supply) else iter(calls)
        self._series: Series | None = Series(function, weakref.ref(self.outbox), chunksize, journal, limits)
        if isinstance(calls, Supply):
            self._series.calls = calls
            self.admitted = len(calls)
            if self.admitted:
                inbox.admit(self._series)
        else:
            try:
                for args in islice(self._rest, buffersize):
                    self.add(args)
            except BaseException:
                self.abandon()
                raise
            if buffersize is None:
                self._rest = iter(())  # a `zip` refers to what came from it first

    def refill(self) -> None:
        """Let one more call in, if the input has one."""
        for args in islice(self._rest, 1):
            self.add(args)

    def abandon(self) -> None:
        """Cancel the calls that have not started, and drop all references."""
        if self._series is not None:
            self._inbox.post(Abandon(self._series))
        self._owner, self._rest, self._series, self.outbox = None, iter(()), None, Mailbox()
        if self.arguments is not None:
            self.arguments.clear()

    def add(self, args: Arguments) -> None:
        """Let a call in that is not of the input."""
        assert self._series is not None
        if self.arguments is not None:
            self.arguments[self.admitted] = args
        if self.admitted:
            self._inbox.feed(self._series, args)
        else:
            self._series.add(args)
            self._inbox.admit(self._series)
        self.admitted += 1

    def leave_out(self) -> None:
        """Count a call that need not run, so that those behind it are known by their place."""
        assert self._series is not None
        self._series.gaps.append(self.admitted)


class FutureFeed:
    """Feed calls through a `submit` that a subclass or a client library put in the place of ours."""

    def __init__(
        self,
        name: str,
        submit: Callable[[Arguments], Future[Any]],
        calls: Iterable[Arguments],
        buffersize: int | None,
        journal: Journal | None = None,
        *,
        with_arguments: bool = False,
    ) -> None:
        self.outbox: Outbox = Mailbox()
        self.admitted = 0
        self.lazy = buffersize is not None
        self.arguments: dict[int, Arguments] | None = {} if with_arguments else None
        self._name = name
        self._submit = submit
        self._rest = iter(calls)
        self._journal = journal
        self._futures: dict[int, Future[Any]] = {}
        self._left_out = 0
        try:
            for args in islice(self._rest, buffersize):
                self.add(args)
        except BaseException:
            self.abandon()
            raise

    def refill(self) -> None:
        """Let one more call in, if the input has one."""
        for args in islice(self._rest, 1):
            self.add(args)

    def abandon(self) -> None:
        """Cancel the calls that have not started, and drop all references."""
        self._submit, self._rest, self._journal = _no_submit, iter(()), None
        for future in list(self._futures.values()):
            future.cancel()
        self.outbox = Mailbox()
        if self.arguments is not None:
            self.arguments.clear()

    def add(self, args: Arguments) -> None:
        """Let a call in that is not of the input."""
        label = self.admitted
        if self.arguments is not None:
            self.arguments[label] = args
        future = self._futures[label] = self._submit(args)
        self.admitted += 1
        journal = self._journal  # which has to know of what finishes after it is not wanted any more
        index = label + self._left_out
        future.add_done_callback(lambda done: self._done(label, index, args, done, journal))

    def leave_out(self) -> None:
        """Count a call that need not run, so that those behind it are known by their place."""
        self._left_out += 1

    def _done(self, label: int, index: int, args: Arguments, future: Future[Any], journal: Journal | None) -> None:
        self._futures.pop(label, None)
        if future.cancelled():
            outcomes = Outcomes.all_failed(1, CancelledError())
        elif (error := future.exception()) is not None:
            note_call(error, f"call {index} of the series, {self._name}({short_form(args)})")
            outcomes = Outcomes.all_failed(1, error)
        else:
            outcomes = Outcomes([future.result()])
        try:
            if journal is not None:
                journal.sent(label, args)
                journal.record(label, outcomes)
        finally:
            self.outbox.put(Delivery(label, outcomes))


def _no_submit(args: Arguments) -> Future[Any]:
    raise AssertionError("a feed that was abandoned is fed")
