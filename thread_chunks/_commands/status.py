"""Print the progress, failures and slowest calls of the runs in a checkpoint file."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from threading import Event
from typing import Any

import psutil

from .._checkpoints.opening import read_store
from .._checkpoints.probe import real_path
from .._checkpoints.store import Run, Store
from ..errors import CheckpointRefused
from .words import duration, printable

# Seconds over which the rate is measured. With fewer it jumps; with more it is out of date.
_RECENT = 300.0

# The most outcomes that are read for it.
_SAMPLE = 10_000

# How many of the failed calls are named.
_NAMED = 3

# Longer texts are cut (characters). The package writes none.
_LONGEST = 300

# A log beside the file is mentioned from this size on (bytes). SQLite lets it grow to some 65 MB.
_LARGE_LOG = 100e6

# The system says when a program started up to so inexactly (s).
_INEXACT = 1.0

# How often `--watch` looks again (s).
_INTERVAL = 2.0


def show(paths: Sequence[str], *, watch: bool, as_json: bool) -> int:
    """Print the progress of the runs; return the exit status, 1 if a file is not a checkpoint, or cannot be read.

    With `watch`, wait for the files that are not there, and print again every two seconds. The files stay as they are.
    """
    look = _show_as_json if as_json else _show_as_text
    awaited: set[str] = set()
    while True:
        failed = False
        for path in paths:
            if watch and not os.path.exists(path):
                if path not in awaited:
                    text = f"waiting for {printable(os.path.abspath(path))} (Ctrl-C ends this)"
                    print(text, file=sys.stderr, flush=True)
                awaited.add(path)
                continue
            try:
                look(_status(path))
            except (CheckpointRefused, OSError) as error:
                print(printable(str(error)), file=sys.stderr, flush=True)
                failed = True
        if failed or not watch:
            return int(failed)
        Event().wait(_INTERVAL)


def _show_as_json(status: dict[str, Any]) -> None:
    print(json.dumps(status), flush=True)


def _show_as_text(status: dict[str, Any]) -> None:
    log = status["log_bytes"]
    more = f", and {log / 1e6:.0f} MB in the log beside it, which the end of a run takes in" if log > _LARGE_LOG else ""
    print(f"{printable(status['path'])}  {status['bytes'] / 1e6:.1f} MB{more}")
    if not status["functions"]:
        print("  there is nothing in it yet: no call has finished")
    for function in status["functions"]:
        print(f"  {', '.join(_facts(function))}{_end(function)}")
        for line in _calls(function):
            print(f"    {printable(line)}")
    for program in status["programs"]:
        print(f"  {program['memory'] / 2**20:.0f} MiB in {program['pid']}: {printable(program['command'])[:100]}")
    sys.stdout.flush()


def _facts(function: dict[str, Any]) -> Iterator[str]:
    total, finished = function["total"], function["finished"]
    older = " (older code)" if function["older_code"] else ""
    yield f"{printable(function['function'])}{older}: {finished} of {'unknown' if total is None else total}"
    if total and finished < total:
        yield f"{100 * finished // total} %"
    if function["per_second"]:
        yield f"{function['per_second']:.3g} per s"
    if function["seconds_left"] is not None:
        yield f"{duration(function['seconds_left'])} left"
        yield f"over {_moment(time.time() + function['seconds_left'])}"
    if finished == total and function["last_value"] is not None:
        yield f"finished {_moment(function['last_value'])}"
    if function["failed"]:
        yield f"{function['failed']} failed"


def _end(function: dict[str, Any]) -> str:
    """Return what is said of a run that is not over, and that no program goes on with."""
    if function["running"] or function["finished"] == function["total"]:
        return ""
    last = "" if function["last_value"] is None else f" (last value {_moment(function['last_value'])})"
    is_useful = function["total"] is not None and not function["older_code"]
    return f"; not running{last}{': run the program again to go on' if is_useful else ''}"


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


def _status(path: str) -> dict[str, Any]:
    path = real_path(path)
    programs = list(_programs(path))  # before this program opens it, too
    with closing(read_store(path)) as store, store.bounded():
        functions = [_status_of(store, run, programs) for run in store.last_runs()]
    log = 0
    with suppress(FileNotFoundError):
        log = os.path.getsize(f"{path}-wal")
    return {
        "path": path,
        "bytes": os.path.getsize(path),
        "log_bytes": log,
        "functions": functions,
        "programs": programs,
    }


def _programs(path: str) -> Iterator[dict[str, Any]]:
    """Yield the programs of this user that have the file open, except those that run `status`."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(file.path == path for file in process.open_files()):
                command = process.cmdline()
                if not {"thread_chunks", "status"} <= set(command):
                    yield {
                        "pid": process.pid,
                        "command": " ".join(command),
                        "memory": process.memory_info().rss,
                        "started": process.create_time(),
                    }


def _status_of(store: Store, run: Run, programs: list[dict[str, Any]]) -> dict[str, Any]:
    finished, last = store.finished(run)
    failed, last_failures = store.failures(run, _NAMED)
    is_open = finished != run.total
    # A program that was started later goes on with another run.
    is_running = is_open and any(program["started"] <= run.started + _INEXACT for program in programs)
    rate = _rate_of(store, run) if is_running else None
    left = (run.total - finished) / rate if run.total is not None and rate else None
    return {
        "function": run.name,
        "older_code": run.is_older,
        "finished": finished,
        "total": run.total,
        "running": is_running,
        "per_second": rate,
        "seconds_left": left,
        "last_value": last,
        "started": run.started,
        "failed": failed,
        "last_failures": [asdict(failure) for failure in last_failures],
        "slowest": [asdict(slow) for slow in store.slowest(run.function)],
    }


def _rate_of(store: Store, run: Run) -> float:
    now = time.time()
    since = max(run.started, now - _RECENT)
    latest = store.latest(run.function, _SAMPLE)
    if len(latest) == _SAMPLE:
        since = max(since, latest[-1])
    return _rate([when for when in latest if when >= since], since, now)


def _rate(times: list[float], since: float, now: float) -> float:
    """Return the outcomes per second, from the times at which they came since then, the latest first.

    The time before the first outcome, in which workers start, does not count.
    """
    later = sum(when > times[-1] for when in times) if times else 0
    return later / max(now - times[-1], 1e-3) if later else len(times) / max(now - since, 1e-3)
