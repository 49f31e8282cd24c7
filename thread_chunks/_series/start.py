"""The beginning of a series: it is identified if it has a checkpoint, and fed to where its calls run."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from .._calls.calls import Arguments, Limits, parts_of
from .._calls.functions import name_of
from .._calls.seeds import SeedBed, Seeds
from .._calls.series import Journal
from .._checkpoints.identity import identify
from .._dispatch.engine import Engine
from ..progress import progress
from .feeds import Feed, FutureFeed, SeriesFeed
from .options import SeriesOptions
from .results import values_of
from .resumption import Resumption


@dataclass(slots=True, frozen=True)
class Runner:
    """Where the calls of a series run, and how.

    Attributes
    ----------
    engine : Engine
    limits : Limits
        What the calls may take.
    submit : callable or None
        What a subclass has put in the place of `submit`, to which calls then go, one by one.
    seeds : SeedBed or None
        Where the seeds of a series come from that has none of its own.
    identity_of_actors : callable
        Returns what the class of the actors adds to the identity of a function.
    """

    engine: Engine
    limits: Limits
    submit: Callable[..., Future[Any]] | None
    seeds: SeedBed | None
    identity_of_actors: Callable[[], str]


def start(
    runner: Runner, fn: Callable[..., Any] | None, calls: Iterable[Arguments], options: SeriesOptions
) -> Iterator[Any]:
    """Let the calls of a series in, as far as `options` say, and return an iterator over their values."""
    started = time.monotonic()
    engine = runner.engine
    engine.check_process()
    if options.seed is not None:
        calls = Seeds((operator.index(options.seed),)).sow(calls)
    elif runner.seeds is not None:
        calls = runner.seeds.for_series().sow(calls)
    if options.path is None:
        feed = _feed(runner, fn, calls, options)
        total = None if feed.lazy else feed.admitted
        bar = partial(progress, options.progress_bar, total, running=engine.count_busy)
        return values_of(feed, options, name=engine.name_of(fn), started=started, bar=bar)
    engine.inbox.check()
    identity = identify(engine.original(fn), runner.identity_of_actors())
    resumption = Resumption(identity, calls, options)
    journal = resumption.begin(engine.writers)
    feed = _feed(runner, fn, (), replace(options, buffersize=None), journal)
    return resumption.values(feed, name=engine.name_of(fn), started=started, running=engine.count_busy)


def _feed(
    runner: Runner,
    fn: Callable[..., Any] | None,
    calls: Iterable[Arguments],
    options: SeriesOptions,
    journal: Journal | None = None,
) -> Feed:
    engine, submit = runner.engine, runner.submit
    if submit is not None:
        if options.seed is not None or runner.seeds is not None:
            raise ValueError("seed is not supported where `submit` is overridden")
        if options.keeps:
            raise ValueError("results='refs' is not supported where `submit` is overridden")

        def submit_call(args: Arguments) -> Future[Any]:
            positional, extras = parts_of(args)
            return submit(fn, *positional, **extras.keywords)

        name = "the stored function" if fn is None else name_of(fn)
        return FutureFeed(name, submit_call, calls, options.buffersize, journal, with_arguments=options.with_arguments)
    function = engine.function_of_series(fn)
    if journal is not None and function.parcel.shipment is None and function.fn is not None:
        function.parcel.shipment = engine.cluster.pack_function(function.fn)  # now, as it was identified
    is_fed_later = options.buffersize is not None or journal is not None
    return SeriesFeed(
        engine.inbox,
        replace(function, keeps=True) if options.keeps else function,
        calls,
        1 if options.keeps else options.chunksize,
        options.buffersize,
        owner=engine if is_fed_later else None,
        journal=journal,
        limits=runner.limits,
        with_arguments=options.with_arguments,
    )
