"""Make the tests' executors. On Ray, several tests share one in turn, since an actor takes long to start."""

from __future__ import annotations

import threading
import time
import weakref
from collections import defaultdict


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


class ReusingMaker(Maker):
    """Make executors, or take them from a pool if the only argument is the number of workers."""

    def __init__(self, executor_class, pool):
        super().__init__(executor_class)
        self._pool = pool
        self._taken = []

    def __call__(self, *args, **kwargs):
        if kwargs or len(args) != 1 or type(args[0]) is not int or args[0] < 1:
            return self.fresh(*args, **kwargs)
        self._taken.append(self._pool.take(*args))
        return self._taken[-1]

    def end(self):
        super().end()
        is_busy = bool(threads_left(self._pool.threads, patience=0.5))  # a checkpoint is still written, for one
        for executor in self._taken:
            self._pool.give_back(executor, is_busy)


class Pool:
    """Executors that are not in use. One that a test has broken or changed does not return to the pool."""

    def __init__(self, executor_class):
        self._class = executor_class
        self._idle = defaultdict(list)  # by size
        self._state = weakref.WeakKeyDictionary()  # of each executor when it was taken: (size, attributes, actors)
        self._threads = {}  # those that live as long as an executor, by its id

    @property
    def threads(self):
        return set().union(*self._threads.values())

    def take(self, size):
        executor = self._idle[size].pop() if self._idle[size] else self._make(size)
        self._state[executor] = size, set(vars(executor)), executor.actors
        return executor

    def give_back(self, executor, is_busy):
        size, *_ = self._state[executor]
        if not is_busy and self._is_whole(executor):
            self._idle[size].append(executor)
        else:
            self._end(executor)

    def open(self):
        """Make an executor that no test gets. It keeps up what all executors share, such as the thread for output."""
        self._anchor = self._make(1)

    def close(self):
        self._end(self._anchor)
        for executors in self._idle.values():
            while executors:
                self._end(executors.pop())

    def _make(self, size):
        before = set(threading.enumerate())
        executor = self._class(size)
        executor.submit(int).result()
        self._threads[id(executor)] = set(threading.enumerate()) - before
        return executor

    def _end(self, executor):
        executor.shutdown()
        del self._threads[id(executor)]

    def _is_whole(self, executor):
        size, attributes, actors = self._state[executor]
        try:
            return (
                set(vars(executor)) == attributes
                and executor.submit(int).result(10) == 0
                and not executor.running()
                and executor.size == size
                and all(actor in executor.actors for actor in actors)
                and not _has_stored_function(executor)
            )
        except (RuntimeError, TimeoutError):  # it was shut down, or is broken or busy
            return False


def _has_stored_function(executor):
    try:
        executor.submit(None)
    except ValueError:
        return False
    return True
