"""`ChunkExecutor`: the standard library's `Executor` contract, on Ray actors."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from copy import copy
from dataclasses import replace
from multiprocessing.context import BaseContext
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, SupportsIndex, TypeVar, overload

from . import config
from ._arguments import (
    check_callable,
    check_limits,
    check_positive,
    check_seed,
    checks_names,
    number_of_bytes,
    number_of_workers,
    with_path,
)
from ._calls.calls import Arguments
from ._calls.seeds import SeedBed
from ._dispatch.cluster import WholeCluster
from ._dispatch.engine import Engine
from ._maps import Maps
from ._series.options import SeriesOptions
from ._series.start import Runner, start
from ._series.submissions import Submissions
from ._versions import versions
from .actor import LabelledActor, class_identity
from .report import Report, RunningCall

if TYPE_CHECKING:
    from typing_extensions import Self  # which is in `typing` from Python 3.11 on

__all__ = ["ChunkExecutor"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

# How long Ctrl-C waits for calls to be killed, and for what finished to be on disk (s). That takes some 20 ms; half a
# second more where a call holds the GIL; and longer if Ray is gone.
_PROMPT = 0.8


def _ray_cluster(*args: Any, **kwargs: Any) -> WholeCluster:
    """Make the cluster of an executor; Ray is imported by the first one."""
    from ._ray.cluster import RayCluster

    return RayCluster(*args, **kwargs)


class ChunkExecutor(Maps):
    """A `ProcessPoolExecutor` whose workers are Ray actors.

    Calls run in parallel, at most `chunk_size` at a time, in processes of this machine or of a
    Ray cluster. Unlike in a `ProcessPoolExecutor`, functions may be lambdas, closures or local;
    no ``if __name__ == "__main__"`` guard is needed; and a crashed worker fails only the call that it
    was running, not the executor.

    The executor starts Ray if it is not up, and the last executor that ends stops it. Ray that was up
    before is left up.

    Parameters
    ----------
    func : callable, optional
        The stored function: sent to each worker once, at its start, with its large arrays shared
        by all workers of a machine (and therefore read-only). An int here is taken for
        `chunk_size`, so that ``ChunkExecutor(4)`` is what ``ProcessPoolExecutor(4)`` is.
    chunk_size : int, optional
        How many calls run at once, which is the number of workers. Default: the number of `actors`, else
        `config.default_chunk_size`, which is the number of CPUs that this process may use. On a cluster that the
        package did not start: the number of CPUs that the cluster has now.
    initializer : callable, optional
        Called in each worker before its calls, in the thread that runs them. If it raises, the
        executor is broken.
    initargs : tuple, optional
        The initializer's arguments.
    max_workers : int, optional
        The standard library's name for `chunk_size`.
    mp_context : object, optional
        Ignored, since Ray starts the processes. It is accepted, also in the place of `chunk_size`, because programs
        and libraries pass it to `ProcessPoolExecutor`.
    max_tasks_per_child : int, optional
        Replace a worker by a fresh one after so many calls. This takes about half a second of CPU time, and the old
        process may take a moment to end. As in the standard library, a block of `chunksize` calls counts as one.
        Default: never.
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
        Options for the actors, as for ``ActorClass.options`` of Ray; for example ``{"num_gpus": 1}``. Default:
        ``{"num_cpus": 0}``, which reserves nothing, so that calls may use Ray, and executors of their own. The workers
        are then spread over the nodes of a cluster in proportion to their CPUs. With ``{"num_cpus": 1}`` Ray places
        them, as many as there are CPUs. The others wait for room, and an autoscaler sees them. Unless
        ``OMP_NUM_THREADS`` is set, Ray sets it in each worker to the number of CPUs that it reserves, at least 1. So
        reserve CPUs if numpy is to use threads within a call. ``{"enable_task_events": True}`` shows blocks in Ray's
        dashboard and in ``ray list tasks``.
    persistent : bool, optional
        Leave Ray up at the end, whoever started it. Default: False.
    max_retries : int, optional
        How often a call is retried after its worker was lost. Retried calls run one to a block: one that crashes its
        worker each time fails after ``max_retries + 1`` runs, alone. An OOM kill by Ray or the kernel uses up no
        retry while other calls run. Default: 0, no call is run twice.
    call_timeout : float, optional
        Seconds after which a running call fails with `CallTimeout`; its worker is killed and replaced. The time counts
        from the start of the call. A call that holds the GIL may get twice the time if it was sent together with
        others, since the worker cannot say which of them runs. ``math.inf`` means no limit. Default: no limit.
    memory_limit : int or str, optional
        How much private memory a worker may have: bytes, or a string like ``"2GiB"``. A call that exceeds it fails
        with `WorkerOutOfMemory`; its worker is killed and replaced. Ray's object store, mapped files, and processes
        that a call starts do not count. Memory is sampled every 20 ms, so a call that allocates 1 GB/s overshoots by
        about 20 MB. A call that holds the GIL is caught when it releases it. Ray gets the limit as the option `memory`
        of the actors, and places no more of them on a node than fit. Default: no limit.
    forward_logging : bool, optional
        Let this process's loggers handle the log records of calls and initializers, as if they were made here: by its
        handlers, filters and levels, also where these change. A record that no handler takes does not travel. When a
        call's outcome is there, its records are handled, unless handlers take more than a second. Processes that a
        call starts forward nothing. Default: `config.forward_logging`.

    Attributes
    ----------
    chunk_size, max_workers : int
        How many calls may run at once.
    size : int
        How many workers there may be at present. There are fewer than `chunk_size` after OOM kills, and after actors
        were lost that cannot be replaced.
    actors : list of actor handles
        The present workers' actors.

    Raises
    ------
    ValueError
        `chunk_size` is less than 1, or contradicts `max_workers` or the number of `actors`; an actor option is unknown,
        or cannot be given to workers; the address is not that of a Ray cluster; `max_retries` is negative,
        `call_timeout` not positive, or `memory_limit` not a size; or an argument is for actors that the executor makes
        itself, and `actors` are given.
    ExecutorBroken
        Ray cannot be started, or does not answer at its address.
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

    @checks_names("ChunkExecutor")
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
        self._options = {
            "max_retries": str(max_retries),
            "call_timeout": str(call_timeout),
            "memory_limit": str(memory_limit),
            "max_tasks_per_child": str(max_tasks_per_child),
            "zero_copy": str(zero_copy),
            "actor_options": repr(actor_options or {}),
        }
        self._engine = Engine(cluster, func, asked or cluster.default_size, max_tasks_per_child)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._engine.state}>"

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
            The function; None for the stored one. A plain function is sent to a worker once, and again when what it
            holds has changed. Other callables are sent with each call.
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

    @checks_names("with_options")
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
            A checkpoint file for `submit`, and for series that name no other; see `map`. If the file has the value, the
            future of `submit` is finished already. If not, the value is recorded. Of calls with equal arguments that
            go through the returned executor, the k-th call has the k-th value. Default: as it is.
        key : callable, optional
            As for `map`; needs `path`.

        Returns
        -------
        ChunkExecutor
            It shares everything else with this one, the stored function included.

        Raises
        ------
        TypeError
            If an option is not a number.
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
        """Cancel a call of `submit`, even if it runs.

        Parameters
        ----------
        future : concurrent.futures.Future
            What `submit` returned.

        Returns
        -------
        bool
            False if the call is over, or runs on another executor or on an actor that this one was given. Otherwise
            True: a waiting call is cancelled, and a running one ends within a second, since its worker is killed and
            replaced. A call that waits at its worker behind one that holds the GIL is cancelled when that releases it.
            `Future.result` then raises `concurrent.futures.CancelledError`. `Future.cancelled` is true only for calls
            that had not been sent, as the standard library has it.

        Raises
        ------
        TypeError
            If `future` is not a `Future`.
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
            How many. More workers start, or surplus ones end, each as soon as the call that it runs is over. After OOM
            kills, this brings `size` back up.

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
            For how long to wait for the workers (s), which do not answer while a call holds the GIL. Default: 2.

        Returns
        -------
        list of RunningCall
            One for each call. If a worker did not answer in time, its memory and stack are None. Which of several
            calls it runs is then not known: the first one that may run is named, with the time since then.

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
            Printed, or shown by a notebook, it is a table, with one line for all functions of the same name. Its `save`
            draws the run.

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
        facts = {"chunk_size": str(self.chunk_size), **self._options, **versions()}
        return replace(self._engine.report(), facts=facts)

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
        if func is None:
            raise TypeError("func must be callable, not None")
        check_callable("func", func)
        self._engine.set_func(func)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuse new calls, and end once the pending ones are finished.

        Parameters
        ----------
        wait : bool, optional
            Return only when all is finished and all is freed. Default: True.
        cancel_futures : bool, optional
            Cancel the calls that have not started. Default: False.

        Raises
        ------
        RuntimeError
            If a future's callback asks to wait, since the end waits for the callback.

        Notes
        -----
        Follows `Executor.shutdown
        <https://docs.python.org/3/library/concurrent.futures.html#concurrent.futures.Executor.shutdown>`_.
        """
        self._engine.shutdown(wait=wait, cancel_futures=cancel_futures)

    def terminate_workers(self) -> None:
        """End the workers at once, whatever they run, and shut down without waiting.

        Running calls get `WorkerLost`, and waiting ones are cancelled (calls of `submit` that were sent have
        `CancelledError` as their exception). Calls that are finished by then keep their outcomes: a worker has half a
        second to hand them over, unless a call holds the GIL.

        Notes
        -----
        Follows `ProcessPoolExecutor.terminate_workers
        <https://docs.python.org/3/library/concurrent.futures.html#concurrent.futures.ProcessPoolExecutor.terminate_workers>`_
        of Python 3.14, on each Python. But Ray ends a worker at once in one way only, which runs none of
        its exit handlers. Actors that the executor was given live on.
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
            # Do not wait for the end of Ray, which takes another second. The next start and the interpreter's exit do.
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
