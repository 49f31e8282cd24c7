"""``python -m thread_chunks status PATH``: how far the runs are that write to a checkpoint file."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from threading import Event
from typing import Any

from ._checkpoints.store import Run, Store, open_store
from ._version import __version__
from .errors import CheckpointRefused

# The rate is that of so many seconds: fewer, and it jumps; more, and it tells of a time that is over.
_RECENT = 300.0

# At most so many outcomes are looked at for it.
_SAMPLE = 10_000

# How often `--watch` looks again (s).
_INTERVAL = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser("python -m thread_chunks", description="What is in a checkpoint file.")
    parser.add_argument("--version", action="version", version=f"thread_chunks {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="how far each function is, at what rate, and the time left")
    status.add_argument("path", help="the checkpoint file; a run may be writing to it")
    status.add_argument("--watch", action="store_true", help="look again and again, until Ctrl-C")
    status.add_argument("--json", action="store_true", help="print one JSON object for each look")
    options = parser.parse_args(arguments)
    try:
        with closing(open_store(options.path, must_exist=True)) as store, suppress(KeyboardInterrupt):
            show = _show_as_json if options.json else _show_as_text
            show(store)
            while options.watch:
                Event().wait(_INTERVAL)
                show(store)
    except (CheckpointRefused, OSError) as error:
        print(_shown(str(error)), file=sys.stderr)
        return 1
    return 0


def _show_as_json(store: Store) -> None:
    print(json.dumps(_status(store)), flush=True)


def _show_as_text(store: Store) -> None:
    status = _status(store)
    print(f"{_shown(status['path'])}  {status['bytes'] / 1e6:.1f} MB")
    for function in status["functions"]:
        print("  " + ", ".join(_facts(function)), flush=True)


def _shown(text: str) -> str:
    """Return a text that may come from a stranger as one line that does nothing to a terminal, and can be printed."""
    line = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    encoding = sys.stdout.encoding or "ascii"
    return line.encode(encoding, "backslashreplace").decode(encoding)


def _facts(function: dict[str, Any]) -> Iterator[str]:
    total = function["total"]
    yield f"{_shown(function['function'])}: {function['finished']} of {'unknown' if total is None else total}"
    if total:
        yield f"{100 * function['finished'] // total} %"
    if function["per_second"]:
        yield f"{function['per_second']:.3g} per s"
    if function["seconds_left"] is not None:
        yield f"{_duration(function['seconds_left'])} left"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _status(store: Store) -> dict[str, Any]:
    size = os.path.getsize(store.path)
    with suppress(FileNotFoundError):
        size += os.path.getsize(f"{store.path}-wal")
    with store.bounded():
        functions = [_status_of(store, run) for run in store.last_runs()]
    return {"path": store.path, "bytes": size, "functions": functions}


def _status_of(store: Store, run: Run) -> dict[str, Any]:
    finished = store.finished(run)
    now = time.time()
    since = max(run.started, now - _RECENT)
    latest = store.latest(run.function, _SAMPLE)
    if len(latest) == _SAMPLE:
        since = max(since, latest[-1])
    rate = sum(when >= since for when in latest) / max(now - since, 1e-3)
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
    }


if __name__ == "__main__":
    sys.exit(main())
