"""What reaches the dispatcher, the way there, and what it asks of the world."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty
from typing import TYPE_CHECKING, Any, Protocol

from ._blocks import Block, Series
from ._calls import Arguments, Call, Function, Outcomes
from ._mailbox import Mailbox
from .errors import ExecutorBroken, WorkerLost, WorkerOutOfMemory

if TYPE_CHECKING:
    from ._dispatcher import Dispatcher


GONE = "Ray was shut down, or is gone, while the executor had need of it"


class Worker(Protocol):
    """One actor, as the dispatcher sees it."""

    handle: Any
    host: str  # empty until the worker is up
    pid: int
    node: str  # of the cluster, as far as it is known; or where the worker is meant to go; or empty

    @property
    def place(self) -> str:
        """Process and host, for messages."""

    def run(self, block: Block) -> bool:
        """Send a block, which waits for its turn. Later `Finished` is posted, or `Failed`, or `Lost`.

        Returns whether another one may be sent before this one is over.
        """

    def surrender(self, block: Block) -> None:
        """Ask for what there is of the block, and to leave the rest. `Surrendered` is posted, unless it is over."""

    def look(self, block: Block, with_stack: bool) -> Future[Any] | None:
        """Ask which call of a block runs. The answer is an `actor.Look`. None if there is nobody to ask."""

    def store(self, function: Function) -> None:
        """Replace the stored function, after what the worker runs now."""

    def dismiss(self) -> None:
        """Let go of the worker, which is idle, starting or lost."""

    def kill(self) -> None:
        """End the worker at once, whatever it runs."""


class Cluster(Protocol):
    """Where workers come from."""

    replaceable: bool  # whether a lost worker can be replaced, or there is one fewer from then on
    interruptible: bool  # whether workers can surrender a block

    @property
    def alive(self) -> bool:
        """Whether it is there, and can be heard from again."""

    def reachable(self) -> bool:
        """Whether it still answers. May take seconds, and is asked while something is expected of it."""

    @property
    def leaving(self) -> Collection[str]:
        """The nodes that are about to go, as `reachable` found out."""

    @property
    def needs(self) -> str:
        """What a worker needs, and what there is of it, for messages."""

    def home_of(self, block: Block) -> str:
        """Return the node that has most of what a block needs, if that is large; empty if there is none."""

    def start_worker(self, post: Callable[[Message], None]) -> Worker:
        """Begin to start a worker. Later `Started` is posted, or `Lost`, or `Broken`."""

    def close(self) -> None:
        """Let go of everything. No worker is used after this."""


@dataclass(slots=True, eq=False)
class More:
    """Calls were added to a series that had run out of them."""

    series: Series


@dataclass(slots=True, eq=False)
class Abandon:
    """Nobody wants the rest of a series."""

    series: Series


@dataclass(slots=True, eq=False)
class StartAll:
    """Start all workers now, and not only when there is work for them."""


@dataclass(slots=True, eq=False)
class Store:
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

    If it is a `WorkerOutOfMemory`, Ray or the kernel killed it, and there is memory for fewer workers only.
    """

    worker: Worker
    error: WorkerLost


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
    """A question about the dispatcher's state, answered on its thread."""

    question: Callable[[Dispatcher], Any]
    answer: Future[Any]

    def reply(self, dispatcher: Dispatcher) -> None:
        """Answer the question."""
        try:
            self.answer.set_result(self.question(dispatcher))
        except Exception as error:
            self.answer.set_exception(error)


Work = Call | Series | More | StartAll | Store | Inspect
News = Started | Finished | Surrendered | Exceeded | Failed | Lost | Broken
Message = Work | News | Abandon | Cancel | Close


class Inbox:
    """The way to the dispatcher, from any thread, and the gate in it.

    Promise: what `admit` lets in is handled; once the gate is shut, nothing more is let in.
    """

    def __init__(self) -> None:
        self._messages: Mailbox[Message] = Mailbox()
        self._gate = threading.Lock()
        self._closed = False  # under the gate
        self._ended = False  # under the gate
        self._broken: ExecutorBroken | None = None  # under the gate

    def admit(self, work: Work) -> None:
        """Let work in.

        Raises
        ------
        ExecutorBroken
            If the executor is broken.
        RuntimeError
            If it was shut down.
        """
        with self._gate:
            self.check()
            self._messages.put(work)

    def check(self) -> None:
        """Raise what `admit` would."""
        if self._broken is not None:
            # A copy, because an exception collects the tracebacks of all places it is raised in.
            raise ExecutorBroken(*self._broken.args) from self._broken.__cause__
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def feed(self, series: Series, args: Arguments) -> None:
        """Add a call to a series that was admitted; raises as `admit` does."""
        self.check()
        series.calls.append(args)
        # Read after the append: see `Queue._unqueue`.
        if not series.queued:
            self.admit(More(series))

    def ask(self, question: Inspect) -> bool:
        """Let a question in, also when work is refused. Returns whether it will be answered: False after the end."""
        with self._gate:
            if not self._ended:
                self._messages.put(question)
            return not self._ended

    def end(self) -> None:
        """Let no question in any more."""
        with self._gate:
            self._ended = True

    def close(self, broken: ExecutorBroken | None = None) -> None:
        """Shut the gate."""
        with self._gate:
            self._closed = True
            self._broken = self._broken or broken

    def post(self, message: Message) -> None:
        """Tell the dispatcher something that cannot be refused."""
        self._messages.put(message)

    def get(self, timeout: float | None = None) -> list[Message]:
        """Wait for a message, at most `timeout` seconds, and return it; or none if none came."""
        try:
            return [self._messages.get(timeout=timeout)]
        except Empty:
            return []

    def drain(self) -> Iterator[Message]:
        """Yield all messages that are there."""
        for _ in range(len(self._messages)):
            if self._messages:  # whoever handled one of them may have handled the rest
                yield self._messages.get()
