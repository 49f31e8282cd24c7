"""What is asked of a worker while it runs a block: to surrender it, to say where it is, to mind its memory."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .._wire.protocol import Excess, Look, Reply
from .block import RunningBlock
from .memory import resident

# How often a worker looks at its memory, if that is limited (s). Less, and it takes time from the calls: each look
# takes some 15 us and the GIL. More, and the limit is exceeded by more: 20 MB by a call that takes 1 GB/s.
_LOOKS = 0.02

_HERE = os.path.dirname(__file__)


class Control:
    """Answer for the block of an executor that runs. Any thread may ask.

    The thread that runs the calls says which block begins (`running`). The lock guards all but the event.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._block: RunningBlock | None = None  # what runs
        self._thread = 0  # where it runs
        self._begun = 0  # the highest number among the blocks that began: they begin in their order
        self._given_back: set[int] = set()  # the numbers of those that were surrendered before they began
        self._retired = False  # no call begins here any more
        self._dismissed = threading.Event()

    @contextmanager
    def running(self, block: RunningBlock) -> Iterator[None]:
        """Answer for a block until the context ends. If it was surrendered before, none of its calls is left."""
        with self._lock:
            self._begun = max(block.number, self._begun)
            if block.number in self._given_back:
                self._given_back.remove(block.number)
                block.surrender()
            elif self._retired:
                block.give_up()
            self._block, self._thread = block, threading.get_ident()
        try:
            yield
        finally:
            with self._lock:
                self._block = None

    def surrender(self, number: int) -> Reply | bool:
        """Hand over what there is of a block, and do not start the rest of it.

        If the block does not run, return whether it did. One that did not never will.
        """
        with self._lock:
            block = self._block
            if block is None or block.number != number:
                if number <= self._begun:
                    return True
                self._given_back.add(number)
                return False
        return block.surrender()

    def look(self, number: int, with_stack: bool) -> Look | None:
        """Say which call of a block runs. Return None if the block does not run."""
        with self._lock:
            block, thread = self._block, self._thread
        if block is None or block.number != number or (since := block.since) is None:
            return None
        stack = _stack(block, thread) if with_stack else None
        return Look(len(block.values), time.perf_counter() - since, resident(), stack)

    def watch(self, limit: int) -> Excess | None:
        """Wait until the process has more than `limit` bytes for itself, or `dismiss` is called.

        It sees nothing while a call holds the GIL.
        """
        while not self._dismissed.wait(_LOOKS):
            if resident() > limit:
                with self._lock:
                    if (used := resident()) <= limit:  # as a block was over, and another began
                        continue
                    self._retired = True
                    block = self._block
                if block is None:
                    return Excess(None, 0, used)
                label = block.label
                block.give_up()
                return Excess(block.number, label, used)
        return None

    def retire(self) -> None:
        """Begin no call any more; the one that runs goes on."""
        with self._lock:
            self._retired, block = True, self._block
        if block is not None:
            block.give_up()

    def dismiss(self) -> None:
        """Begin no call any more, and end `watch`."""
        self._dismissed.set()
        self.retire()


def _stack(block: RunningBlock, thread: int) -> str | None:
    """Return the stack of the call that runs, from the user's first frame on."""
    awaited = block.awaited
    if awaited is not None and not awaited.cr_running:  # the thread runs something else until the coroutine goes on
        return "".join(traceback.format_list(traceback.StackSummary.extract(_frames(awaited))))
    if (frame := sys._current_frames().get(thread)) is None:  # noqa: SLF001 (documented)
        return None
    frames = traceback.extract_stack(frame)
    ours = max((index for index, entry in enumerate(frames) if os.path.dirname(entry.filename) == _HERE), default=-1)
    return "".join(traceback.format_list(frames[ours + 1 :]))


def _frames(awaited: Any) -> Iterator[tuple[FrameType, int]]:
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        yield frame, frame.f_lineno
        awaited = awaited.cr_await
