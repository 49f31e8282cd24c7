"""What users pass, checked before any work is done or lost."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import wraps
from itertools import count
from typing import Any, SupportsFloat, SupportsIndex, TypeVar, cast

from . import config
from ._calls.calls import Arguments, Limits, extended
from ._calls.functions import NOT_ITS_VALUE
from ._series.options import SeriesOptions

_F = TypeVar("_F", bound=Callable[..., Any])

# What takes which names, in the order in which they are recommended.
_TAKERS = {
    "ChunkExecutor": frozenset(
        (
            *("func", "chunk_size", "initializer", "initargs", "max_workers", "mp_context", "max_tasks_per_child"),
            *("zero_copy", "actors", "actor_class", "actor_options", "persistent", "max_retries", "call_timeout"),
            *("memory_limit", "forward_logging"),
        )
    ),
    "map": frozenset(field.name for field in fields(SeriesOptions)),
    "starmap": frozenset(field.name for field in fields(SeriesOptions)),
    "chunk": frozenset(
        ("func", "parameters", "actors", "chunk_size", "progress_bar", "path", "key", "seed", "return_exceptions")
    ),
    "Chunker": frozenset(("func", "actors", "chunk_size", "progress_bar", "persistent", "path")),
    "with_options": frozenset(("max_retries", "call_timeout", "seed", "path", "key")),
}

# How alike a name must be to be meant (as `difflib` has it), and one that is right elsewhere, to be meant all the same.
_ALIKE = 0.7
_ALMOST_EQUAL = 0.9


def checks_names(taker: str) -> Callable[[_F], _F]:
    """Have a function refuse names of arguments that it does not know, with the right name or place."""

    def decorate(function: _F) -> _F:
        @wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            check_names(taker, kwargs)
            return function(*args, **kwargs)

        return cast("_F", checked)

    return decorate


def check_names(taker: str, given: Iterable[str]) -> None:
    """Raise TypeError if one of the names of arguments is unknown, and say which name or place is right."""
    known = _TAKERS[taker]
    for name in given:
        if name not in known:
            text = f"{taker}() got an unexpected keyword argument {name!r}"
            raise TypeError("; ".join([text, *_advice(taker, name)]))


def _advice(taker: str, name: str) -> list[str]:
    places = [place for place, known in _TAKERS.items() if name in known and place != "Chunker"]
    if taker in ("chunk", "Chunker") and name in ("timeout", "call_timeout"):
        return [f"{taker} has no time-outs: use ChunkExecutor"]
    alike = difflib.get_close_matches(name, _TAKERS[taker], 1, _ALMOST_EQUAL if places else _ALIKE)
    meant = [f"did you mean {alike[0]!r}?"] if alike else []
    return [f"{name}: give it to {_listed(places)}", *(f"or {text}" for text in meant)] if places else meant


def _listed(places: list[str]) -> str:
    if {"map", "starmap", "with_options"} <= set(places):  # which is for `submit`
        places = [place for place in places if place != "with_options"]
    written = [f"{place}(...)" if place in ("ChunkExecutor", "with_options") else place for place in places]
    return " or ".join(filter(None, [", ".join(written[:-1]), written[-1]]))


def number_of_workers(chunk_size: int | None, max_workers: int | None, actors: Sequence[Any] | None) -> int | None:
    """Return the number of workers that the arguments agree on; None if they say nothing."""
    check_positive("chunk_size", chunk_size)
    check_positive("max_workers", max_workers)
    if chunk_size is not None and max_workers is not None and chunk_size != max_workers:
        raise ValueError(f"chunk_size ({chunk_size}) and its alias max_workers ({max_workers}) differ")
    asked = chunk_size if chunk_size is not None else max_workers
    if actors is not None:
        if len(actors) == 0:
            raise ValueError("actors is empty")
        if asked is not None and asked != len(actors):
            raise ValueError(f"chunk_size ({asked}) differs from the number of actors ({len(actors)})")
        return len(actors)
    if asked is None:
        check_positive("config.default_chunk_size", config.default_chunk_size)
        return None
    return operator.index(asked)


def check_positive(name: str, value: int | None) -> None:
    """Raise TypeError unless `value` is None or an integer, ValueError if it is less than 1."""
    if value is not None and not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value is not None and operator.index(value) < 1:
        raise ValueError(f"{name} must be greater than 0, not {value!r}")


def check_limits(max_retries: int, call_timeout: float | None) -> Limits:
    """Return what calls may take; raise TypeError or ValueError if it makes no sense."""
    if not isinstance(max_retries, SupportsIndex):
        raise TypeError(f"max_retries must be an integer, not {max_retries!r}")
    if operator.index(max_retries) < 0:
        raise ValueError(f"max_retries must not be negative: {max_retries!r}")
    if isinstance(call_timeout, str):
        raise TypeError(f"call_timeout must be a number of seconds, not {call_timeout!r}")
    if call_timeout is not None and not call_timeout > 0:
        raise ValueError(f"call_timeout must be greater than 0, not {call_timeout!r}")
    timeout = None if call_timeout is None or call_timeout == math.inf else float(call_timeout)
    return Limits(timeout, operator.index(max_retries))


def check_callable(name: str, value: object) -> None:
    """Raise TypeError unless `value` is None or callable."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable, not {value!r}{NOT_ITS_VALUE}")


def check_is_iterable(method: str, first: object) -> None:
    """Raise TypeError if what is in the place of the function is neither one nor the iterable of a stored one."""
    if not isinstance(first, Iterable) and not hasattr(first, "__getitem__"):
        raise TypeError(
            f"{method} has no function: its first argument is {first!r}, which can be neither called nor iterated over"
            f"{NOT_ITS_VALUE}"
        )


def check_iterables(iterables: Iterable[object]) -> None:
    """Raise TypeError that names the first argument of `map` after the function that is no iterable."""
    for number, iterable in enumerate(iterables, 1):
        if not isinstance(iterable, Iterable) and not hasattr(iterable, "__getitem__"):
            raise TypeError(
                f"argument {number} of map after the function is not iterable: {iterable!r}. For the same value in "
                "each call, pass itertools.repeat(value)"
            )


def argument_list(args: Iterable[Any], index: int) -> Arguments:
    """Return one item of `parameters`, a list or a mapping; raise TypeError if it is neither."""
    if isinstance(args, Mapping):
        keywords = dict(args)
        if not all(isinstance(name, str) for name in keywords):
            raise TypeError(f"parameters[{index}] has names of arguments that are not strings: {args!r}")
        return extended((), keywords)
    if isinstance(args, (str, bytes, set, frozenset)) or not isinstance(args, Iterable):
        why = ", which has no order" if isinstance(args, (set, frozenset)) else ""
        raise TypeError(f"parameters[{index}] must be a list of arguments, or a mapping of them, not {args!r}{why}")
    return tuple(args)


def argument_lists(parameters: Iterable[Iterable[Any]]) -> list[Arguments]:
    """Return all of `parameters`; raise TypeError as `argument_list`, or if they are no series."""
    if isinstance(parameters, Mapping) or not isinstance(parameters, Iterable):
        raise TypeError(f"parameters must be a list with a list of arguments for each call, not {parameters!r}")
    # In half of the time, where each item is there already and can be looked at twice.
    if type(parameters) in (list, tuple) and {list, tuple}.issuperset(map(type, parameters)):
        return list(map(tuple, parameters))
    return list(map(argument_list, parameters, count()))


_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}

_UNITS |= {f"{unit}i": 1024**power for power, unit in enumerate("kmgt", 1)}


def number_of_bytes(size: SupportsIndex | str) -> int:
    """Return a size in bytes; ``"2GiB"`` is twice 1024**3, ``"2GB"`` twice 1000**3.

    Raises
    ------
    TypeError, ValueError
        If it is not a size.
    """
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmgt]?i?)b?\s*", size.lower())
        if match is None or match[2] not in _UNITS:
            raise ValueError(f"{size!r} is not a size: give bytes, or a string like '2GiB' or '500 MB'")
        size = int(float(match[1]) * _UNITS[match[2]])
    if isinstance(size, bool) or not isinstance(size, SupportsIndex):
        raise TypeError(f"a size is a number of bytes, or a string like '2GiB', not {size!r}")
    size = operator.index(size)
    if size < 1:
        raise ValueError(f"a size must be greater than 0, not {size!r}")
    return size


_NO_REFS = "results='refs' goes with neither chunksize (calls travel one by one) nor path"


def series_options(method: str, **given: Any) -> SeriesOptions:
    """Return what `map` or `starmap` was given by name; raise TypeError or ValueError if it makes no sense."""
    check_names(method, given)
    options = SeriesOptions(**given)
    check_positive("chunksize", options.chunksize)
    check_positive("buffersize", options.buffersize)
    if options.timeout is not None and not isinstance(options.timeout, SupportsFloat):
        raise TypeError(f"timeout must be a number of seconds, not {options.timeout!r}")
    if options.timeout is not None and not options.timeout >= 0:
        raise ValueError(f"timeout must not be negative: {options.timeout!r}")
    if options.key is not None and options.path is None:
        raise ValueError("key is for checkpoints: give path too")
    if options.results not in ("values", "refs"):
        raise ValueError(f"results must be 'values' or 'refs', not {options.results!r}")
    if options.results == "refs" and (options.chunksize is not None or options.path is not None):
        raise ValueError(_NO_REFS)
    check_seed(options.seed)
    return options


def with_path(options: SeriesOptions, path: str, key: Callable[..., str] | None) -> SeriesOptions:
    """Return options with a checkpoint; raise ValueError if they go with none."""
    if options.results == "refs":
        raise ValueError(_NO_REFS)
    return replace(options, path=path, key=key)


def check_seed(seed: int | None) -> None:
    """Raise TypeError unless a seed is None or an integer."""
    if seed is not None and not isinstance(seed, SupportsIndex):
        raise TypeError(f"seed must be an integer, not {seed!r}")
