"""The messages that reach the dispatcher."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from .._calls.blocks import Block
from .._calls.calls import Call, Outcomes
from .._calls.functions import Function
from .._calls.series import Series
from ..errors import ExecutorBroken, WorkerLost, WorkerOutOfMemory
from .worker import Worker


@dataclass(slots=True, eq=False)
class Depending:
    """A call of `submit` that waits for futures among its arguments."""

    call: Call
    futures: list[Future[Any]]


@dataclass(slots=True, eq=False)
class Satisfied:
    """A future is over: one that a call waits for, or the call's own, which was cancelled."""

    depending: Depending
    future: Future[Any]


@dataclass(slots=True, eq=False)
class More:
    """Calls were added to a series that had run out of them."""

    series: Series


@dataclass(slots=True, eq=False)
class Abandon:
    """The rest of a series is not wanted any more."""

    series: Series


@dataclass(slots=True, eq=False)
class StartAll:
    """Start all workers now, and not only when there is work for them."""


@dataclass(slots=True, eq=False)
class ReplaceFunction:
    """All workers get another stored function, whether they get a call of it or not."""

    function: Function


@dataclass(slots=True, eq=False)
class Started:
    """A worker is up."""

    worker: Worker


@dataclass(slots=True, eq=False)
class Finished:
    """A worker has run a block, or what was left of it when it surrendered the rest.

    `collect` rebuilds the outcomes, which takes time, and never raises. The last `left` calls of the block are
    given back by this message; they were not run. It may overtake `Surrendered`.
    """

    worker: Worker
    block: Block
    collect: Callable[[], Outcomes]
    left: int = 0


@dataclass(slots=True, eq=False)
class Surrendered:
    """A worker has given the outcomes that it had, and gives back the last `left` calls of the block.

    The call that runs, if one does, comes with `Finished`, which may have been posted before this. A block that
    had not begun is given back whole, and comes with `Finished` all the same when it is its turn.
    """

    worker: Worker
    block: Block
    collect: Callable[[], Outcomes]
    left: int


@dataclass(slots=True, eq=False)
class Exceeded:
    """A worker has more memory than a call may take. Nothing else begins there: all is given back.

    If a block runs, its call that runs is what took the memory. The block may be over by now.
    """

    worker: Worker
    error: WorkerOutOfMemory
    block: Block | None = None


@dataclass(slots=True, eq=False)
class Failed:
    """A block failed as a whole, for a reason that is not the worker's; `error` is for all its calls.

    If it was not `sent`, because of one of them, the others are to be sent without it.
    """

    worker: Worker
    block: Block
    error: BaseException
    sent: bool = True


@dataclass(slots=True, eq=False)
class Lost:
    """A worker is dead; `error` is for the calls that it ran.

    Of the blocks in `begun`, only so many calls had begun; of others, it is not known.
    If it is a `WorkerOutOfMemory`, Ray or the kernel killed it, and there is memory for fewer workers only.
    """

    worker: Worker
    error: WorkerLost
    begun: dict[Block, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Broken:
    """No worker can work, and none ever will; `explain` makes the error, and never raises."""

    explain: Callable[[], ExecutorBroken]


@dataclass(slots=True, eq=False)
class Close:
    """Finish what was admitted (or cancel what waits, or kill what runs too), then end."""

    cancel: bool = False
    kill: bool = False


@dataclass(slots=True, eq=False)
class Cancel:
    """A call of `submit` is not wanted any more, though it was sent."""

    future: Future[Any]


@dataclass(slots=True, eq=False)
class Inspect:
    """A question about the dispatcher's state, answered on its thread. It must not refer to the executor."""

    question: Callable[[], Any]
    answer: Future[Any]

    def reply(self) -> None:
        """Answer the question."""
        try:
            self.answer.set_result(self.question())
        except Exception as error:
            self.answer.set_exception(error)


Work = Call | Depending | Series | More | StartAll | ReplaceFunction | Inspect
News = Started | Finished | Surrendered | Exceeded | Failed | Lost | Broken
Message = Work | News | Satisfied | Abandon | Cancel | Close
