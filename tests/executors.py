"""Make the tests' executors. On Ray, several tests share one in turn, since an actor takes long to start."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import ray


def threads_left(known, patience):
    """Return the threads of the package, except known ones, that do not end within `patience` seconds."""
    deadline = time.monotonic() + patience
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("thread_chunks")]
    threads = [thread for thread in threads if thread not in known]
    for thread in threads:
        while thread.ident is None and time.monotonic() < deadline:  # it is being started
            time.sleep(0.001)
        thread.join(max(0, deadline - time.monotonic()))
    return [thread for thread in threads if thread.is_alive()]


class Maker:
    """Make executors of a class for one test, and shut them down at its end."""

    def __init__(self, executor_class):
        self.unkept = executor_class  # for executors that the test itself shuts down
        self._made = []

    def __call__(self, *args, **kwargs):
        return self.fresh(*args, **kwargs)

    def fresh(self, *args, **kwargs):
        """Make an executor that no other test has used."""
        self._made.append(self.unkept(*args, **kwargs))
        return self._made[-1]

    def end(self):
        for executor in self._made:
            executor.shutdown()


# Options with which an executor is after a test what it was before. Of others, as `initializer`, tests see the start.
PLAIN = {"call_timeout", "forward_logging", "max_retries", "zero_copy"}
PLAIN |= {"initargs"}  # which do nothing on their own

# So many executors wait for another test. More, and their workers take memory; fewer, and more are started anew.
MOST_IDLE = 8


def can_be_shared(args, kwargs):
    """Return whether arguments are the number of workers, a function that can be imported, and plain options."""
    *functions, size = args or [None]
    return (
        type(size) is int
        and size > 0
        and len(functions) <= 1
        and all(map(_can_be_imported, functions))
        and kwargs.keys() <= PLAIN
    )


def _can_be_imported(function):
    module = sys.modules.get(getattr(function, "__module__", None))
    return getattr(module, getattr(function, "__name__", ""), None) is function


class ReusingMaker(Maker):
    """Make executors, or take them from a pool if others with the same arguments may do."""

    def __init__(self, executor_class, pool, kind=""):
        super().__init__(executor_class)
        self._pool = pool
        self._kind = kind
        self._taken = []

    def __call__(self, *args, **kwargs):
        if not can_be_shared(args, kwargs):
            return self.fresh(*args, **kwargs)
        self._taken.append(self._pool.take(self._kind, args, kwargs))
        return self._taken[-1]

    def end(self):
        super().end()
        is_busy = bool(threads_left(self._pool.threads, patience=0.5))  # a checkpoint is still written, for one
        for executor in self._taken:
            self._pool.give_back(executor, is_busy)


@dataclass
class Taken:
    """An executor as it was when a test took it."""

    arguments: str
    size: int
    function: Callable | None
    attributes: set[str]


class Pool:
    """Executors that are not in use. One that a test has broken or changed does not return to the pool."""

    def __init__(self, executor_class):
        self._class = executor_class
        self._idle = []  # pairs of what an executor was made with, and the executor; the last was used last
        self._taken = weakref.WeakKeyDictionary()  # by executor
        self._threads = {}  # those that live as long as an executor, by its id

    @property
    def threads(self):
        return set().union(*self._threads.values())

    def take(self, kind, args, kwargs):
        """Return an executor of a kind with such arguments; tests of one kind set up the package alike."""
        arguments = repr((kind, args, sorted(kwargs.items())))  # which tells 1 from True
        found = [pair for pair in self._idle if pair[0] == arguments]
        if found:
            self._idle.remove(found[-1])
        executor = found[-1][1] if found else self._make(*args, **kwargs)
        function = args[0] if len(args) == 2 else None
        self._taken[executor] = Taken(arguments, args[-1], function, set(vars(executor)))
        return executor

    def give_back(self, executor, is_busy):
        """Keep an executor for another test, or end it."""
        taken = self._taken[executor]
        if is_busy or not _is_whole(executor, taken):
            self._end(executor)
            return
        self._idle.append((taken.arguments, executor))
        if len(self._idle) > MOST_IDLE:
            self._end(self._idle.pop(0)[1])

    def open(self):
        """Make an executor that no test gets. It keeps up what all executors share, such as the thread for output."""
        self._anchor = self._make(1)

    def close(self):
        self._end(self._anchor)
        while self._idle:
            self._end(self._idle.pop()[1])

    def _make(self, *args, **kwargs):
        before = set(threading.enumerate())
        executor = self._class(*args, **kwargs)
        executor.submit(int).result()
        self._threads[id(executor)] = set(threading.enumerate()) - before
        return executor

    def _end(self, executor):
        executor.shutdown()
        del self._threads[id(executor)]


def _is_whole(executor, taken):
    try:
        return (
            set(vars(executor)) == taken.attributes
            and executor.submit(int).result(10) == 0
            and not executor.running()
            and executor.size == taken.size
            and _stores(executor, taken.function)
        )
    except (RuntimeError, TimeoutError):  # it was shut down, or is broken or busy
        return False


def _stores(executor, function):
    """Return whether an executor, and each of its actors, has that stored function."""
    if function is None:
        try:
            executor.submit(None)
        except ValueError:
            return True
        return False
    stored = ray.get([actor.get_func.remote() for actor in executor.actors])
    return all((each.__module__, each.__qualname__) == (function.__module__, function.__qualname__) for each in stored)
