"""Calls of `submit` that go through a checkpoint: what is there is not run, and what is not is recorded."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from types import BuiltinFunctionType, FunctionType
from typing import Any

from .._calls.calls import Arguments, Limits, Outcomes, extended
from .._calls.functions import Function
from .._checkpoints.identity import Identity, identify
from .._checkpoints.rows import to_bytes
from .._dispatch.engine import Engine
from .._system.callers import users_level
from .._wire.protocol import CARRIED_KEY
from ..errors import CheckpointFailedWarning
from .lookup import Lookup
from .recorder import NoRecorder, Recorder


class Submissions:
    """The calls of `submit` of one executor with a checkpoint. Any thread may submit.

    The k-th call of equal arguments is the k-th value, as in a series.

    Parameters
    ----------
    path : path-like
        The file.
    key : callable or None
        As for `map`.
    identity_of_actors : callable
        As for `Runner`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        key: Callable[..., str] | None,
        identity_of_actors: Callable[[], str],
    ) -> None:
        self.path = os.path.abspath(os.fsdecode(path))  # wherever the program goes
        self.key = key
        self._identity_of_actors = identity_of_actors
        self._lock = threading.Lock()
        # Under the lock. What a function was identified by lasts as long as it travels in the same way.
        self._pages: dict[Identity, _Page] = {}
        self._known: weakref.WeakKeyDictionary[Any, tuple[Any, Any, _Page]] = weakref.WeakKeyDictionary()

    def submit(
        self,
        engine: Engine,
        fn: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        limits: Limits,
        seed: int | None,
    ) -> Future[Any]:
        """Return a future that is over if the value is there; else let the call in."""
        engine.check_process()
        engine.inbox.check()
        function = engine.submitted(fn)
        with self._lock:
            page = self._page(engine, fn, function)
        page.warn_of_failure()
        carried = (fn,) if function.parcel.key == CARRIED_KEY else ()
        keeper = _Kept(page, len(carried))
        return engine.submit_kept(function, extended((*carried, *args), kwargs, seed), limits, keeper)

    def _page(self, engine: Engine, fn: Callable[..., Any] | None, function: Function) -> _Page:
        original = engine.original(fn)
        lasts = isinstance(original, (FunctionType, BuiltinFunctionType, type))
        stamp = (None, None) if isinstance(original, BuiltinFunctionType) else (function.parcel, function.view)
        if lasts and (known := self._known.get(original)) is not None and known[:2] == stamp:
            return known[2]
        identity = identify(original, self._identity_of_actors())
        page = self._pages.get(identity)
        if page is None:
            page = self._pages[identity] = _Page(Lookup(self.path, identity, self.key, endless=False), engine)
        if lasts:
            self._known[original] = (*stamp, page)
        return page


class _Page:
    """The calls of one function."""

    def __init__(self, lookup: Lookup, engine: Engine) -> None:
        self._lookup = lookup
        self._recorder: Recorder | NoRecorder = lookup.begin(None, engine.writers)
        self._labels = count()
        self._lock = threading.Lock()  # for the lookup
        self._warned = False

    def find(self, args: Arguments) -> tuple[int, tuple[Any] | None]:
        """Return the label of a call, and its value if that is there. If not, its outcome is expected."""
        with self._lock:
            key = self._lookup.key_of(args)
            label = next(self._labels)
            found = self._lookup.value_of(key)
        if found is None:
            self._recorder.expect(label, key)
        self._recorder.note([(label, key, to_bytes(args))], urgent=found is None)
        return label, found

    def sent(self, label: int, args: Arguments) -> None:
        """Look at a call's arguments once more, as it is sent."""
        self._recorder.sent(label, args)

    def record(self, label: int, outcomes: Outcomes) -> None:
        """Keep a call's value."""
        self._recorder.record(label, outcomes)

    def warn_of_failure(self) -> None:
        """Tell the user, once, if values cannot be written any more."""
        if (failure := self._recorder.failure) is not None and not self._warned:
            self._warned = True
            warnings.warn(failure, CheckpointFailedWarning, stacklevel=users_level())


class _Kept:
    """One call: the dispatcher's way to where its value is kept."""

    __slots__ = ("_carried", "_label", "_page")

    def __init__(self, page: _Page, carried: int) -> None:
        self._page = page
        self._carried = carried  # how many arguments are the function's
        self._label = -1

    def find(self, args: Arguments) -> tuple[Any] | None:
        """Return the value, if it is there."""
        self._label, found = self._page.find(args[self._carried :])
        return found

    def sent(self, args: Arguments) -> None:
        """Look at the arguments once more, as they are sent."""
        self._page.sent(self._label, args[self._carried :])

    def record(self, outcomes: Outcomes) -> None:
        """Keep the value."""
        self._page.record(self._label, outcomes)
