"""`chunk` and `Chunker`: the interface of thread-chunks 1, as thin facades over `ChunkExecutor`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from . import config
from ._arguments import argument_lists, check_callable, checks_names, number_of_workers, series_options
from ._series.options import Row
from ._series.resumption import finished_values
from .executor import ChunkExecutor

if TYPE_CHECKING:
    from typing_extensions import Self  # which is in `typing` from Python 3.11 on

__all__ = ["Chunker", "chunk"]

_T = TypeVar("_T")
_U = TypeVar("_U")


@overload
def chunk(
    func: Callable[..., _T],
    parameters: Iterable[Row],
    actors: Sequence[Any] | None = None,
    chunk_size: int | None = None,
    progress_bar: bool | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    key: Callable[..., str] | None = None,
    seed: int | None = None,
    return_exceptions: Literal[False] = False,
) -> list[_T]: ...


@overload
def chunk(
    func: Callable[..., _T],
    parameters: Iterable[Row],
    actors: Sequence[Any] | None = None,
    chunk_size: int | None = None,
    progress_bar: bool | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    key: Callable[..., str] | None = None,
    seed: int | None = None,
    return_exceptions: bool,
) -> list[_T | BaseException]: ...


@overload
def chunk(
    func: None,
    parameters: Iterable[Row],
    actors: Sequence[Any],
    chunk_size: int | None = None,
    progress_bar: bool | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    key: Callable[..., str] | None = None,
    seed: int | None = None,
    return_exceptions: bool = False,
) -> list[Any]: ...


@checks_names("chunk")
def chunk(
    func: Callable[..., Any] | None,
    parameters: Iterable[Row],
    actors: Sequence[Any] | None = None,
    chunk_size: int | None = None,
    progress_bar: bool | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    key: Callable[..., str] | None = None,
    seed: int | None = None,
    return_exceptions: bool = False,
) -> list[Any]:
    """Return ``[func(*parameters[0]), func(*parameters[1]), ...]``, computed in parallel.

    At most `chunk_size` calls run at once, and the next one starts as soon as one finishes.

    Parameters
    ----------
    func : callable or None
        The function. None: the functions that the `actors` hold. With both, `func` replaces theirs, for good.
    parameters : list of lists or mappings
        An argument list for each call, or a mapping: the call's arguments by keyword.
    actors : list of actor handles, optional
        Actors to use, derived from `LabelledActor`. Default: new ones.
    chunk_size : int, optional
        How many calls run at once. Default: the number of `actors`, else
        `config.default_chunk_size`.
    progress_bar : bool, optional
        Show a bar that counts finished calls. Default: `config.progress_bar`.
    path : path-like, optional
        A checkpoint file, made if it does not exist. Values that it has are not computed again. See
        `ChunkExecutor.map`. If it has all values, Ray is not started.
    key : callable, optional
        A function that makes a string of a call's arguments, by which its value is found in the checkpoint. Default:
        `joblib.hash`.
    seed : int, optional
        Give each call a random seed of its own, as `ChunkExecutor.map` does. Default: no seed.
    return_exceptions : bool, optional
        Return the exception of a failed call in its place, and go on, as `ChunkExecutor.map` does. Default: False.

    Returns
    -------
    list
        The values, in the order of `parameters`.

    Raises
    ------
    ValueError
        `func` and `actors` are both None, or `chunk_size` differs from the number of actors.
    TypeError
        An item of `parameters` is neither a list of arguments nor a mapping of them, or another argument is of a
        wrong type.
    CheckpointRefused
        The file at `path` is not a checkpoint.
    Exception
        What a call raised, unless `return_exceptions` is True. The calls that have not started are then cancelled.

    Examples
    --------
    >>> from thread_chunks import chunk
    >>> chunk(pow, [[2, 5], [3, 2]], chunk_size=2, progress_bar=False)
    [32, 9]
    >>> chunk(divmod, [[7, 2], [7, 0]], chunk_size=2, progress_bar=False, return_exceptions=True)
    [(3, 1), ZeroDivisionError('integer division or modulo by zero')]
    """
    if func is None and actors is None:
        raise ValueError("chunk needs func, or actors that hold one")
    check_callable("func", func)
    calls = argument_lists(parameters)
    workers = number_of_workers(chunk_size, None, actors)
    if not calls:
        return []
    options: dict[str, Any] = {
        "progress_bar": _shown(progress_bar),
        "path": path,
        "key": key,
        "return_exceptions": return_exceptions,
        "seed": seed,
    }
    if path is not None and func is not None and actors is None:
        values = finished_values(func, calls, series_options("chunk", **options))
        if values is not None:
            return values
    with ChunkExecutor(chunk_size=workers, actors=actors) as executor:
        if func is not None:
            executor.set_func(func)  # only now, so that no more workers are started than there are calls
        return list(executor.starmap(calls, **options))


class Chunker(Generic[_T]):
    """Call a function for many rows of arguments, with actors that are kept from one call to the next.

    Parameters
    ----------
    func : callable, optional
        The function. Exactly one of `func` and `actors` must be given.
    actors : list of actor handles, optional
        Actors that hold functions, derived from `LabelledActor`.
    chunk_size : int, optional
        How many calls run at once. Default: the number of `actors`, else
        `config.default_chunk_size`.
    progress_bar : bool, optional
        Show a bar that counts finished calls. Default: `config.progress_bar`.
    persistent : bool, optional
        Leave Ray up when the `Chunker` is gone, so that `actors` stay usable. Default: False.
    path : path-like, optional
        A checkpoint file for all calls of the `Chunker` that name no other; see `chunk`.

    Attributes
    ----------
    actors : list of actor handles
        May be passed on, as in ``chunk(None, parameters, chunker.actors)``.
    chunk_size : int
    progress_bar : bool or None
    persistent : bool
    path : path-like or None

    Raises
    ------
    ValueError
        Both `func` and `actors` are given, or neither is, or `chunk_size` differs from the number of actors.

    Examples
    --------
    >>> from thread_chunks import Chunker
    >>> with Chunker(pow, chunk_size=2, progress_bar=False) as chunker:
    ...     chunker([[2, 5], [3, 2]]), chunker([[7, 2]], divmod)
    ([32, 9], [(3, 1)])
    """

    @overload
    def __init__(
        self,
        func: Callable[..., _T],
        actors: None = None,
        chunk_size: int | None = None,
        progress_bar: bool | None = None,
        persistent: bool = False,
        path: str | os.PathLike[str] | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self: Chunker[Any],
        func: None = None,
        actors: Sequence[Any] = ...,
        chunk_size: int | None = None,
        progress_bar: bool | None = None,
        persistent: bool = False,
        path: str | os.PathLike[str] | None = None,
    ) -> None: ...

    @checks_names("Chunker")
    def __init__(
        self,
        func: Callable[..., Any] | None = None,
        actors: Sequence[Any] | None = None,
        chunk_size: int | None = None,
        progress_bar: bool | None = None,
        persistent: bool = False,
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        if (func is None) == (actors is None):
            raise ValueError("Chunker needs either func, or actors that hold one")
        self._executor = ChunkExecutor(func, chunk_size, actors=actors, persistent=persistent)
        self.chunk_size = self._executor.chunk_size
        self.progress_bar = progress_bar
        self.persistent = persistent
        self.path = path
        self._directory = os.getcwd()  # which `path` is relative to, wherever the program goes
        self._last_actors: list[Any] | None = None  # of a persistent one that was left

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._executor!r}>"

    @property
    def actors(self) -> list[Any]:
        """The handles of the actors that are used, or were when the `Chunker` was left."""
        return self._executor.actors if self._last_actors is None else self._last_actors

    @overload
    def __call__(
        self,
        parameters: Iterable[Row],
        func: None = None,
        progress_bar: bool | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        key: Callable[..., str] | None = None,
        seed: int | None = None,
        return_exceptions: Literal[False] = False,
    ) -> list[_T]: ...

    @overload
    def __call__(
        self,
        parameters: Iterable[Row],
        func: None = None,
        progress_bar: bool | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        key: Callable[..., str] | None = None,
        seed: int | None = None,
        return_exceptions: bool,
    ) -> list[_T | BaseException]: ...

    @overload
    def __call__(
        self,
        parameters: Iterable[Row],
        func: Callable[..., _U],
        progress_bar: bool | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        key: Callable[..., str] | None = None,
        seed: int | None = None,
        return_exceptions: Literal[False] = False,
    ) -> list[_U]: ...

    @overload
    def __call__(
        self,
        parameters: Iterable[Row],
        func: Callable[..., _U],
        progress_bar: bool | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        key: Callable[..., str] | None = None,
        seed: int | None = None,
        return_exceptions: bool,
    ) -> list[_U | BaseException]: ...

    def __call__(
        self,
        parameters: Iterable[Row],
        func: Callable[..., Any] | None = None,
        progress_bar: bool | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        key: Callable[..., str] | None = None,
        seed: int | None = None,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Return the function's values for `parameters`, as `chunk` does.

        Parameters
        ----------
        parameters : list of lists or mappings
            As for `chunk`.
        func : callable, optional
            Replaces the function, for good.
        progress_bar : bool, optional
            Show a bar. Default: as the `Chunker`.
        path : path-like, optional
            A checkpoint file. Default: as the `Chunker`.
        key : callable, optional
            As for `chunk`.
        seed, return_exceptions : optional
            As for `chunk`.

        Returns
        -------
        list
            The values, in the order of `parameters`.

        Raises
        ------
        Exception
            As `chunk`.
        """
        calls = argument_lists(parameters)
        if func is not None:
            self._executor.set_func(func)
        shown = _shown(self.progress_bar if progress_bar is None else progress_bar)
        if path is None and self.path is not None:
            path = os.path.join(self._directory, os.fsdecode(self.path))
        return list(
            self._executor.starmap(
                calls, progress_bar=shown, path=path, key=key, return_exceptions=return_exceptions, seed=seed
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.persistent:
            self._last_actors = self._executor.actors
        self._executor.__exit__(exc_type, exc, traceback)


def _shown(progress_bar: bool | None) -> bool:
    return config.progress_bar if progress_bar is None else progress_bar
