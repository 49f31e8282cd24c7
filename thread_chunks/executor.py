"""`ChunkExecutor`: the standard library's `Executor` contract, on Ray actors."""

from __future__ import annotations

import operator
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from functools import partial
from itertools import count
from multiprocessing.context import BaseContext
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, TracebackType
from typing import Any, Literal, SupportsIndex, TypeVar, cast

from ._arguments import (
    SeriesOptions,
    StoredFunction,
    argument_list,
    argument_lists,
    check_callable,
    check_limits,
    check_positive,
    number_of_bytes,
    number_of_workers,
)
from ._calls.calls import Arguments, Call, Given
from ._calls.functions import Function
from ._calls.pace import Pace
from ._calls.series import Journal
from ._calls.supply import Supply, is_collection
from ._checkpoints.writer import Writer
from ._dispatch.dispatcher import Dispatcher
from ._dispatch.engine import close_dropped, start_thread
from ._dispatch.inbox import Inbox
from ._dispatch.messages import Cancel, Close, Inspect, ReplaceFunction, StartAll
from ._dispatch.running import find_candidates, running_calls
from ._ray.cluster import RayCluster, check_actor
from ._series.feeds import Feed, FutureFeed, SeriesFeed
from ._series.results import results
from ._series.resumption import Resumption
from ._wire.protocol import CARRIED_KEY
from .actor import LabelledActor, class_identity
from .progress import progress
from .report import Report, RunningCall

__all__ = ["ChunkExecutor"]

_T = TypeVar("_T")

# How long Ctrl-C waits for calls to be killed, and for what finished to be on disk (s). That takes some 20 ms; half a
# second more where a call holds the interpreter lock; and longer if Ray is gone.
_PROMPT = 0.8


class ChunkExecutor(Executor):
    """A `ProcessPoolExecutor` whose workers are Ray actors.

    Calls run in parallel, at most `chunk_size` at a time, in processes of this machine or of a
    Ray cluster. Unlike in a `ProcessPoolExecutor`, functions may be lambdas, closures or local;
    no ``if __name__ == "__main__"`` guard is needed; and the death of a worker costs what it ran, one
    call or some short ones, and not the executor.

    Ray is started if it is not up, and stopped when the last executor that needs it has ended;
    Ray that somebody else started is left as it is.

    Parameters
    ----------
    func : callable, optional
        The stored function: sent to each worker once, at its start, with its large arrays shared
        by all workers of a machine (and therefore read-only). An int here is taken for
        `chunk_size`, so that ``ChunkExecutor(4)`` is what ``ProcessPoolExecutor(4)`` is.
    chunk_size : int, optional
        How many calls run at once, which is the number of workers. Default: the number of
        `actors`, else `config.default_chunk_size`: the CPUs that this process may use; on a cluster that the
        package did not start, those that the cluster has now.
    initializer : callable, optional
        Called in each worker before its calls, in the thread that runs them. If it raises, the
        executor is broken.
    initargs : tuple, optional
        The initializer's arguments.
    max_workers : int, optional
        The standard library's name for `chunk_size`.
    mp_context : object, optional
        Ignored: Ray starts the processes, in its own way. It is accepted, also in the place of
        `chunk_size`, because programs and libraries pass it to `ProcessPoolExecutor`.
    max_tasks_per_child : int, optional
        After so many calls a worker is replaced by a fresh one, which costs about half a second of
        CPU; as in the standard library, what `chunksize` puts together counts as one. The old
        process may take a moment to end. Default: never.
    zero_copy : bool, optional
        Let arrays (and other large buffers, from 64 KiB) arrive as read-only views of Ray's shared
        memory, in calls and in results: 64 MB travel there and back in less than half the time, without
        a second copy on either side. Each call has its own; pass a ``ray.put`` reference to share
        one between calls. Default: False, they are copied on arrival, and may be written to.
    actors : sequence of actor handles, optional
        Actors to use, and no others. They are not stopped afterwards. Each must be derived from
        `LabelledActor`; with `func`, it takes their function's place, and stays.
    actor_class : type, optional
        A subclass of `LabelledActor` (plain, not made remote) to make the workers from. Each is
        made with ``actor_class(None)``, and gets `func` by ``set_func``.
    actor_options : dict, optional
        Options for the actors, as for ``ActorClass.options`` of Ray; for example
        ``{"num_gpus": 1}``. Default: ``{"num_cpus": 0}``, which reserves nothing, so that calls may use Ray, and
        executors of their own; the workers are then spread over the nodes of a cluster in proportion to their
        CPUs. With ``{"num_cpus": 1}`` Ray places them, as many as there are CPUs; the others wait for room, and an
        autoscaler sees them. Unless ``OMP_NUM_THREADS`` is set, Ray sets it in each worker to the number of CPUs
        that it reserves, at least 1: for threads of numpy's within a call, reserve CPUs. Blocks are not among the
        tasks that Ray's dashboard and ``ray list tasks`` show, unless you ask for ``{"enable_task_events": True}``.
    persistent : bool, optional
        Leave Ray up, whoever started it. Default: False.
    max_retries : int, optional
        How often a call is run again after its worker was lost. Such calls are run one to a block, so that one
        that ends its worker each time fails after ``max_retries + 1`` runs, alone. A worker that Ray or the kernel
        kills for want of memory, while others run, uses up no retry. Default: 0, no call is run twice.
    call_timeout : float, optional
        Seconds after which a call that runs gets `CallTimeout`, and its worker is killed and replaced. Each call counts
        from its own start; but among calls that were sent together, one that holds the interpreter lock, so that the
        worker cannot say which of them runs, may get twice the time. ``math.inf`` is none. Default: none.
    memory_limit : int or str, optional
        How much memory a worker may have for itself: bytes, or a string like ``"2GiB"``. A call that exceeds it gets
        `WorkerOutOfMemory`, and its worker is killed and replaced. What workers share does not count (Ray's object
        store, mapped files), nor do processes that a call starts. Workers look every 20 ms, which costs less than
        0.2 % of their time; a call that takes 1 GB/s is found 20 MB too late, and one that holds the interpreter lock
        not before it lets go. Ray, too, is told, as the option `memory` of the actors, so that a node gets no more of
        them than fit. Default: none.

    Attributes
    ----------
    chunk_size, max_workers : int
        How many calls may run at once.
    size : int
        How many workers there may be at present; fewer than `chunk_size` after actors that cannot
        be replaced were lost, or workers were killed by Ray or the kernel for want of memory.
    actors : list of actor handles
        The present workers' actors.

    Raises
    ------
    ValueError
        `chunk_size` is less than 1, or contradicts `max_workers` or the number of `actors`; an
        actor option is unknown, or cannot be given to workers; the address is none of a Ray cluster;
        `max_retries` is negative, `call_timeout` not positive, or `memory_limit` no size; or an
        argument is for actors that the executor makes itself, and `actors` are given.
    ExecutorBroken
        Ray cannot be started, or nobody answers at its address.
    TypeError
        An argument is of the wrong type.
    PicklingFailed
        `func` or the initializer cannot be pickled.

    Notes
    -----
    The contract is that of the `concurrent.futures documentation
    <https://docs.python.org/3/library/concurrent.futures.html>`_.

    Examples
    --------
    >>> from thread_chunks import ChunkExecutor
    >>> with ChunkExecutor(2) as executor:
    ...     future = executor.submit(pow, 2, 10)
    ...     squares = list(executor.map(lambda x: x * x, range(4)))
    >>> future.result(), squares
    (1024, [0, 1, 4, 9])
    """

    _cluster_type = RayCluster

    def __init__(
        self,
        func: Callable[..., Any] | SupportsIndex | None = None,
        chunk_size: int | BaseContext | ModuleType | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_workers: int | None = None,
        mp_context: object = None,
        max_tasks_per_child: int | None = None,
        zero_copy: bool = False,
        actors: Sequence[Any] | None = None,
        actor_class: type[LabelledActor] | None = None,
        actor_options: dict[str, Any] | None = None,
        persistent: bool = False,
        max_retries: int = 0,
        call_timeout: float | None = None,
        memory_limit: int | str | None = None,
    ) -> None:
        if isinstance(chunk_size, (BaseContext, ModuleType)):  # the second argument of `ProcessPoolExecutor`
            chunk_size = None
        if func is not None and not callable(func) and isinstance(func, SupportsIndex):
            if chunk_size is not None:
                raise TypeError(f"the number of workers is given twice: {func!r} and chunk_size={chunk_size!r}")
            chunk_size = operator.index(func)
            func = None
        check_callable("func", func)
        check_callable("initializer", initializer)
        if not isinstance(initargs, tuple):
            raise TypeError(f"initargs must be a tuple, not {initargs!r}")
        if actors is not None and (actor_class or actor_options):
            raise ValueError("actor_class and actor_options are for actors that the executor makes itself")
        if actor_class is not None and not (isinstance(actor_class, type) and issubclass(actor_class, LabelledActor)):
            raise TypeError(f"actor_class must be a plain subclass of LabelledActor, not {actor_class!r}")
        check_positive("max_tasks_per_child", max_tasks_per_child)
        self._limits = check_limits(max_retries, call_timeout)
        self._origin: ChunkExecutor | None = None  # of `with_options`
        if actors is not None and (max_tasks_per_child or call_timeout or memory_limit) is not None:
            raise ValueError(
                "max_tasks_per_child, call_timeout and memory_limit are for actors that the executor can replace"
            )
        for actor in actors or ():
            check_actor(actor)
        asked = number_of_workers(chunk_size, max_workers, actors)
        self._paces: weakref.WeakKeyDictionary[Any, Pace] = weakref.WeakKeyDictionary()
        self._pid = os.getpid()
        self._inbox = Inbox()
        self._cluster = self._cluster_type(
            func,
            initializer,
            initargs,
            actors,
            actor_class or LabelledActor,
            actor_options or {},
            persistent=persistent,
            zero_copy=zero_copy,
            memory_limit=None if memory_limit is None else number_of_bytes(memory_limit),
        )
        self._max_workers = asked or self._cluster.default_size
        self._shared = StoredFunction(None if func is None and actors is None else (func, self._cluster.stored))
        self._actor_class = actor_class  # None: that of the actors that were given, or `LabelledActor`
        self._writers: set[Writer] = set()
        self._dispatcher = Dispatcher(self._cluster, self._inbox, self._max_workers, max_tasks_per_child)
        try:
            self._thread = start_thread(self._dispatcher, self._inbox, self._writers)
        except BaseException:
            self._cluster.close()
            raise
        weakref.finalize(self, close_dropped, self._inbox, self._pid).atexit = False
        if self._stored is not None:
            self._inbox.admit(StartAll())

    @property
    def max_workers(self) -> int:
        """How many calls may run at once."""
        return self._max_workers

    @property
    def chunk_size(self) -> int:
        """How many calls may run at once."""
        return self._max_workers

    @property
    def size(self) -> int:
        """How many workers there may be at present."""
        return self._dispatcher.size

    @property
    def actors(self) -> list[Any]:
        """The handles of the present workers' actors.

        A handle that is kept keeps its actor alive, also after the executor's end, as long as Ray
        is up.
        """
        if threading.current_thread() is self._thread:
            return self._dispatcher.handles
        answer: Future[list[Any]] = Future()
        self._check_process()
        self._inbox.admit(Inspect(partial(getattr, self._dispatcher, "handles"), answer))
        return answer.result()

    def submit(self, fn: Callable[..., Any] | None, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule ``fn(*args, **kwargs)`` and return its future.

        Parameters
        ----------
        fn : callable or None
            The function; None for the stored one. A plain function is sent to a worker once: the
            variables of its closure, and the globals of ``__main__`` that it uses, are seen as they
            were then. Other callables are sent with each call.
        *args, **kwargs
            Its arguments. A Ray ``ObjectRef`` that is an argument by itself arrives as its value.

        Returns
        -------
        concurrent.futures.Future

        Raises
        ------
        RuntimeError
            After `shutdown`, or in a forked child.
        ExecutorBroken
            If no worker can work any more.
        TypeError
            If `fn` is not callable.
        ValueError
            If `fn` is None and there is no stored function.

        Examples
        --------
        >>> from thread_chunks import ChunkExecutor
        >>> with ChunkExecutor(2) as executor:
        ...     executor.submit(divmod, 7, 2).result()
        (3, 1)
        """
        self._check_process()
        function = self._submitted(fn)
        if function.parcel.key == CARRIED_KEY:
            args = (fn, *args)
        call = Call(function, Given(args, kwargs), self._limits)
        if function.view is not None:
            function.parcel.latest = weakref.ref(call.future)
        self._inbox.admit(call)
        return call.future

    def map(
        self,
        fn: Any,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        unordered: bool = False,
        progress_bar: bool = False,
        path: str | os.PathLike[str] | None = None,
        key: Callable[..., str] | None = None,
        results: Literal["values", "refs"] = "values",
    ) -> Iterator[Any]:
        """Return an iterator over ``fn(*args)`` for each ``args`` of ``zip(*iterables)``.

        Parameters
        ----------
        fn : callable or None
            The function; None for the stored one. If it is not callable, it is taken for the first
            iterable, and the function is the stored one: ``executor.map(xs)``. It is sent to a
            worker once for the series; a callable with a state (a bound method, say) starts each
            call with the state that it had.
        *iterables
            Where the arguments come from; the shortest one ends the series.
        timeout : float, optional
            Seconds from now after which the iterator raises `TimeoutError`. Default: none.
        chunksize : int, optional
            Calls that are sent to a worker in one message, and stay together there. Default: as
            many as fill about 100 ms (5 ms for each worker, if there are more than twenty), by what the calls of
            the function took before.
        buffersize : int, optional
            Lets at most so many calls wait, run, or be finished and not yet consumed, beside the
            one whose value is being asked for; the iterables are then consumed step by step, and
            may be infinite. Default: none, all of the iterables is consumed at once.
        unordered : bool, optional
            Yield values as they come, and not in the order of the calls. Default: False.
        progress_bar : bool, optional
            Show a bar that counts finished calls. Default: False.
        path : path-like, optional
            A checkpoint file, made if it is not there. Values that it has are not computed again, and
            each value that comes is written to it at once, however late it is asked for. A value is found by
            the function (its name, its code, what is bound to it) and by `joblib.hash` of the
            arguments. Values are pickles: a file must come from somebody you trust. See `Checkpoint`.
        key : callable, optional
            Makes a string of a call's arguments, by which its value is found in the checkpoint, for
            arguments that have no hash. Default: none.
        results : {"values", "refs"}, optional
            With "refs", values stay in the cluster, where they were made, and what is yielded are their Ray
            ``ObjectRef``. As an argument of another call such a reference arrives as its value, which need
            not fit into the driver's memory. It is lost with its node, and when Ray is shut down. Calls then travel one
            by one. Default: "values".

        Returns
        -------
        iterator
            Of values, or of references to them. It raises what a call raised; then, or when it is closed or
            dropped, the calls that have not started are cancelled.

        Raises
        ------
        TimeoutError
            From the iterator, if the next value does not come in time.
        CheckpointRefused
            If the file at `path` is no checkpoint, or damaged, or of a newer version.
        TypeError
            If arguments cannot be hashed, before anything is run; with `buffersize`, from the iterator.
        ValueError
            If `chunksize` or `buffersize` is less than 1 or `timeout` is negative, or if options contradict each other.
        RuntimeError
            After `shutdown`.

        Notes
        -----
        Follows `Executor.map
        <https://docs.python.org/3/library/concurrent.futures.html#concurrent.futures.Executor.map>`_
        of Python 3.14, on each Python.

        Examples
        --------
        >>> from thread_chunks import ChunkExecutor
        >>> with ChunkExecutor(lambda x, y=0: x + y, chunk_size=2) as executor:
        ...     list(executor.map([1, 2, 3])), list(executor.map(pow, [2, 3], [5, 2]))
        ([1, 2, 3], [32, 9])
        """
        options = SeriesOptions(timeout, chunksize, buffersize, unordered, progress_bar, path, key, results)
        if self._stored is not None and not iterables and isinstance(fn, Iterable):
            fn, iterables = None, (fn,)  # an enumeration, say, which could be called as well
        elif fn is not None and not callable(fn):
            fn, iterables = None, (fn, *iterables)
        if buffersize is None and all(map(is_collection, iterables)):
            return self._series(fn, Supply(iterables), options)
        return self._series(fn, zip(*iterables, strict=False), options)

    def starmap(
        self,
        fn: Any,
        iterable: Iterable[Iterable[Any]] | None = None,
        /,
        *,
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        unordered: bool = False,
        progress_bar: bool = False,
        path: str | os.PathLike[str] | None = None,
        key: Callable[..., str] | None = None,
        results: Literal["values", "refs"] = "values",
    ) -> Iterator[Any]:
        """Return an iterator over ``fn(*args)`` for each ``args`` of `iterable`.

        The other parameters, and what is returned and raised, are those of `map`.

        Parameters
        ----------
        fn : callable or None
            The function; None, or left out, for the stored one.
        iterable : iterable of iterables
            An argument list for each call.

        Raises
        ------
        TypeError
            If an item of `iterable` is not a list of arguments.

        Examples
        --------
        >>> from thread_chunks import ChunkExecutor
        >>> with ChunkExecutor(2) as executor:
        ...     list(executor.starmap(pow, [(2, 5), (3, 2)]))
        [32, 9]
        """
        options = SeriesOptions(timeout, chunksize, buffersize, unordered, progress_bar, path, key, results)
        if iterable is None:
            fn, iterable = None, fn
        if buffersize is None and is_collection(iterable):
            supply = Supply()
            supply.extend(argument_lists(cast(Iterable[Any], iterable)))
            return self._series(fn, supply, options)
        return self._series(fn, map(argument_list, cast(Iterable[Any], iterable), count()), options)

    def with_options(self, *, max_retries: int | None = None, call_timeout: float | None = None) -> ChunkExecutor:
        """Return this executor with other limits for its calls: the same workers, and the same end.

        Parameters
        ----------
        max_retries : int, optional
            As for the class. Default: as it is.
        call_timeout : float, optional
            As for the class; ``math.inf`` for none. Default: as it is.

        Returns
        -------
        ChunkExecutor
            It shares everything else with this one, the stored function included.

        Raises
        ------
        TypeError
            If an option is no number.
        ValueError
            If an option makes no sense, or is for actors that the executor makes itself.

        Examples
        --------
        >>> from thread_chunks import ChunkExecutor
        >>> with ChunkExecutor(2) as executor:
        ...     executor.with_options(call_timeout=60, max_retries=3).submit(pow, 2, 5).result()
        32
        """
        limits = check_limits(
            self._limits.retries if max_retries is None else max_retries,
            self._limits.timeout if call_timeout is None else call_timeout,
        )
        if limits.timeout is not None and not self._cluster.replaceable:
            raise ValueError("call_timeout is for actors that the executor makes itself, and can replace")
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other._limits = limits
        other._origin = self  # which ends when it is dropped
        return other

    def cancel(self, future: Future[Any]) -> bool:
        """Cancel a call of `submit`, though it may run.

        Parameters
        ----------
        future : concurrent.futures.Future
            What `submit` returned.

        Returns
        -------
        bool
            False if the call is over, or runs and is not of this executor, or on an actor that it was given. If True, a
            call that waits is cancelled; one that runs is ended within a second, if it does not come to its end
            before, by killing its worker, which is replaced; one that was sent to a worker, and stands there behind
            a call that holds the interpreter lock, is cancelled when that lets go of it. `Future.result` then raises
            `concurrent.futures.CancelledError`, which is its `exception`; `Future.cancelled` is for those that had
            not been sent, as the standard library knows no other.

        Raises
        ------
        TypeError
            If `future` is none.
        RuntimeError
            In a forked child.

        Notes
        -----
        `Future.cancel` cancels calls that wait, and no others, as in the standard library.

        Examples
        --------
        >>> import time
        >>> from thread_chunks import ChunkExecutor
        >>> with ChunkExecutor(1) as executor:
        ...     future = executor.submit(time.sleep, 3600)
        ...     executor.cancel(future)
        True
        """
        if not isinstance(future, Future):
            raise TypeError(f"future must be what submit returned, not {future!r}")
        if future.cancel():
            return True
        if not self._cluster.replaceable or not self._ask(partial(self._dispatcher.has, future)):
            return False
        self._inbox.post(Cancel(future))
        return True

    def running(self, *, stacks: bool = False, timeout: float = 2.0) -> list[RunningCall]:
        """Return what runs now.

        Parameters
        ----------
        stacks : bool, optional
            Ask for the Python stack of each call, too. Default: False.
        timeout : float, optional
            For how long to wait for the workers (s), which do not answer while a call holds the interpreter lock.
            Default: 2.

        Returns
        -------
        list of RunningCall
            One for each call. Of a worker that did not answer in time the memory and the stack are None, and which of
            the calls that were sent together runs is not known: the first that may is named, with the time since then.

        Raises
        ------
        RuntimeError
            In a forked child.

        Examples
        --------
        >>> from thread_chunks import ChunkExecutor
        >>> with ChunkExecutor(2) as executor:
        ...     executor.running()
        []
        """
        candidates = self._ask(partial(find_candidates, self._dispatcher, stacks))
        return running_calls(candidates, timeout=timeout)

    def report(self) -> Report:
        """Return what came of the calls so far: for each function, how many, how long, with how much memory.

        Returns
        -------
        Report
            Printed, it is a table. Functions of the same name are one line of it.

        Raises
        ------
        RuntimeError
            In a forked child.

        Examples
        --------
        >>> from thread_chunks import ChunkExecutor
        >>> with ChunkExecutor(2) as executor:
        ...     values = list(executor.map(abs, range(100)))
        >>> executor.report().functions[0].calls
        100
        """
        return self._ask(partial(_report, self._dispatcher))

    def set_func(self, func: Callable[..., Any]) -> None:
        """Replace the stored function, for the calls that are submitted from now on.

        Parameters
        ----------
        func : callable
            The new one. The workers, and whatever they have loaded, stay.

        Raises
        ------
        TypeError
            If `func` is not callable.
        PicklingFailed
            If it cannot be pickled.

        Examples
        --------
        >>> from thread_chunks import ChunkExecutor
        >>> with ChunkExecutor(abs, chunk_size=2) as executor:
        ...     executor.set_func(str)
        ...     list(executor.map([-1, -2]))
        ['-1', '-2']
        """
        if not callable(func):
            raise TypeError(f"func must be callable, not {func!r}")
        self._check_process()
        self._inbox.check()
        function = self._cluster.store(func)
        self._inbox.admit(ReplaceFunction(function))
        self._shared.pair = func, function

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and end once the pending ones are finished.

        Parameters
        ----------
        wait : bool, optional
            Return only when all is finished and all is freed. Default: True.
        cancel_futures : bool, optional
            Cancel the calls that have not started. Default: False.

        Raises
        ------
        RuntimeError
            If `wait` is asked for by a future's callback, which the end would wait for.

        Notes
        -----
        Follows `Executor.shutdown
        <https://docs.python.org/3/library/concurrent.futures.html#concurrent.futures.Executor.shutdown>`_.
        """
        if os.getpid() != self._pid:
            return  # a forked child has nothing to shut down
        self._inbox.close()
        self._inbox.post(Close(cancel=cancel_futures))
        if wait:
            if threading.current_thread() is self._thread:
                raise RuntimeError(
                    "a future's callback cannot wait for the executor's end, which waits for the callback: "
                    "use shutdown(wait=False)"
                )
            try:
                self._thread.join()
            except KeyboardInterrupt:
                self._inbox.post(Close(kill=True))
                raise

    def terminate_workers(self) -> None:
        """End the workers at once, whatever they run, and shut down without waiting.

        Calls that run get `WorkerLost`; those that wait are cancelled (of `submit`, those that were sent have
        `CancelledError` as their exception). What is finished by then has its outcome: a worker has half a second to
        hand it over, unless a call holds the interpreter lock.

        Notes
        -----
        Follows `ProcessPoolExecutor.terminate_workers
        <https://docs.python.org/3/library/concurrent.futures.html#concurrent.futures.ProcessPoolExecutor.terminate_workers>`_
        of Python 3.14, on each Python; but Ray has one way only to end a worker at once, which
        runs none of its exit handlers. Actors that the executor was given live on: it only gives
        up on them.
        """
        self.kill_workers()

    def kill_workers(self) -> None:
        """End the workers at once, as `terminate_workers` does."""
        self.shutdown(wait=False, cancel_futures=True)
        if os.getpid() == self._pid:
            self._inbox.post(Close(kill=True))

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is not None and issubclass(exc_type, KeyboardInterrupt):
            self.kill_workers()
            # Not for the end of Ray, which takes another second: whoever starts it next waits for that, and the
            # interpreter's exit does.
            deadline = time.monotonic() + _PROMPT
            self._dispatcher.settled.wait(_PROMPT)
            for writer in list(self._writers):
                writer.flush(max(0.0, deadline - time.monotonic()))
        else:
            self.shutdown()

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    @property
    def _stored(self) -> tuple[Callable[..., Any] | None, Function] | None:
        return self._shared.pair

    def _series(
        self,
        fn: Callable[..., Any] | None,
        calls: Iterable[Arguments],
        options: SeriesOptions,
    ) -> Iterator[Any]:
        started = time.monotonic()
        self._check_process()
        if options.path is None:
            feed = self._feed(fn, calls, options)
            bar = partial(progress, options.progress_bar, None if feed.lazy else feed.admitted)
            return results(feed, unordered=options.unordered, timeout=options.timeout, started=started, bar=bar)
        self._inbox.check()
        resumption = Resumption(
            options.path, self._identified(fn), self._identity_of_actors(), options.key, calls, options.buffersize
        )
        journal = resumption.begin(self._writers)
        feed = self._feed(fn, (), replace(options, buffersize=None), journal)
        return resumption.values(
            feed,
            unordered=options.unordered,
            timeout=options.timeout,
            started=started,
            show_progress=options.progress_bar,
        )

    def _feed(
        self,
        fn: Callable[..., Any] | None,
        calls: Iterable[Arguments],
        options: SeriesOptions,
        journal: Journal | None = None,
    ) -> Feed:
        if "submit" in vars(self) or type(self).submit is not ChunkExecutor.submit:
            if options.keeps:
                raise ValueError("results='refs' cannot be had through a `submit` that was overridden")
            return FutureFeed(lambda args: self.submit(fn, *args), calls, options.buffersize, journal)
        function = self._function(fn)
        if function is None:
            assert fn is not None
            function = self._cluster.parcels.for_series(fn, self._pace(fn))
        if journal is not None and function.parcel.shipment is None and function.fn is not None:
            function.parcel.shipment = self._cluster.pack_function(function.fn)  # now, as it was identified
        is_fed_later = options.buffersize is not None or journal is not None
        return SeriesFeed(
            self._inbox,
            replace(function, keeps=True) if options.keeps else function,
            calls,
            1 if options.keeps else options.chunksize,
            options.buffersize,
            owner=self if is_fed_later else None,
            journal=journal,
            limits=self._limits,
        )

    def _identity_of_actors(self) -> str:
        """Return what the actors' class, whose methods may change the values, adds to `LabelledActor`."""
        if self._cluster.replaceable:
            return class_identity(self._actor_class or LabelledActor)
        identity: str = self._cluster.ask(self.actors[0], "thread_chunks_identity")
        return identity

    def _identified(self, fn: Callable[..., Any] | None) -> Callable[..., Any]:
        """Return the function that `fn` means, which may be known to the user's actors only."""
        if fn is None and self._stored is not None:
            fn = self._stored[0] or self._cluster.ask(self.actors[0], "get_func")
        if fn is None:
            raise ValueError("no function: none was stored in the executor, and none is given")
        return fn

    def _submitted(self, fn: Callable[..., Any] | None) -> Function:
        function = self._function(fn)
        if function is None:
            assert fn is not None
            function = self._cluster.parcels.for_call(fn, self._pace(fn))
        return function

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

    def _function(self, fn: Callable[..., Any] | None) -> Function | None:
        """Return the stored function if `fn` means it, and None if it is another one."""
        if fn is None:
            if self._stored is None:
                raise ValueError("no function: none was stored in the executor, and none is given")
            return self._renewed(*self._stored)
        check_callable("fn", fn)
        if self._stored is not None:
            stored, function = self._stored
            # A bound method is a new object each time that it is looked up.
            if fn is stored or (type(fn) is MethodType and fn == stored):
                return self._renewed(stored, function)
        return None

    def _renewed(self, fn: Callable[..., Any] | None, function: Function) -> Function:
        """Return the stored function, with the globals that it uses as they are now."""
        renewed = self._cluster.parcels.renewed(function)
        if renewed is not function:
            self._shared.pair = fn, renewed
        return renewed

    def _ask(self, question: Callable[[], _T]) -> _T:
        """Ask the dispatcher; itself, or whoever has its place when it has ended, may answer at once."""
        if os.getpid() != self._pid:
            self._check_process()
        if threading.current_thread() is not self._thread:
            answer: Future[_T] = Future()
            if self._inbox.ask(Inspect(question, answer)):
                return answer.result()
        return question()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"this executor belongs to process {self._pid}; its forked child {os.getpid()} must make its own"
            )
        if not threading.main_thread().is_alive():
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")


def _report(dispatcher: Dispatcher) -> Report:
    return Report(tuple(tally.report(name) for name, tally in sorted(dispatcher.tallies.items())))
