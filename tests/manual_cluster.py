"""A cluster that a test drives by hand, and a dispatcher that handles one message at a time."""

from __future__ import annotations

import weakref

from benchmarks.simulated_worker import SimulatedWorker
from thread_chunks._calls.calls import Call, Given, Limits
from thread_chunks._calls.functions import Function, Parcel
from thread_chunks._calls.mailbox import Mailbox
from thread_chunks._calls.series import Series
from thread_chunks._calls.supply import Supply
from thread_chunks._dispatch.dispatcher import Dispatcher
from thread_chunks._dispatch.inbox import Inbox
from thread_chunks._dispatch.messages import Cancel, Exceeded, Lost, StartAll, Started
from thread_chunks.errors import WorkerLost, WorkerOutOfMemory


class Argument:
    """What calls are made with; may be referred to weakly."""

    def __init__(self, name):
        self.name = name


class ManualWorker(SimulatedWorker):
    """Does nothing by itself: the test says when it is up, runs a call, surrenders, finishes or dies.

    What it answers lies in `mail` until the test delivers it.
    """

    def __init__(self, cluster):
        self.mail = []
        super().__init__(self.mail.append)
        self.handle = self
        self.cluster = cluster
        self.node = f"node {len(cluster.started)}"
        self.retired = False
        self.dismissed = False
        self.killed = False
        self.asked = []  # blocks that it was asked to surrender

    @property
    def blocks(self):
        """Its blocks, as they were sent; the first one runs."""
        return [run.block for run in self.runs]

    @property
    def block(self):
        return self.runs[0].block if self.runs else None

    @property
    def calls(self):
        """The names of the calls of the block that runs which are still to be run."""
        run = self.runs[0]
        return run.calls[run.done : run.stop]

    def run(self, block):
        assert not self.dismissed
        assert len(self.runs) < 2, "one block ahead at the most"
        names = [arguments[0].name for arguments in block.calls]
        self.cluster.sent.extend(names)
        self.receive(block, names)
        return self.interruptible

    def begin(self):
        if self.retired:
            self.give_up()

    def compute(self, calls):
        self.cluster.ran.extend(calls)
        return list(calls)

    def run_call(self):
        """Run one call of the block."""
        assert self.calls
        self.run_up_to(self.runs[0].done + 1)

    def give_up(self):
        """Give back, with the next answer, the calls of the block that have not been run."""
        self.runs[0].give_up()

    def finish(self):
        """Run the remaining calls, and answer."""
        self.run_up_to(self.runs[0].stop)
        self.end()

    def die(self):
        self.runs, self.asked = [], []

    def fail(self):
        """Lose the running block and begin the next one. Return the lost block."""
        block = self.runs.pop(0).block
        if self.runs:
            self.begin()
        return block

    def answer_surrender(self, running):
        """Give back the calls that have not started; `running` is how many have but did not finish."""
        self.give_back(self.asked.pop(0), running, running=1e-9)

    def surrender(self, block):
        self.asked.append(block)

    def retire(self):
        """Have too much memory: begin nothing any more."""
        self.retired = True
        if self.runs:
            self.runs[0].give_up(keep=1)
        self.mail.append(Exceeded(self, WorkerOutOfMemory("too much"), self.block))

    def replace_function(self, function):
        self.holds = function

    def dismiss(self):
        assert not self.dismissed
        self.dismissed = True

    def kill(self):
        assert not self.dismissed
        self.killed = True
        self.die()


class ManualCluster:
    def __init__(self, limit=None):
        self.replaceable = limit is None
        self.limit = limit
        self.started = []
        self.sent = []  # the name of each call that was sent to a worker
        self.ran = []  # the name of each call that was run
        self.closed = False
        self.alive = True
        self.leaving = set()
        self.homes = {}  # the node that has the arguments of a call, by the call's name

    def why_late(self, size):
        return f"{size} are many"

    def home_of(self, block):
        return self.homes.get(block.calls[0][0].name, "")

    def start_worker(self, post, index):
        assert self.limit is None or len(self.started) < self.limit
        self.started.append(ManualWorker(self))
        return self.started[-1]

    def reachable(self):
        return self.alive

    def close(self):
        self.closed = True


class Driver:
    """A dispatcher with the means to feed it."""

    def __init__(self, size, limit=None, max_tasks=None):
        self.cluster = ManualCluster(limit)
        self.function = Function(None, Parcel(b"stored"))
        self.inbox = Inbox()
        self.now = 0.0
        self.dispatcher = Dispatcher(self.cluster, self.inbox, size, max_tasks, lambda: self.now)
        self.arguments = {}  # weak references, by name

    def argument(self, name):
        argument = Argument(name)
        self.arguments[name] = weakref.ref(argument)
        return argument

    def pump(self):
        for message in self.inbox.drain():
            if not self.dispatcher.finished:
                self.dispatcher.handle([message])
                self.dispatcher.ring(self.now)

    def submit(self, name, **limits):
        call = Call(self.function, Given((self.argument(name),)), Limits(**limits))
        self.inbox.admit(call)
        self.pump()
        return call.future

    def map(self, names, chunksize=None, **limits):
        outbox = Mailbox()
        series = Series(self.function, weakref.ref(outbox), chunksize, limits=Limits(**limits))
        series.calls = Supply([[self.argument(name) for name in names]])
        self.inbox.admit(series)
        self.pump()
        return series, outbox

    def post(self, message):
        self.inbox.post(message)
        self.pump()

    def cancel(self, future):
        if future.done() or not self.dispatcher.has(future):
            return False
        self.post(Cancel(future))
        return True

    def up(self, worker):
        self.post(Started(worker))

    def finish(self, worker):
        worker.finish()
        self.deliver(worker)

    def deliver(self, worker, index=0):
        self.post(worker.mail.pop(index))

    def surrender(self):
        """Let the time come at which each running block is overdue."""
        self.sleep(1000)

    def sleep(self, seconds):
        """Let time pass."""
        self.now += seconds
        if not self.dispatcher.finished:
            self.dispatcher.ring(self.now)

    def lose(self, worker, error=WorkerLost):
        worker.die()
        self.post(Lost(worker, error("died")))

    def exceed(self, worker):
        """Let a worker find out that it has too much memory."""
        worker.retire()
        self.deliver(worker)

    @property
    def running(self):
        return [worker for worker in self.cluster.started if worker.blocks]

    @property
    def starting(self):
        return [member.worker for member in self.dispatcher.crew.starting]

    @property
    def idle(self):
        return [member.worker for member in self.dispatcher.crew.idle]


def fast_driver(size=2):
    """Return a driver that expects calls to take no time, and its workers."""
    driver = Driver(size)
    driver.function.parcel.pace.observe(1000, 1e-6)
    driver.post(StartAll())
    for worker in driver.cluster.started:
        driver.up(worker)
    return driver, driver.cluster.started


def answer(worker, running, seconds):
    """Let a worker say since when a call runs."""
    worker.answer_surrender(running)
    worker.mail[-1].collect().running = seconds


def batch(driver, names, **limits):
    """Submit calls that may travel together; return their futures."""
    calls = [Call(driver.function, Given((driver.argument(name),)), Limits(**limits)) for name in names]
    for call in calls:
        driver.inbox.admit(call)
    driver.pump()
    return [call.future for call in calls]


def ready_driver(names, size=1, seconds=0.00005, **limits):
    """Return a driver whose only worker has the calls, in blocks as long as such calls allow."""
    driver = Driver(size)
    driver.function.parcel.pace.observe(16, 16 * seconds)
    futures = batch(driver, names, **limits)
    (worker,) = driver.cluster.started
    driver.up(worker)
    return driver, worker, futures


def run_out(driver):
    """Let all that can happen, happen; time passes only when nothing else does."""
    for _ in range(300):
        for worker in driver.cluster.started:
            if worker in driver.starting:
                driver.up(worker)
            elif worker.killed or worker.dismissed:
                continue
            elif worker.mail:
                driver.deliver(worker)
            elif worker.asked:
                worker.answer_surrender(1)
            elif worker.blocks:
                driver.finish(worker)
            else:
                continue
            break
        else:
            driver.sleep(1)


NAMES = [f"c{number}" for number in range(12)]


def followed_driver():
    """Return a driver whose only worker runs a block of one call, behind which another such waits; and the futures."""
    driver = Driver(1)
    driver.function.parcel.pace.observe(1, 0.01)
    first = driver.submit("a")
    (worker,) = driver.cluster.started
    driver.up(worker)
    second = driver.submit("b")
    assert [len(block.calls) for block in worker.blocks] == [1, 1]
    return driver, worker, first, second
