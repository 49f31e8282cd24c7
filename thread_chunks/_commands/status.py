"""Print the progress, failures and slowest calls of the runs in a checkpoint file."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from threading import Event
from typing import Any

import psutil

from .._checkpoints.store import Run, Store, open_store
from .words import duration, printable

# Seconds over which the rate is measured. With fewer it jumps; with more it is out of date.
_RECENT = 300.0

# The most outcomes that are read for it.
_SAMPLE = 10_000

# How many of the failed calls are named.
_NAMED = 3

# Longer texts are cut (characters). The package writes none.
_LONGEST = 300

# How often `--watch` looks again (s).
_INTERVAL = 2.0


def show(path: str, *, watch: bool, as_json: bool) -> None:
    """Print the progress of the runs. With `watch`, wait for the file, and print again every two seconds.

    Raises
    ------
    CheckpointRefused, OSError
        If it is not a checkpoint, or cannot be read.
    """
    if watch and not os.path.exists(path):
        print(f"waiting for {printable(path)}", file=sys.stderr, flush=True)
        while not os.path.exists(path):
            Event().wait(_INTERVAL)
    with closing(open_store(path, must_exist=True)) as store:
        look = _show_as_json if as_json else _show_as_text
        look(store)
        while watch:
            Event().wait(_INTERVAL)
            look(store)


def _show_as_json(store: Store) -> None:
    print(json.dumps(_status(store)), flush=True)


def _show_as_text(store: Store) -> None:
    status = _status(store)
    print(f"{printable(status['path'])}  {status['bytes'] / 1e6:.1f} MB")
    for function in status["functions"]:
        print("  " + ", ".join(_facts(function)))
        for line in _calls(function):
            print(f"    {printable(line)}")
    for program in status["programs"]:
        print(f"  {program['memory'] / 2**20:.0f} MiB in {program['pid']}: {printable(program['command'])[:100]}")
    if not status["programs"]:
        print("  no program of yours has it open")
    sys.stdout.flush()


def _facts(function: dict[str, Any]) -> Iterator[str]:
    total = function["total"]
    yield f"{printable(function['function'])}: {function['finished']} of {'unknown' if total is None else total}"
    if total:
        yield f"{100 * function['finished'] // total} %"
    if function["per_second"]:
        yield f"{function['per_second']:.3g} per s"
    if function["seconds_left"] is not None:
        yield f"{duration(function['seconds_left'])} left"
        if function["seconds_left"]:
            yield f"over {_moment(time.time() + function['seconds_left'])}"
    if function["failed"]:
        yield f"{function['failed']} failed"


def _calls(function: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each of the last calls that failed, and for each of the slowest."""
    name = function["function"].rpartition(".")[2]
    for failure in function["last_failures"]:
        often = f", {failure['times']} times" if failure["times"] > 1 else ""
        yield f"failed {_moment(failure['failed'])}{often}: {name}({_cut(failure['call'])}): {_cut(failure['error'])}"
    for slow in function["slowest"]:
        seconds = slow["seconds"]
        yield f"took {f'{seconds:.2g} s' if seconds < 9.5 else duration(seconds)}: {name}({_cut(slow['call'])})"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _moment(when: float) -> str:
    try:
        there = time.localtime(when)
    except (OverflowError, OSError, ValueError):  # no calendar goes so far
        return "at no time"
    return time.strftime("at %H:%M" if there[:3] == time.localtime()[:3] else "on %d %B at %H:%M", there)


def _status(store: Store) -> dict[str, Any]:
    size = os.path.getsize(store.path)
    with suppress(FileNotFoundError):
        size += os.path.getsize(f"{store.path}-wal")
    with store.bounded():
        functions = [_status_of(store, run) for run in store.last_runs()]
    return {"path": store.path, "bytes": size, "functions": functions, "programs": list(_programs(store.path))}


def _programs(path: str) -> Iterator[dict[str, Any]]:
    """Yield the programs of this user that have the file open, except those that run `status`."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(file.path == path for file in process.open_files()):
                command = process.cmdline()
                if process.pid != os.getpid() and not {"thread_chunks", "status"} <= set(command):
                    yield {"pid": process.pid, "command": " ".join(command), "memory": process.memory_info().rss}


def _status_of(store: Store, run: Run) -> dict[str, Any]:
    finished = store.finished(run)
    failed, last_failures = store.failures(run, _NAMED)
    now = time.time()
    since = max(run.started, now - _RECENT)
    latest = store.latest(run.function, _SAMPLE)
    if len(latest) == _SAMPLE:
        since = max(since, latest[-1])
    rate = _rate([when for when in latest if when >= since], since, now)
    left = None
    if run.total is not None and (rate or finished == run.total):
        left = (run.total - finished) / rate if finished < run.total else 0.0
    return {
        "function": run.name,
        "finished": finished,
        "total": run.total,
        "per_second": rate,
        "seconds_left": left,
        "started": run.started,
        "failed": failed,
        "last_failures": [asdict(failure) for failure in last_failures],
        "slowest": [asdict(slow) for slow in store.slowest(run.function)],
    }


def _rate(times: list[float], since: float, now: float) -> float:
    """Return the outcomes per second, from the times at which they came since then, the latest first.

    The time before the first outcome, in which workers start, does not count.
    """
    later = sum(when > times[-1] for when in times) if times else 0
    return later / max(now - times[-1], 1e-3) if later else len(times) / max(now - since, 1e-3)
