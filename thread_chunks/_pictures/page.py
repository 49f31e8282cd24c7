"""A run as one page of HTML, which needs no other file and no network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files

from .timeline import Timeline


def page(timeline: Timeline, head: Sequence[str], functions: Sequence[Sequence[str]], facts: Mapping[str, str]) -> str:
    """Return the page: `head` and `functions` are the table of the functions."""
    names = sorted({span.function for span in timeline.spans})
    places = {name: place for place, name in enumerate(names)}
    run = {
        "began": timeline.began,
        "seconds": timeline.seconds,
        "names": names,
        "spans": [
            [
                span.worker,
                places[span.function],
                round(span.begin, 4),
                round(span.end, 4),
                span.calls,
                span.failures,
                span.memory,
                span.mark.value,
            ]
            for span in timeline.spans
        ],
        "failures": timeline.failures,
        "histograms": [[spread.function, spread.seconds, spread.memory] for spread in timeline.histograms],
        "table": [head, *functions],
        "facts": dict(facts),
    }
    # A name may end the script, or begin a comment in it.
    data = json.dumps(run).replace("<", "\\u003c")
    return files(__package__).joinpath("page.html").read_text("utf-8").replace("@DATA@", data)
