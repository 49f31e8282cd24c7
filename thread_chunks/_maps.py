"""`map` and `starmap`: what an executor does with many calls of one function."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from ._arguments import argument_list, argument_lists, check_is_iterable, check_iterables, series_options
from ._calls.calls import Arguments
from ._calls.supply import Supply, is_collection
from ._series.options import Row, SeriesKeywords, SeriesOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack  # which is in `typing` from Python 3.11 on

    from ._ray.references import ObjectRef

_T = TypeVar("_T")


class Maps(Executor):
    """`map` and `starmap` of an executor, which says how a series is run.

    The options of both are the fields of `SeriesOptions`. The last overload of each is for type checkers that meet an
    option whose value they do not know.
    """

    @property
    @abstractmethod
    def _has_stored(self) -> bool:
        """Whether there is a stored function."""

    @abstractmethod
    def _series(
        self, fn: Callable[..., Any] | None, calls: Iterable[Arguments], options: SeriesOptions
    ) -> Iterator[Any]:
        """Let the calls of a series in, and return an iterator over their values."""

    @overload
    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        results: Literal["values"] = "values",
        return_exceptions: Literal[False] = False,
        with_arguments: Literal[False] = False,
        **options: Unpack[SeriesKeywords],
    ) -> Iterator[_T]: ...

    @overload
    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        results: Literal["refs"],
        return_exceptions: Literal[False] = False,
        with_arguments: Literal[False] = False,
        **options: Unpack[SeriesKeywords],
    ) -> Iterator[ObjectRef[_T]]: ...

    @overload
    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        results: Literal["values"] = "values",
        return_exceptions: Literal[True],
        with_arguments: Literal[False] = False,
        **options: Unpack[SeriesKeywords],
    ) -> Iterator[_T | BaseException]: ...

    @overload
    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        results: Literal["values"] = "values",
        return_exceptions: Literal[False] = False,
        with_arguments: Literal[True],
        **options: Unpack[SeriesKeywords],
    ) -> Iterator[tuple[Arguments, _T]]: ...

    @overload
    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        results: Literal["values"] = "values",
        return_exceptions: Literal[True],
        with_arguments: Literal[True],
        **options: Unpack[SeriesKeywords],
    ) -> Iterator[tuple[Arguments, _T | BaseException]]: ...

    @overload
    def map(
        self,
        fn: Iterable[Any] | None,
        *iterables: Iterable[Any],
        results: Literal["refs"],
        return_exceptions: Literal[False] = False,
        with_arguments: Literal[False] = False,
        **options: Unpack[SeriesKeywords],
    ) -> Iterator[ObjectRef[Any]]: ...

    @overload
    def map(
        self,
        fn: Callable[..., Any] | Iterable[Any] | None,
        *iterables: Iterable[Any],
        results: Literal["values", "refs"] = "values",
        return_exceptions: bool = False,
        with_arguments: bool = False,
        **options: Unpack[SeriesKeywords],
    ) -> Iterator[Any]: ...

    def map(
        self,
        fn: Any,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        **options: Any,
    ) -> Iterator[Any]:
        """Return an iterator over ``fn(*args)`` for each ``args`` of ``zip(*iterables)``.

        Parameters
        ----------
        fn : callable or None
            The function; None for the stored one. If it is not callable, it is the first iterable, and the function is
            the stored one: ``executor.map(xs)``. It is sent to a worker once for the series. A callable with a state,
            such as a bound method, starts each call with the state that it had.
        *iterables
            Where the arguments come from; the shortest one ends the series.
        timeout : float, optional
            Seconds from now after which the iterator raises `TimeoutError`. Default: none.
        chunksize : int, optional
            Send so many calls to a worker in one message; they stay together there. With 1, no call waits for another
            for more than a millisecond, and calls that take less than that travel together. Default: as many as fill
            about 40 ms (1 ms for each worker, if there are more than forty), by the time that calls of the function
            took.
        buffersize : int, optional
            Let at most so many calls wait, run, or be finished and not yet consumed, besides the one whose value is
            being asked for. The iterables are then consumed step by step, and may be infinite. Default: no bound, the
            iterables are consumed at once.
        unordered : bool, optional
            Yield values as they come, not in the order of the calls. Default: False.
        progress_bar : bool, optional
            Show a bar that counts finished calls, with their rate, how many failed, and how many calls the executor
            runs now. In a log file it is a line a minute. Default: False.
        path : path-like, optional
            A checkpoint file, made if it does not exist. Values that it has are not computed again, and each new value
            is written to it at once, however late the value is consumed. A value is found by the function (its name,
            its code, what is bound to it, the code and the globals that it uses by name) and by `joblib.hash` of the
            arguments. Values are pickles: use only files that you trust. See `Checkpoint`.
        key : callable, optional
            A function that makes a string of a call's arguments, by which its value is found in the checkpoint. For
            arguments that have no hash. Default: `joblib.hash`.
        results : {"values", "refs"}, optional
            With "refs", values stay where they were made, and their Ray ``ObjectRef`` are yielded. As an argument of
            another call a reference arrives as its value, which need not fit into the driver's memory. It is lost with
            its node, and when Ray is shut down. Calls then travel one by one. Default: "values".
        return_exceptions : bool, optional
            Yield the exception of a failed call in its place, with the remote traceback as its cause, and go on, as
            `asyncio.gather` does. `WorkerLost`, `CallTimeout` and `PicklingFailed` are such exceptions. A broken
            executor, Ctrl-C, and the end of `timeout` are raised all the same. With `path`, the next run computes what
            failed. A line of the log says how many calls failed. Default: False, the first exception ends the series.
        with_arguments : bool, optional
            Yield ``(arguments, value)`` pairs: a tuple of the call's arguments (a dict if they are by keyword), and its
            value. Arguments stay in memory until they are yielded. Default: False.
        seed : int, optional
            Give each call a random seed of its own, which `call_seed` returns. It depends on `seed` and on the call's
            place in the series. With `path`, the seed counts as an argument. Default: no seed.

        Returns
        -------
        iterator
            Over values, references to them, or pairs. It raises what a call raised, unless `return_exceptions` is True.
            When it raises, is closed or is dropped, the calls that have not started are cancelled.

        Raises
        ------
        TimeoutError
            From the iterator, if the next value does not come in time.
        CheckpointRefused
            If the file at `path` is not a checkpoint, is damaged, or is of a newer version.
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
        >>> with ChunkExecutor(2) as executor:
        ...     for (x,), value in executor.map(int, ["1", "one"], return_exceptions=True, with_arguments=True):
        ...         print(x, repr(value))
        1 1
        one ValueError("invalid literal for int() with base 10: 'one'")
        """
        validated = series_options("map", timeout=timeout, chunksize=chunksize, buffersize=buffersize, **options)
        if self._has_stored and not iterables and isinstance(fn, Iterable):
            fn, iterables = None, (fn,)  # an enumeration, say, which could be called as well
        elif fn is not None and not callable(fn):
            check_is_iterable("map", fn)
            fn, iterables = None, (fn, *iterables)
        check_iterables(iterables)
        if buffersize is None and all(map(is_collection, iterables)):
            return self._series(fn, Supply(iterables), validated)
        return self._series(fn, zip(*iterables, strict=False), validated)

    @overload
    def starmap(
        self,
        fn: Callable[..., _T],
        iterable: Iterable[Row],
        /,
        *,
        results: Literal["values"] = "values",
        return_exceptions: Literal[False] = False,
        with_arguments: Literal[False] = False,
        **options: Unpack[SeriesKeywords],
    ) -> Iterator[_T]: ...

    @overload
    def starmap(
        self,
        fn: Callable[..., _T],
        iterable: Iterable[Row],
        /,
        *,
        results: Literal["refs"],
        return_exceptions: Literal[False] = False,
        with_arguments: Literal[False] = False,
        **options: Unpack[SeriesKeywords],
    ) -> Iterator[ObjectRef[_T]]: ...

    @overload
    def starmap(
        self,
        fn: Callable[..., _T],
        iterable: Iterable[Row],
        /,
        *,
        results: Literal["values"] = "values",
        return_exceptions: Literal[True],
        with_arguments: Literal[False] = False,
        **options: Unpack[SeriesKeywords],
    ) -> Iterator[_T | BaseException]: ...

    @overload
    def starmap(
        self,
        fn: Callable[..., _T],
        iterable: Iterable[Row],
        /,
        *,
        results: Literal["values"] = "values",
        return_exceptions: Literal[False] = False,
        with_arguments: Literal[True],
        **options: Unpack[SeriesKeywords],
    ) -> Iterator[tuple[Any, _T]]: ...

    @overload
    def starmap(
        self,
        fn: Callable[..., _T],
        iterable: Iterable[Row],
        /,
        *,
        results: Literal["values"] = "values",
        return_exceptions: Literal[True],
        with_arguments: Literal[True],
        **options: Unpack[SeriesKeywords],
    ) -> Iterator[tuple[Any, _T | BaseException]]: ...

    @overload
    def starmap(
        self,
        fn: None,
        iterable: Iterable[Row],
        /,
        *,
        results: Literal["refs"],
        return_exceptions: Literal[False] = False,
        with_arguments: Literal[False] = False,
        **options: Unpack[SeriesKeywords],
    ) -> Iterator[ObjectRef[Any]]: ...

    @overload
    def starmap(
        self,
        iterable: Iterable[Row],
        /,
        *,
        results: Literal["refs"],
        return_exceptions: Literal[False] = False,
        with_arguments: Literal[False] = False,
        **options: Unpack[SeriesKeywords],
    ) -> Iterator[ObjectRef[Any]]: ...

    @overload
    def starmap(
        self,
        fn: Callable[..., Any] | None,
        iterable: Iterable[Row],
        /,
        *,
        results: Literal["values", "refs"] = "values",
        return_exceptions: bool = False,
        with_arguments: bool = False,
        **options: Unpack[SeriesKeywords],
    ) -> Iterator[Any]: ...

    @overload
    def starmap(
        self,
        iterable: Iterable[Row],
        /,
        *,
        results: Literal["values", "refs"] = "values",
        return_exceptions: bool = False,
        with_arguments: bool = False,
        **options: Unpack[SeriesKeywords],
    ) -> Iterator[Any]: ...

    def starmap(self, fn: Any, iterable: Any = None, /, **options: Any) -> Iterator[Any]:
        """Return an iterator over ``fn(*args)`` for each ``args`` of `iterable`.

        The other parameters, and what is returned and raised, are those of `map`.

        Parameters
        ----------
        fn : callable or None
            The function; None, or left out, for the stored one.
        iterable : iterable of iterables
            An argument list for each call, or a mapping: the call's arguments by keyword.

        Raises
        ------
        TypeError
            If an item of `iterable` is neither a list of arguments nor a mapping of them.

        Examples
        --------
        >>> from thread_chunks import ChunkExecutor
        >>> with ChunkExecutor(2) as executor:
        ...     list(executor.starmap(pow, [(2, 5), {"base": 3, "exp": 2}]))
        [32, 9]
        """
        validated = series_options("starmap", **options)
        if iterable is None:
            check_is_iterable("starmap", fn)
            fn, iterable = None, fn
        if validated.buffersize is None and is_collection(iterable):
            supply = Supply()
            supply.extend(argument_lists(iterable))
            return self._series(fn, supply, validated)
        return self._series(fn, map(argument_list, iterable, count()), validated)
