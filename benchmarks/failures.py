"""What limits cost, and how long it takes until lost work goes on: one `Case` each."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from thread_chunks import config

from .cases import chunk_executor, map_with, ten_ms
from .harness import OURS, Case, Contender, Goal
from .killed import BareNoter, importing_noter, note_and_wait
from .work import noop, spin

if TYPE_CHECKING:
    from thread_chunks import ChunkExecutor

UNLIMITED = "thread_chunks without limits"
LIMITS: dict[str, Any] = {"memory_limit": "4GiB", "call_timeout": 600, "max_retries": 3}


def limited(workers: int) -> ChunkExecutor:
    """Return an executor with all limits. Reporting cannot be switched off."""
    return chunk_executor(workers, **LIMITS)


LIMITED_CPU = Case("limits-cpu", "400 calls of 10 ms of CPU time, 2 workers, with limits", "s", [Goal(0.97, UNLIMITED)])
LIMITED_CPU.contenders[OURS] = map_with(limited, 2, spin, ten_ms)
LIMITED_CPU.contenders[UNLIMITED] = map_with(chunk_executor, 2, spin, ten_ms)


def no_ops(quick: bool) -> range:
    """Return the arguments of `LIMITED_MAP`."""
    return range(10_000 if quick else 200_000)


LIMITED_MAP = Case("limits-map", "map of 200,000 no-ops, 2 workers, with limits", "s", [Goal(0.8, UNLIMITED)])
LIMITED_MAP.contenders[OURS] = map_with(limited, 2, noop, no_ops)
LIMITED_MAP.contenders[UNLIMITED] = map_with(chunk_executor, 2, noop, no_ops)

AGAIN = Case(
    "again", "from SIGKILL of a worker to its call running again", "s", [Goal(1 / 0.9, "a bare actor, then another")]
)


def lines(path: str, count: int) -> list[list[str]]:
    """Wait until there are so many lines, and return their words."""
    while True:
        if os.path.exists(path):
            with open(path) as file:
                found = [line.split() for line in file if line.endswith("\n")]
            if len(found) >= count:
                return found
        time.sleep(0.002)


def killed(start: Callable[[str], Callable[[], object]]) -> float:
    """Return how long it takes from the death of the process that `start` starts to the second line."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "lines")
        go_on = start(path)
        ((pid, _),) = lines(path, 1)
        time.sleep(1)  # for Ray to be quiet
        died = time.time()
        os.kill(int(pid), signal.SIGKILL)
        go_on()
        return float(lines(path, 2)[1][1]) - died


@AGAIN.contender()
def run_again(quick: bool) -> float:
    """Measure the executor."""
    with chunk_executor(1, max_retries=1) as executor:

        def start(path: str) -> Callable[[], object]:
            return executor.submit(note_and_wait, path).result

        return killed(start)


def run_again_by_ray(noter: Callable[[], type]) -> Contender:
    """Return Ray alone as a contender: the report of the death, then the creation of an actor."""

    def run(quick: bool) -> float:
        import ray

        ray.init(**config.ray_config)
        bare: Any = ray.remote(num_cpus=0)(noter())
        actors = [bare.remote()]

        def start(path: str) -> Callable[[], object]:
            reference = actors[0].call.remote(path)

            def go_on() -> None:
                try:
                    ray.get(reference)
                except ray.exceptions.RayActorError:
                    actors.append(bare.remote())
                    ray.get(actors[1].call.remote(path))

            return go_on

        return killed(start)

    return run


AGAIN.contenders["a bare actor, then another"] = run_again_by_ray(lambda: BareNoter)
AGAIN.contenders["bare actors that import a worker's modules"] = run_again_by_ray(importing_noter)


FAILURES = {case.name: case for case in (LIMITED_CPU, LIMITED_MAP, AGAIN)}
