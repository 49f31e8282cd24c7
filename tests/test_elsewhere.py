"""The core of the contract on systems that lack features of Linux: each is hidden, alone and all together."""

from __future__ import annotations

# Each feature is hidden in a child that is forked before the package is imported.
PROGRAM = """
import builtins, io, os, signal, socket, sys, tempfile
from concurrent.futures.process import BrokenProcessPool
import joblib, numpy, psutil, ray  # which know their system themselves
HIDDEN = {
    "proc": None, "resource": None, "fcntl": None,
    "register_at_fork": os, "getuid": os, "uname": os, "sched_getaffinity": os, "pidfd_open": os,
    "process_cpu_count": os, "memfd_create": os, "pthread_sigmask": signal, "SIGTRAP": signal, "SIGBUS": signal,
    "AF_UNIX": socket, "SO_PEERCRED": socket, "send_fds": socket, "recv_fds": socket,
}
for which in NAMES:
    if (child := os.fork()) == 0:
        signal.alarm(60)  # far beyond what it takes; it ends a child that outlives its parent, too
        break
    print(which, os.waitpid(child, 0)[1], flush=True)
else:
    sys.exit()
for name in HIDDEN if which == "all" else [which]:
    if name == "proc":
        real = builtins.open
        def without_proc(path, *args, **kwargs):
            frame, files = sys._getframe(1), []
            while frame is not None and len(files) < 5:
                files.append(frame.f_code.co_filename)
                frame = frame.f_back
            if str(path).startswith("/proc/") and not any("psutil" in file for file in files):
                raise FileNotFoundError(path)
            return real(path, *args, **kwargs)
        builtins.open = io.open = without_proc
    elif HIDDEN[name] is None:
        sys.modules[name] = None
    elif hasattr(HIDDEN[name], name):
        delattr(HIDDEN[name], name)
    if name == "sched_getaffinity" and hasattr(os, "process_cpu_count"):
        os.process_cpu_count = os.cpu_count  # as Python has it there
    if name == "AF_UNIX":
        def pair_of_sockets():  # as in Python on systems without Unix sockets
            with socket.create_server(("127.0.0.1", 0)) as server:
                one = socket.create_connection(server.getsockname())
                return one, server.accept()[0]
        socket.socketpair = pair_of_sockets
from fake_cluster import FakeExecutor
from thread_chunks import WorkerLost, Checkpoint
from thread_chunks._actor import memory, runner, signals
from thread_chunks._ray import outlet, session, surroundings
from thread_chunks._system import cpus, exits, kills, limits, users
signals.handle_signals()
assert memory.resident() > 0 and memory.PeakMeter().take(0.0) > 0
assert cpus.usable_cpus() >= 1 and limits.room_for_threads() > 0
assert exits.Watch(os.getpid()).status() is None
kills.counting_group(os.getpid()), kills.kernel_kills(None), kills.is_in_log(1)
assert next(surroundings._directories()).endswith("ray")
try:
    outlet.Outlet().close()
except OSError:
    pass
with FakeExecutor(1, memory_limit="100GiB") as executor:
    assert executor.submit(divmod, 7, 2).result() == (3, 1)
    assert list(executor.map(abs, range(-50, 0))) == list(range(50, 0, -1))
    actor, running = executor.actors[0], executor.submit(__import__("time").sleep, 0.5)
    for each in executor.actors:
        each.die()
    assert isinstance(running.exception(), WorkerLost), "a dead worker"
    path = os.path.join(tempfile.mkdtemp(), "checkpoint")
    assert list(executor.map(abs, [-1, -2], path=path)) == [1, 2]
assert Checkpoint.load(path).output == [1, 2]
print("done", end=" ", flush=True)
"""
NAMES = ["proc", "resource", "fcntl", "register_at_fork", "getuid", "uname", "sched_getaffinity", "pidfd_open"]
NAMES += ["pthread_sigmask", "memfd_create", "SIGTRAP", "AF_UNIX", "SO_PEERCRED", "send_fds", "recv_fds", "all"]


def test_the_core_without(python):
    assert python.run(PROGRAM.replace("NAMES", repr(NAMES))).splitlines() == [f"done {name} 0" for name in NAMES]
