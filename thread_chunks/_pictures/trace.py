"""A run in the Trace Event Format, for Perfetto and ``chrome://tracing``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .timeline import Mark, Timeline

_PROCESS = 1


def trace(timeline: Timeline, facts: Mapping[str, str]) -> dict[str, Any]:
    """Return the trace, as what JSON knows. Times are in microseconds."""
    events: list[dict[str, Any]] = [_named("process_name", 0, "workers")]
    events += [_named("thread_name", row, f"worker {row}") for row in sorted({span.worker for span in timeline.spans})]
    for span in timeline.spans:
        place = {"pid": _PROCESS, "tid": span.worker}
        begin, end = round(span.begin * 1e6), round(span.end * 1e6)
        events.append(
            {
                "ph": "X",
                "name": span.function or span.mark.value,
                "cat": span.mark.value or ("call" if span.calls == 1 else "block"),
                "ts": begin,
                "dur": end - begin,
                "args": {"calls": span.calls, "failures": span.failures, "memory": span.memory},
                **place,
            }
        )
        if span.mark in (Mark.LOST, Mark.KILLED, Mark.RETRIED):
            events.append({"ph": "i", "s": "t", "name": span.mark.value, "ts": end, **place})
    for when, count in timeline.failures:
        event = {"ph": "i", "s": "p", "name": f"{count} failed", "ts": round(when * 1e6), "pid": _PROCESS, "tid": 0}
        events.append(event)
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"began": timeline.began, **facts}}


def _named(what: str, row: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": _PROCESS, "tid": row, "args": {"name": name}}
