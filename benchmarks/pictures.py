"""Draws the pictures that the README shows, from measurements of this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from thread_chunks import ChunkExecutor

from .cases import DURATIONS, RATES, process_pool, regime, warmed_up
from .harness import Case, Results
from .simulation import Table, simulate
from .work import noted

# Measures cases.
Measure = Callable[[Iterable[Case]], Iterable[Results]]


def draw(folder: str, measure: Measure, *, quick: bool) -> None:
    """Draw all pictures into a folder."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    draw_regime(Path(folder) / "regime.svg", quick=quick)
    draw_scale(Path(folder) / "scale.svg", quick=quick)
    draw_rates(Path(folder) / "calls_per_second.svg", measure, quick=quick)


def draw_rates(path: Path, measure: Measure, *, quick: bool) -> None:
    """Draw calls per second against the duration of a call."""
    rates: dict[str, list[float]] = {}
    durations, cases = [*DURATIONS], list(RATES.values())
    if quick:  # some of them, and not the last, whose calls take 1 s
        durations, cases = durations[:-1:2], cases[:-1:2]
    for results in measure(cases):
        for name, values in results.items():
            rates.setdefault(name, []).append(1 / statistics.median(values))
    figure, axes = plt.subplots(figsize=(7, 4.2))
    axes.loglog(durations, [2 / duration for duration in durations], "k--", linewidth=1, label="ideal: 2 workers")
    for name, measured in rates.items():
        axes.loglog(durations, measured, marker="o", label=name)
    axes.set(xlabel="duration of a call (s)", ylabel="calls per second", title="map with default arguments, 2 workers")
    axes.legend()
    axes.grid(alpha=0.3)
    _save(figure, path)


def draw_scale(path: Path, *, quick: bool) -> None:
    """Draw the share of the time of simulated workers that is used, against their number."""
    numbers = [10, 30] if quick else [10, 30, 100, 300, 1000, 3000, 10_000]
    figure, axes = plt.subplots(figsize=(7, 4.2))
    for duration in (0.01, 0.1, 1.0, 10.0):
        each = max(10, int(20 / duration))  # calls for each worker
        drawn = [workers for workers in numbers if workers * each <= 6_000_000]
        used = [100 * simulate(Table(workers, [duration], workers * each)).utilisation for workers in drawn]
        axes.semilogx(drawn, used, marker="o", label=f"calls of {duration:g} s")
    axes.set(xlabel="simulated workers", ylabel="time used by calls (%)", title="what one driver can keep busy")
    axes.set_ylim(0, 100)
    axes.legend()
    axes.grid(alpha=0.3)
    _save(figure, path)


def draw_regime(path: Path, *, quick: bool) -> None:
    """Draw what each worker does when short calls are followed by long ones."""
    contenders: list[tuple[str, Executor, dict[str, int]]] = [
        ("ChunkExecutor", ChunkExecutor(4), {}),
        ("ProcessPoolExecutor, chunksize=100", process_pool(4), {"chunksize": 100}),
    ]
    figure, strips = plt.subplots(2, 1, figsize=(7, 4.2), sharex=True)
    for axes, (name, executor, options) in zip(strips, contenders, strict=True):
        with warmed_up(executor, 4):
            start = time.time()
            calls = list(executor.map(noted, regime(quick), **options))
        for row, worker in enumerate(sorted({call[0] for call in calls})):
            for slow, colour in ((False, "tab:blue"), (True, "tab:orange")):
                spans = _joined((a - start, b - start) for pid, a, b, was in calls if pid == worker and was == slow)
                axes.broken_barh(spans, (row - 0.4, 0.8), color=colour, edgecolor="white", linewidth=0.3 if slow else 0)
        axes.set(title=f"{name}: {max(call[2] for call in calls) - start:.2f} s", yticks=[], ylabel="workers")
    strips[-1].set(xlabel="seconds: 2,000 calls that take no time (blue), then 8 of 0.5 s (orange)")
    _save(figure, path)


def _joined(calls: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return starts and lengths (s), with neighbours joined that no eye can tell apart."""
    spans: list[tuple[float, float]] = []
    for start, end in sorted(calls):
        if spans and start - sum(spans[-1]) < 2e-3 and end - start < 2e-3:
            start = spans.pop()[0]
        spans.append((start, max(end - start, 2e-3)))
    return spans


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
