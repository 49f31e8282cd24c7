"""Measure contenders side by side: each in a fresh process, in interleaved rounds, as medians and ratios."""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata

OURS = "thread_chunks"

# The prefix of the line in which a process prints its value.
MEASURED = "measured:"

# A contender runs the case and returns the measured value, of which less is better. True asks for a smaller case.
Contender = Callable[[bool], float]


@dataclass
class Goal:
    """`contender` is at least `factor` times as good as `reference`, or as the best of all other peers."""

    factor: float
    reference: str | None = None  # None: the best of the peers
    contender: str = OURS


@dataclass
class Case:
    """A benchmark and its contenders."""

    name: str
    title: str
    unit: str
    goals: list[Goal] = field(default_factory=list)
    contenders: dict[str, Contender] = field(default_factory=dict)
    needs: dict[str, str] = field(default_factory=dict)  # the module without which a contender cannot run
    no_peers: frozenset[str] = frozenset()  # contenders that are limits, and not rivals

    def contender(self, name: str = OURS, needs: str = "") -> Callable[[Contender], Contender]:
        """Add a contender."""

        def add(function: Contender) -> Contender:
            self.contenders[name] = function
            if needs:
                self.needs[name] = needs
            return function

        return add

    def available(self) -> list[str]:
        """Return the contenders that are installed here."""
        return [name for name in self.contenders if name not in self.needs or _is_there(self.needs[name])]


Results = dict[str, list[float]]


def measure(case: Case, rounds: int, quick: bool) -> Results:
    """Measure all contenders of a case, by turns."""
    results: Results = {name: [] for name in case.available()}
    for _ in range(rounds):
        for name, values in results.items():
            values.append(_in_fresh_process(case, name, quick))
    return results


@contextmanager
def ray_that_stays_up(wanted: bool) -> Iterator[None]:
    """Start Ray if it is wanted, for this process and all that it starts: they find it by `os.environ`."""
    if not wanted:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        environment = {**os.environ, "RAY_TMPDIR": folder}

        def command(*words: str) -> str:
            arguments = [sys.executable, "-m", "thread_chunks", *words]
            return subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout

        before = dict(os.environ)
        try:
            settings = [shlex.split(line)[0].rstrip(";") for line in command("up", "--shell", "sh").splitlines()]
            os.environ.update(setting.partition("=")[::2] for setting in settings if "=" in setting)
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
            command("down")


def table(case: Case, results: Results) -> Iterable[str]:
    """Yield the lines of a case's table."""
    medians = {name: statistics.median(values) for name, values in results.items()}
    yield f"\n{case.name}: {case.title}"
    yield f"  {'':36}{'median':>12} {case.unit:10}{'min':>10}{'max':>10}   {OURS} is better by"
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        ratio = f"{median / medians[OURS]:.2f} x" if medians.get(OURS) and name != OURS else ""
        low, high = min(results[name]), max(results[name])
        yield f"  {name:36}{median:12.5g} {case.unit:10}{low:10.4g}{high:10.4g}   {ratio}"
    for goal in case.goals:
        yield f"  {_verdict(case, goal, medians)}"


def _verdict(case: Case, goal: Goal, medians: dict[str, float]) -> str:
    others = {name: median for name, median in medians.items() if not name.startswith(OURS)}
    if goal.reference is None:
        others = {name: median for name, median in others.items() if name not in case.no_peers}
        reference = min(others, key=others.__getitem__, default="")
        against = f"the best peer ({reference})"
    else:
        reference = against = goal.reference
    if not medians.get(reference) or not medians.get(goal.contender):
        return f"goal: {goal.contender} against {against}: not measured"
    reached = medians[reference] / medians[goal.contender]
    return f"goal: {goal.contender} >= {goal.factor} x {against}: {reached:.3g} x" + (
        "" if reached >= goal.factor else "   MISSED"
    )


def machine() -> str:
    """Return the versions and the machine that the figures depend on."""
    names = ["ray", "numpy", "joblib", "mpire"]
    versions = [f"{name} {metadata.version(name)}" for name in names if _is_there(name)]
    return (
        f"Python {platform.python_version()}, {', '.join(versions)}; "
        f"{len(os.sched_getaffinity(0))} CPUs, {platform.system()} {platform.release()}"
    )


def _is_there(module: str) -> bool:
    return bool(os.environ.get(module[1:])) if module.startswith("$") else importlib.util.find_spec(module) is not None


def _in_fresh_process(case: Case, contender: str, quick: bool) -> float:
    command = [sys.executable, "-m", "benchmarks.one", case.name, contender, *(["--quick"] if quick else [])]
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:  # two may run at once
        environment = {**os.environ, "RAY_TMPDIR": folder}
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{case.name}, {contender}: {done.stderr}")
    # Not the last line, as Ray may print after it.
    (line,) = (line for line in done.stdout.splitlines() if line.startswith(MEASURED))
    return float(line.removeprefix(MEASURED))
