"""Run programs in fresh processes. They print their findings, and must leave no process or file behind."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import psutil

PRELUDE = """
import gc, os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore SIGINT
import ray
from thread_chunks import ChunkExecutor, Chunker, LabelledActor, RemoteLabelledActor, chunk, config
config.progress_bar = False
QUIET = dict(include_dashboard=False, log_to_driver=False, logging_level="error")
def up(): return ray.is_initialized()
TESTS_RAY = os.environ.get("RAY_ADDRESS")
def next_ray(how):  # "started" or "joined": so that the next executor starts a Ray, or joins that of the tests
    if how == "started":
        os.environ.pop("RAY_ADDRESS", None)
    else:
        os.environ["RAY_ADDRESS"] = TESTS_RAY
def say(*things):  # to a stream of its own, since Ray may print in the middle of a line
    with open("said", "a") as file:
        print(*things, file=file)
def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()
"""


class Python:
    """Start fresh interpreters, which can import the modules beside this one. They end with the test."""

    def __init__(self, folder):
        self._folder = folder
        self._processes = []

    def start(self, script, *arguments, **environment):
        """Start a script."""
        process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), **environment},
        )
        self._processes.append(process)
        return process

    def run(self, script, *arguments, **environment):
        """Run a script to its end, and return its output."""
        process = self.start(script, *arguments, **environment)
        out, _ = process.communicate(timeout=500)  # only a hang takes so long
        assert process.returncode == 0
        return out

    def end(self):
        for process in self._processes:
            process.kill()
            process.wait()
            process.stdout.close()


def descendants(mark):
    """Return the processes that carry a mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("THREAD_CHUNKS_TEST") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            pass
    return found


def start(script, tmp_path, **environment):
    mark = uuid.uuid4().hex
    file = tmp_path / f"script_{mark}.py"
    file.write_text(PRELUDE + textwrap.dedent(script))
    process = subprocess.Popen(
        [sys.executable, str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "THREAD_CHUNKS_TEST": mark, **environment},
    )
    process.mark = mark
    return process


def end(process, returncode=0):
    """Wait for a script, return the lines it printed, and check that no process of it is left."""
    try:
        out, err = process.communicate(timeout=300)  # only a hang takes so long
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
        deadline = time.monotonic() + 60  # Ray's agents need a while to notice that a driver was killed
        while (left := descendants(process.mark)) and time.monotonic() < deadline:
            time.sleep(0.05)
        for orphan in left:
            orphan.kill()
    assert process.returncode == returncode, err
    assert left == []
    return out.splitlines(), err


def run(script, tmp_path, **environment):
    lines, err = end(start(script, tmp_path, **environment))
    said = [line for line in err.splitlines() if "workers are not up after" not in line]  # the machine is busy
    assert said == [], err
    return lines
