"""Programs in fresh processes. They print what they find; nothing of theirs may be left when they end."""

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
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests run in the background
import ray
from thread_chunks import ChunkExecutor, Chunker, LabelledActor, RemoteLabelledActor, chunk, config
config.progress_bar = False
QUIET = dict(include_dashboard=False, log_to_driver=False, logging_level="error")
def up(): return ray.is_initialized()
def say(*things):  # where Ray does not print, which it may do in the middle of our lines
    with open("said", "a") as file:
        print(*things, file=file)
def until(condition):
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()
"""


class Python:
    """Starts fresh interpreters, which find what lies beside this module; none of them outlives the test."""

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
        """Run a script to its end; return what it printed."""
        process = self.start(script, *arguments, **environment)
        out, _ = process.communicate(timeout=500)  # far beyond what it takes: only a hang reaches it
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
    """Wait for a script; return the lines it printed; see to it that nothing of it is left."""
    try:
        out, err = process.communicate(timeout=300)  # far beyond what it takes: only a hang reaches it
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
        deadline = time.monotonic() + 60  # of a driver that was killed, Ray's agents find out by themselves
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
