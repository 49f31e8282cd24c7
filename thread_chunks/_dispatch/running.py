"""What runs now: the dispatcher knows which blocks, and the workers which of their calls."""

from __future__ import annotations

import reprlib
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .._calls.calls import Arguments, written
from .._calls.functions import Batch
from .._wire.protocol import CARRIED_KEY
from ..report import RunningCall, RunningCalls
from .dispatcher import Dispatcher
from .naming import short_form_of_batch


@dataclass(slots=True, eq=False)
class Candidate:
    """A block that runs, as the dispatcher saw it, and the worker's answer to which call of it runs."""

    function: str
    is_carried: bool  # the first argument of each call is its function
    first: int
    calls: list[Arguments]
    oldest: int  # the first call of which no outcome is known
    began: float
    host: str
    pid: int
    answer: Future[Any] | None


def running_calls(candidates: list[Candidate], *, timeout: float) -> RunningCalls:
    """Return the calls that run, of the candidates; the workers get `timeout` (s) to answer."""
    deadline = time.monotonic() + timeout
    found = (_running_call(candidate, deadline) for candidate in candidates)
    return RunningCalls(call for call in found if call is not None)


def find_candidates(dispatcher: Dispatcher, stacks: bool) -> list[Candidate]:
    """Return the blocks that run, on the dispatcher's thread, and ask their workers which call runs."""
    candidates = []
    for worker, current in dispatcher.crew.running:
        block = current.block
        if block.open:
            answer = worker.look(block, stacks)
            is_carried = block.function.parcel.key == CARRIED_KEY
            # A copy, as the dispatcher goes on.
            calls, name, oldest = list(block.calls), block.function.name, block.open[0][0]
            began, host, pid = current.began, worker.host, worker.pid
            candidates.append(Candidate(name, is_carried, block.first, calls, oldest, began, host, pid, answer))
    return candidates


def _running_call(candidate: Candidate, deadline: float) -> RunningCall | None:
    index, seconds, memory, stack = candidate.oldest, time.monotonic() - candidate.began, None, None
    if candidate.answer is not None:
        with suppress(Exception):  # the worker died, or does not answer in time
            look = candidate.answer.result(max(0.0, deadline - time.monotonic()))
            if look is None:
                return None  # it is over, or has not begun
            index, seconds, memory, stack = look.index, look.seconds, look.memory, look.stack
    if index >= len(candidate.calls):
        return None
    args = candidate.calls[index]
    is_batch = candidate.is_carried and type(args[0]) is Batch
    arguments = short_form_of_batch(args[0]) if is_batch else written(args[candidate.is_carried :], reprlib.repr)
    return RunningCall(
        candidate.function,
        candidate.first + index,
        arguments,
        candidate.host,
        candidate.pid,
        seconds,
        memory,
        stack,
    )
