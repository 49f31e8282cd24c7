"""`ChunkExecutor`: the standard library's `Executor` contract, on Ray actors."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from copy import copy
from multiprocessing.context import BaseContext
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, SupportsIndex, TypeVar, overload

from . import config
from ._arguments import (
    check_callable,
    check_limits,
    check_positive,
    check_seed,
    number_of_bytes,
    number_of_workers,
    with_path,
)
from ._calls.calls import Arguments
from ._calls.seeds import SeedBed
from ._dispatch.cluster import WholeCluster
from ._dispatch.engine import Engine
from ._maps import Maps
from ._ray import presence  # noqa: F401 (it hears of Ray that the user imports, and of forks, from now on)
from ._series.options import SeriesOptions
from ._series.start import Runner, start
from ._series.submissions import Submissions
from .actor import LabelledActor, class_identity
from .report import Report, RunningCall

if TYPE_CHECKING:
    from typing_extensions import Self  # which is in `typing` from Python 3.11 on

__all__ = ["ChunkExecutor"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

# How long Ctrl-C waits for calls to be killed, and for what finished to be on disk (s). That takes some 20 ms; half a
# second more where a call holds the interpreter lock; and longer if Ray is gone.
_PROMPT = 0.8


def _ray_cluster(*args: Any, **kwargs: Any) -> WholeCluster:
    """Make the cluster of an executor; Ray is imported by the first one."""
    from ._ray.cluster import RayCluster

    return RayCluster(*args, **kwargs)


class ChunkExecutor(Maps):
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
        Let arrays (and other large buffers, from 64 KiB) arrive as read-only views, in calls and in
        results. In a message of more than 1 MiB they are views of Ray's shared memory: 64 MB travel
        there and back in less than half the time, without a second copy on either side. Each call has
        its own; pass a ``ray.put`` reference to share one between calls. Default: False, they are
        copied on arrival, and may be written to.
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
    forward_logging : bool, optional
        Let this process's loggers handle the log records of calls and initializers, as if they were made here: by its
        handlers, filters and levels, also where these change. A record that no handler takes does not travel. When a
        call's outcome is there, its records are handled. Processes that a call starts forward nothing. Default:
        `config.forward_logging`.

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

    _make_cluster: Callable[..., WholeCluster] = staticmethod(_ray_cluster)

    def __init_subclass__(cls, *, cluster: Callable[..., WholeCluster] | None = None, **kwargs: Any) -> None:
        """Let tests bring a cluster of their own: ``class FakeExecutor(ChunkExecutor, cluster=FakeCluster)``."""
        super().__init_subclass__(**kwargs)
        if cluster is not None:
            cls._make_cluster = staticmethod(cluster)

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
        forward_logging: bool | None = None,
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
        self._seeds: SeedBed | None = None
        self._submissions: Submissions | None = None
        if actors is not None and (max_tasks_per_child or call_timeout or memory_limit) is not None:
            raise ValueError(
                "max_tasks_per_child, call_timeout and memory_limit are for actors that the executor can replace"
            )
        if actors is not None:
            from ._ray.cluster import check_actor

            for actor in actors:
                check_actor(actor)
        asked = number_of_workers(chunk_size, max_workers, actors)
        cluster = self._make_cluster(
            func,
            initializer,
            initargs,
            actors,
            actor_class or LabelledActor,
            actor_options or {},
            persistent=persistent,
            zero_copy=zero_copy,
            memory_limit=None if memory_limit is None else number_of_bytes(memory_limit),
            forward_logging=config.forward_logging if forward_logging is None else forward_logging,
        )
        self._actor_class = actor_class or LabelledActor
        self._engine = Engine(cluster, func, asked or cluster.default_size, max_tasks_per_child)

    @property
    def chunk_size(self) -> int:
        """How many calls may run at once."""
        return self._engine.chunk_size

    max_workers = chunk_size
    _max_workers = chunk_size  # where libraries look for it that take a `ProcessPoolExecutor`

    @property
    def size(self) -> int:
        """How many workers there may be at present."""
        return self._engine.size

    @property
    def actors(self) -> list[Any]:
        """The handles of the present workers' actors.

        A handle that is kept keeps its actor alive, also after the executor's end, as long as Ray
        is up.
        """
        return self._engine.handles

    @overload
    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]: ...

    @overload
    def submit(self, fn: None, /, *args: Any, **kwargs: Any) -> Future[Any]: ...

    def submit(self, fn: Callable[..., Any] | None, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule ``fn(*args, **kwargs)`` and return its future.

        Parameters
        ----------
        fn : callable or None
            The function; None for the stored one. A plain function is sent to a worker once: the
            variables of its closure, and the globals of ``__main__`` that it uses, are seen as they
            were then. Other callables are sent with each call.
        *args, **kwargs
            Its arguments. A Ray ``ObjectRef`` that is an argument by itself arrives as its value. So does a future,
            of this or any other executor of `concurrent.futures`: the call waits for it, without a worker. If the
            future fails, the call fails with the same exception; if it is cancelled, so is the call.

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
        ...     quotient_and_rest = executor.submit(divmod, 7, 2)
        ...     executor.submit(sum, quotient_and_rest).result()
        4
        """
        seed = None if self._seeds is None else self._seeds.for_call()
        if self._submissions is not None:
            return self._submissions.submit(self._engine, fn, args, kwargs, self._limits, seed)
        return self._engine.submit(fn, args, kwargs, self._limits, seed)

    def with_options(
        self,
        *,
        max_retries: int | None = None,
        call_timeout: float | None = None,
        seed: int | None = None,
        path: str | os.PathLike[str] | None = None,
        key: Callable[..., str] | None = None,
    ) -> Self:
        """Return this executor with other options for its calls: the same workers, and the same end.

        Parameters
        ----------
        max_retries : int, optional
            As for the class. Default: as it is.
        call_timeout : float, optional
            As for the class; ``math.inf`` for none. Default: as it is.
        seed : int, optional
            For `call_seed` in the calls of `submit` and of series that have no `seed` of their own. The n-th call
            of `submit`, and the n-th series, have seeds of their own. Default: as it is.
        path : path-like, optional
            A checkpoint file for `submit`, and for series that name no other; see `map`. `submit` returns a future that
            is finished already if the value is there, and records the value if not. Of calls with equal arguments that
            are submitted through the executor that is returned, the k-th is the k-th value. Default: as it is.
        key : callable, optional
            As for `map`; needs `path`.

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
        self._engine.check_not_forked()
        limits = check_limits(
            self._limits.retries if max_retries is None else max_retries,
            self._limits.timeout if call_timeout is None else call_timeout,
        )
        if limits.timeout is not None and not self._engine.cluster.replaceable:
            raise ValueError("call_timeout is for actors that the executor makes itself, and can replace")
        other = copy(self)  # of the same engine, and of the same kind
        other._limits = limits  # noqa: SLF001 (its own)
        if seed is not None:
            check_seed(seed)
            other._seeds = SeedBed(operator.index(seed))  # noqa: SLF001
        check_callable("key", key)
        if key is not None and path is None:
            raise ValueError("key is for checkpoints: give path too")
        if path is not None:
            other._submissions = Submissions(path, key, self._identity_of_actors)  # noqa: SLF001
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
        self._engine.check_not_forked()
        return future.cancel() or self._engine.cancel(future)

    def resize(self, chunk_size: int) -> None:
        """Let another number of calls run at once from now on.

        Parameters
        ----------
        chunk_size : int
            How many. If it is more than before, more workers are started. If it is less, those that are too many end,
            each as soon as the call is over that it runs. After workers were killed for want of memory, this brings
            `size` back up.

        Raises
        ------
        TypeError
            If it is not an integer.
        ValueError
            If it is less than 1, or the executor was given its actors.
        RuntimeError
            After `shutdown`, or in a forked child.
        ExecutorBroken
            If no worker can work any more.

        Examples
        --------
        >>> from thread_chunks import ChunkExecutor
        >>> with ChunkExecutor(1) as executor:
        ...     executor.resize(3)
        ...     executor.chunk_size, executor.size
        (3, 3)
        """
        if chunk_size is None:
            raise TypeError("chunk_size must be an integer, not None")
        check_positive("chunk_size", chunk_size)
        self._engine.check_not_forked()
        if not self._engine.cluster.replaceable:
            raise ValueError("resize is for executors that make their actors themselves")
        self._engine.resize(operator.index(chunk_size))

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
        return self._engine.running(stacks=stacks, timeout=timeout)

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
        return self._engine.report()

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
        self._engine.set_func(func)

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
        self._engine.shutdown(wait=wait, cancel_futures=cancel_futures)

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
        self._engine.check_not_forked()
        self.shutdown(wait=False, cancel_futures=True)
        self._engine.kill()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is not None and issubclass(exc_type, KeyboardInterrupt) and not self._engine.is_inherited:
            self.kill_workers()
            # Not for the end of Ray, which takes another second: whoever starts it next waits for that, and the
            # interpreter's exit does.
            self._engine.settle(_PROMPT)
        else:
            self.shutdown()

    @property
    def _has_stored(self) -> bool:
        return self._engine.has_stored

    def _series(
        self, fn: Callable[..., Any] | None, calls: Iterable[Arguments], options: SeriesOptions
    ) -> Iterator[Any]:
        if options.path is None and self._submissions is not None:
            options = with_path(options, self._submissions.path, self._submissions.key)
        is_overridden = "submit" in vars(self) or type(self).submit is not ChunkExecutor.submit
        submit = self.submit if is_overridden else None
        return start(
            Runner(self._engine, self._limits, submit, self._seeds, self._identity_of_actors), fn, calls, options
        )

    def _identity_of_actors(self) -> str:
        """Return what the actors' class, whose methods may change the values, adds to `LabelledActor`."""
        cluster = self._engine.cluster
        if cluster.replaceable:
            return class_identity(self._actor_class)
        identity: str = cluster.ask(self.actors[0], "thread_chunks_identity")
        return identity
