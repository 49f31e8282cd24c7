"""The engine: a dispatcher, its thread, and what the executors that share them share; and the end of the program."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError  # another one before Python 3.11
from contextlib import suppress
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, TypeVar

from .._calls.calls import Arguments, Call, Given, Keeper, KeptCall, Limits, extended
from .._calls.functions import NOT_ITS_VALUE, Function, name_of
from .._calls.pace import Pace
from .._checkpoints.writer import Writer
from .._system.forks import in_forked_children
from .._system.signals import interrupt_after
from .._wire.pickling import PLAIN
from .._wire.protocol import CARRIED_KEY
from ..report import Report, RunningCalls
from .cluster import WholeCluster, executor_broken
from .dependents import futures_among, link
from .dispatcher import Dispatcher
from .inbox import Inbox
from .messages import Cancel, Close, Depending, Inspect, ReplaceFunction, StartAll
from .running import find_candidates, running_calls

_T = TypeVar("_T")

# For how long a finalizer waits at most (s). Ray takes about one to stop; some seconds on a busy machine. More, and a
# thread that holds what the end needs (the lock of a module that is imported, say) stands still for longer.
_PATIENCE = 10.0

# The threads that have not ended, and the way to their dispatchers.
_threads: dict[threading.Thread, Inbox] = {}


class Engine:
    """Run the calls of the executors that share it.

    The executors refer to it, and so does a series that is fed as its consumer goes on. Neither its thread nor its
    dispatcher does: once the last executor is dropped, what was admitted is finished, and the thread ends.

    Parameters
    ----------
    cluster : WholeCluster
        Where the workers come from. The engine closes it at its end.
    func : callable or None
        The stored function. With None, there is one only if the workers are the user's actors, which hold it.
    size : int
        How many workers there may be.
    max_tasks : int or None
        As for `Dispatcher`.

    Attributes
    ----------
    cluster : WholeCluster
    inbox : Inbox
        The way to the dispatcher.
    chunk_size : int
        How many workers the user wants.
    writers : set of Writer
        The threads that write to checkpoints. The engine's thread ends after them.
    count_busy : callable
        Returns how many workers run a call. It does not refer to the engine, and any thread may call it.
    """

    def __init__(
        self, cluster: WholeCluster, func: Callable[..., Any] | None, size: int, max_tasks: int | None
    ) -> None:
        self.cluster = cluster
        self.inbox = Inbox()
        self.writers: set[Writer] = set()
        # The stored function: as the user gave it, and as the dispatcher knows it. Both are replaced at once.
        self._stored = None if func is None and cluster.replaceable else (func, cluster.stored)
        self._paces: weakref.WeakKeyDictionary[Any, Pace] = weakref.WeakKeyDictionary()
        self._pid = os.getpid()
        self.chunk_size = size
        self._dispatcher = Dispatcher(cluster, self.inbox, size, max_tasks)
        self.count_busy = self._dispatcher.crew.count_busy
        try:
            self._thread = start_thread(self._dispatcher, self.inbox, self.writers)
        except RuntimeError as error:  # a limit of the system
            cluster.close()
            raise executor_broken("the executor cannot be started", error) from error
        weakref.finalize(
            self, close_dropped, self._dispatcher, self.inbox, self._thread, cluster.may_wait, self._pid
        ).atexit = False
        if self._stored is not None:
            self.inbox.admit(StartAll())

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle a 'ChunkExecutor' object: to use an executor inside a call, make one there")

    def submit(
        self,
        fn: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        limits: Limits,
        seed: int | None = None,
    ) -> Future[Any]:
        """Let a call in, and return its future."""
        self.check_process()
        function = self.submitted(fn)
        if function.parcel.key == CARRIED_KEY:
            args = (fn, *args)
        call = Call(function, Given(extended(args, kwargs, seed)), limits)
        return self._admit(call, PLAIN.issuperset(map(type, args)) and not kwargs)

    def submit_kept(self, function: Function, args: Arguments, limits: Limits, keeper: Keeper) -> Future[Any]:
        """Let a call in whose value is kept, unless it is there; return its future."""
        futures = futures_among(args)
        found = None if futures else keeper.find(args)
        if found is not None:
            future: Future[Any] = Future()
            future.set_result(found[0])
            return future
        return self._admit(KeptCall(function, Given(args), limits, keeper=keeper), is_plain=not futures)

    def _admit(self, call: Call, is_plain: bool) -> Future[Any]:
        """Let a call in, now or when the futures among its arguments are over; it has no futures if it `is_plain`."""
        function = call.function
        if function.view is not None:
            function.parcel.latest = weakref.ref(call.future)
        if is_plain:
            self.inbox.admit(call)
        elif futures := futures_among(call.given.args):
            depending = Depending(call, futures)
            self.inbox.admit(depending)
            link(depending, self.inbox.post)
        else:
            self.inbox.admit(call)
        return call.future

    def cancel(self, future: Future[Any]) -> bool:
        """Cancel a call that was sent; return False if it is over, or of another engine, or cannot be cancelled."""
        if not self.cluster.replaceable or not self._ask(partial(self._dispatcher.has, future)):
            return False
        self.inbox.post(Cancel(future))
        return True

    @property
    def size(self) -> int:
        """How many workers there may be at present."""
        return self._dispatcher.size

    def resize(self, size: int) -> None:
        """Let there be so many workers from now on."""
        self.check_process()
        answer: Future[None] = Future()
        self.inbox.admit(Inspect(partial(self._dispatcher.resize, size), answer))
        self.chunk_size = size
        if self._stored is not None:
            self.inbox.admit(StartAll())
        if threading.current_thread() is not self._thread:
            answer.result()

    @property
    def handles(self) -> list[Any]:
        """The handles of all workers. Raises as `Inbox.admit` if the engine was shut down."""
        if threading.current_thread() is self._thread:
            return self._dispatcher.handles
        answer: Future[list[Any]] = Future()
        self.check_process()
        self.inbox.admit(Inspect(partial(getattr, self._dispatcher, "handles"), answer))
        return answer.result()

    def running(self, *, stacks: bool, timeout: float) -> RunningCalls:
        """Return what runs now, as `ChunkExecutor.running`."""
        return running_calls(self._ask(partial(find_candidates, self._dispatcher, stacks)), timeout=timeout)

    def report(self) -> Report:
        """Return what came of the calls so far."""
        return self._ask(partial(self._dispatcher.record.report, self._dispatcher.crew))

    @property
    def state(self) -> str:
        """How many workers there are, how many are busy, and whether work is let in, in words. It waits for nothing."""
        return (
            self.inbox.state
            if self._dispatcher.settled.is_set()
            else f"{self._dispatcher.crew.state_of(self.size)}, {self.inbox.state}"
        )

    @property
    def has_stored(self) -> bool:
        """Whether there is a stored function."""
        return self._stored is not None

    def set_func(self, func: Callable[..., Any]) -> None:
        """Replace the stored function, for the calls that are submitted from now on."""
        self.check_process()
        self.inbox.check()
        function = self.cluster.replace_function(func)
        self.inbox.admit(ReplaceFunction(function))
        self._stored = func, function

    def original(self, fn: Callable[..., Any] | None) -> Callable[..., Any]:
        """Return the function that `fn` means, which may be known to the user's actors only."""
        if fn is None and self._stored is not None:
            fn = self._stored[0] or self.cluster.ask(self.handles[0], "get_func")
        if fn is None:
            raise ValueError("no function: none was stored in the executor, and none is given")
        return fn

    def name_of(self, fn: Callable[..., Any] | None) -> str:
        """Return the name of the function that `fn` means, for messages."""
        if fn is None:
            return "the stored function" if self._stored is None else self._stored[1].name
        return name_of(fn)

    def function_of_series(self, fn: Callable[..., Any] | None) -> Function:
        """Return the function of a series: the stored one if `fn` means it, else one that is sent for the series."""
        function = self._meant(fn)
        if function is None:
            assert fn is not None
            function = self.cluster.parcels.for_series(fn, self._pace(fn))
        return function

    def submitted(self, fn: Callable[..., Any] | None) -> Function:
        """Return the function of a call of `submit`."""
        function = self._meant(fn)
        if function is None:
            assert fn is not None
            function = self.cluster.parcels.for_call(fn, self._pace(fn))
        return function

    def _meant(self, fn: Callable[..., Any] | None) -> Function | None:
        """Return the stored function if `fn` means it, and None if it is another one."""
        if fn is None:
            if self._stored is None:
                raise ValueError("no function: none was stored in the executor, and none is given")
            return self._renewed(*self._stored)
        if not callable(fn):
            raise TypeError(f"fn must be callable, not {fn!r}{NOT_ITS_VALUE}")
        if self._stored is not None:
            func, function = self._stored
            # A bound method is a new object each time that it is looked up.
            if fn is func or (type(fn) is MethodType and fn == func):
                return self._renewed(func, function)
        return None

    def _renewed(self, fn: Callable[..., Any] | None, function: Function) -> Function:
        """Return the stored function, with the globals that it uses as they are now."""
        renewed = self.cluster.parcels.renewed(fn, function)
        if renewed is not function:
            self._stored = fn, renewed
        return renewed

    def _pace(self, fn: Any) -> Pace:
        """Return what is known of the calls of `fn`, or of others with the same function beneath."""
        if type(fn) is partial:
            fn = fn.func
        if type(fn) is MethodType:
            fn = fn.__func__
        is_one_of_a_kind = type(fn) in (FunctionType, BuiltinFunctionType) or issubclass(type(fn), type)
        key = fn if is_one_of_a_kind else type(fn)
        try:
            pace = self._paces.get(key)
            return self._paces.setdefault(key, Pace()) if pace is None else pace
        except TypeError:  # a metaclass may make its classes unhashable
            return Pace()

    def shutdown(self, *, wait: bool, cancel_futures: bool) -> None:
        """Take no more calls, and end once the pending ones are finished.

        In the middle of a `submit` of the same thread, as a signal handler or a finalizer is, it does not wait: the end
        would wait for that `submit`.
        """
        if self.is_inherited:
            return  # a forked child has nothing to shut down
        self.inbox.close()
        self.inbox.post(Close(cancel=cancel_futures))
        if wait and not self.inbox.is_used_here:
            if threading.current_thread() is self._thread:
                raise RuntimeError(
                    "a future's callback cannot wait for the executor's end, which waits for the callback: "
                    "use shutdown(wait=False)"
                )
            try:
                self._thread.join()
            except KeyboardInterrupt:
                self.inbox.post(Close(kill=True))
                raise

    def kill(self) -> None:
        """End the workers at once, whatever they run."""
        if os.getpid() == self._pid:
            self.inbox.post(Close(kill=True))

    def settle(self, timeout: float) -> None:
        """Wait, at most `timeout` seconds, until each call has its outcome, and the values are on disk."""
        deadline = time.monotonic() + timeout
        self._dispatcher.settled.wait(timeout)
        for writer in list(self.writers):
            writer.flush(max(0.0, deadline - time.monotonic()))

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked, and the engine is its parent's."""
        return os.getpid() != self._pid

    def check_not_forked(self) -> None:
        """Raise RuntimeError in a forked child."""
        if self.is_inherited:
            raise RuntimeError(
                f"this executor belongs to process {self._pid}; its forked child {os.getpid()} must make its own"
            )

    def check_process(self) -> None:
        """Raise RuntimeError in a forked child, and once the interpreter shuts down."""
        self.check_not_forked()
        if not threading.main_thread().is_alive():
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    def _ask(self, question: Callable[[], _T]) -> _T:
        """Ask the dispatcher. On its own thread, or when it has ended, answer at once."""
        self.check_not_forked()
        if threading.current_thread() is not self._thread:
            answer: Future[_T] = Future()
            if self.inbox.ask(Inspect(question, answer)):
                return answer.result()
        return question()


def start_thread(dispatcher: Dispatcher, inbox: Inbox, writers: set[Writer]) -> threading.Thread:
    """Run a dispatcher in a thread of its own, which ends when `writers` have written what came of it."""

    # A daemon, because the interpreter waits for other threads before it runs exit hooks, and
    # `_finish_all` is what tells the dispatchers to end.
    def run() -> None:
        try:
            dispatcher.run()
            for writer in list(writers):
                writer.join()
        finally:
            del _threads[threading.current_thread()]

    # Anew, so that it runs before the exit hook of Ray, which the first executor imports.
    atexit.unregister(_finish_all)
    atexit.register(_finish_all)
    thread = threading.Thread(target=run, name="thread_chunks-dispatcher", daemon=True)
    _threads[thread] = inbox
    try:
        thread.start()
    except RuntimeError:
        del _threads[thread]
        raise
    except BaseException:  # Ctrl-C: the thread has begun, or is about to
        inbox.post(Close(kill=True))
        raise
    return thread


def close_dropped(
    dispatcher: Dispatcher, inbox: Inbox, thread: threading.Thread, may_wait: Callable[[], bool], pid: int
) -> None:
    """End the dispatcher of an engine that was dropped, unless this is a forked child; wait if nothing is pending.

    A finalizer calls it, on any thread, wherever that is. So it waits for nothing that waits for this thread: it does
    not wait on the package's own threads, nor where `may_wait` says no; what else there may be, it does not wait for
    longer than `_PATIENCE`. Ctrl-C ends the wait, and is raised when the finalizer is over: what that raises is lost.
    """
    if os.getpid() != pid:
        return
    try:
        inbox.post(Close())
        if not threading.current_thread().name.startswith("thread_chunks") and may_wait():
            _wait_if_idle(dispatcher, inbox, thread)
    except KeyboardInterrupt:
        inbox.post(Close(kill=True))
        interrupt_after([close_dropped.__code__, weakref.finalize.__call__.__code__])


def _wait_if_idle(dispatcher: Dispatcher, inbox: Inbox, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _PATIENCE
    is_over: Future[bool] = Future()
    if inbox.ask(Inspect(partial(getattr, dispatcher, "finished"), is_over)):
        with suppress(TimeoutError, FutureTimeoutError):
            if is_over.result(_PATIENCE):
                thread.join(max(0.0, deadline - time.monotonic()))
    else:
        thread.join(_PATIENCE)


def _finish_all() -> None:
    threads = {thread: inbox for thread, inbox in list(_threads.items()) if thread.ident}
    # Of an error that ended the program, the interpreter leaves the type here. Of a program that goes
    # on at a prompt, it may be one of long ago.
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1")
    for inbox in threads.values():
        inbox.close()
        inbox.post(Close(kill=interrupted))
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        for inbox in threads.values():
            inbox.post(Close(kill=True))
        for thread in threads:
            thread.join()


in_forked_children(_threads.clear)
