"""Find the thread of an executor and the workers of its cluster, without its private attributes."""

from __future__ import annotations

import threading

from fake_cluster import FakeCluster, FakeExecutor

from thread_chunks._ray.cluster import RayCluster


def with_thread(make, *args, **kwargs):
    """Return an executor, and the thread of its dispatcher."""
    before = set(threading.enumerate())
    executor = make(*args, **kwargs)
    (thread,) = {thread for thread in threading.enumerate() if thread.name == "thread_chunks-dispatcher"} - before
    return executor, thread


def with_workers(executor_class):
    """Return a class of executors of the same kind, and a list that collects the workers they start."""
    started = []

    class Telling(FakeCluster if issubclass(executor_class, FakeExecutor) else RayCluster):
        def start_worker(self, post, index):
            started.append(super().start_worker(post, index))
            return started[-1]

    class Told(executor_class, cluster=Telling):
        pass

    return Told, started
