"""The loop that runs the calls of a block."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from .._wire.pickling import PLAIN, pack, pack_error
from .block import RunningBlock

# From this duration (s) on, a call's duration and memory are noted. Less, and calls spend their time with it.
_LONG = 0.02

# Makes a call's value of what the call returned.
Finish = Callable[[Any], Awaitable[Any]]


async def run_calls(
    block: RunningBlock, call: Callable[..., Any], finish: Finish | None, largest: int | None, page: memoryview
) -> None:
    """Run the calls of a block, one after the other, and keep the outcomes in it.

    Parameters
    ----------
    block : RunningBlock
    call : callable
        What to call with the arguments of each.
    finish : callable or None
        Makes a call's value of what `call` returns; None if that is the value.
    largest : int or None
        After so many bytes of values the rest is given back.
    page : memoryview
        As in `Channel`.
    """
    values, clock, size = block.values, time.perf_counter, 0
    run_next = _next_call(call, block)
    page[0] = block.number
    since = block.begin()
    for place in block.places:
        page[1] = place
        try:
            value = run_next()
            if finish is not None:
                value = await finish(value)
            kind = type(value)
            if kind not in PLAIN:
                packed = block.packed[len(values)] = pack(value, by_file=False)
                value = None
                size += packed.size
                if packed.references and largest is not None:
                    block.give_up()  # they are Ray's to carry, at the end of the block
            elif kind is str or kind is bytes:
                size += len(value)
        except BaseException as error:  # SystemExit too: it would end the actor for good
            if isinstance(error, SystemExit):
                block.exits = True
                block.give_up()
            block.errors[len(values)] = pack_error(error)
            value = None
        now = clock()
        if now - since > _LONG:
            block.note_long(now - since)
        block.since = since = now
        values.append(value)  # last: what `values` has is complete
        if largest is not None and size > largest:
            block.give_up()


def _next_call(function: Callable[..., Any], block: RunningBlock) -> Callable[[], Any]:
    """Return what runs the next call of a block, and does not refer to its arguments afterwards."""
    items, width, pop = block.items, block.width, block.items.pop
    if width == 1:
        return lambda: function(pop())
    if width is None:
        return lambda: function(*pop())

    def run() -> Any:
        args = items[: -width - 1 : -1]
        del items[-width:]
        return function(*args)

    return run
