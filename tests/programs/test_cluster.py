"""The same program on a cluster of several nodes, each a set of Ray's processes on this machine.

Programs run in fresh processes, and find the cluster by ``RAY_ADDRESS``.
"""

from __future__ import annotations

import re
import signal
import time

import psutil
import pytest
import ray
import ray.util.client
from scripts import end, run, start

from thread_chunks import ChunkExecutor

PRELUDE = """
import subprocess
from collections import Counter
import numpy as np
def here(seconds=0.02):
    time.sleep(seconds)
    return ray.get_runtime_context().get_node_id()
def spread(executor, workers):  # how many of them are on each node, the fewest first
    seen = set()
    until(lambda: seen.update(executor.map(lambda _: (os.getpid(), here()), range(workers))) or len(seen) == workers)
    return sorted(Counter(node for _, node in seen).values())
"""


@pytest.fixture
def on(cluster, tmp_path):
    """Run a program on the cluster, and return its output."""
    return lambda script, **environment: run(PRELUDE + script, tmp_path, **cluster.environment, **environment)


def test_size_and_spread(on, cluster):
    script = """
executor = ChunkExecutor()
print(executor.chunk_size)
print(spread(executor, 4))
# Calls may use Ray themselves, and executors of their own.
def nested(x):
    with ChunkExecutor(2) as inner:
        return sum(inner.map(abs, [x, -x])), ray.get(ray.put(x))
print(list(executor.map(nested, range(2), chunksize=1)) == [(2 * x, x) for x in range(2)])
executor.shutdown()
print(up())
config.default_chunk_size = 7
with ChunkExecutor() as executor:
    print(executor.chunk_size)
print(chunk(pow, [[2, 3], [3, 2]]), up())
config.default_chunk_size = config.usable_cpus
config.ray_config["num_cpus"] = 5  # which is for clusters that are started
config.ray_config["address"] = os.environ.pop("RAY_ADDRESS")
print(Chunker(abs).chunk_size)
"""
    assert on(script) == ["4", "[1, 3]", "True", "False", "7", "[8, 9] False", "4"]


def test_no_more_workers_than_chunk_has_calls(on, cluster):
    script = """
import psutil
raylets = list(map(int, os.environ["RAYLETS"].split()))
def workers():
    count = 0
    for process in psutil.process_iter():
        try:
            count += process.ppid() in raylets and process.name().startswith("ray::LabelledA")
        except psutil.Error:  # it has just ended
            pass
    return count
ray.init(**QUIET)
before = workers()
def count(x):
    open(f"began{x}", "w").close()
    return until(lambda: os.path.exists("began1") and os.path.exists("began2")) and workers()
print([there - before for there in chunk(count, [[1], [2]])], up())
"""
    assert on(script, RAYLETS=f"{cluster.head.raylet} {cluster.second.raylet}") == ["[2, 2] True"]


def test_addresses_that_lead_nowhere(tmp_path):
    script = """
for address in ("127.0.0.1:1", "ray://127.0.0.1:10001", "http://127.0.0.1:8265", "nonsense"):
    os.environ["RAY_ADDRESS"] = address
    since = time.monotonic()
    try:
        ChunkExecutor(1)
    except Exception as error:
        print(type(error).__name__, error, time.monotonic() - since < 15)
"""
    answers = run(script, tmp_path)
    assert [answer.split()[0] for answer in answers] == ["ExecutorBroken", *["ValueError"] * 3]
    assert all(answer.endswith("True") for answer in answers)
    assert "no answer from 127.0.0.1:1" in answers[0]
    assert "ray job submit" in answers[1]
    assert all("host:port" in answer for answer in answers[2:])


def test_ray_client_is_refused_also_where_the_user_has_connected(ray_up, monkeypatch):
    monkeypatch.setattr(ray.util.client.ray, "is_connected", lambda: True)
    with pytest.raises(ValueError, match="Ray Client"):
        ChunkExecutor(1)


def test_cluster_that_wants_a_token(joined, tmp_path):
    # Ray's clusters have one where they are started by `ray.init`; a process shows it if RAY_AUTH_MODE says so.
    asking = """
try:
    with ChunkExecutor(1) as executor:
        print(executor.submit(abs, -1).result())
except Exception as error:
    print(type(error).__name__, error)
"""
    environment = {**joined, "RAY_NUM_REDIS_GET_RETRIES": "1"}
    disabled = {**environment, "RAY_AUTH_MODE": "disabled"}
    (answer,), _ = end(start(asking, tmp_path, **disabled))  # Ray has something to say, too
    assert answer.startswith("ExecutorBroken")
    assert "RAY_AUTH_MODE=token" in answer
    (answer,), _ = end(start(asking, tmp_path, **environment, RAY_AUTH_TOKEN="0" * 64))
    assert answer.startswith("ExecutorBroken")
    assert "another token than this process shows, which is that of RAY_AUTH_TOKEN" in answer
    assert run(asking, tmp_path, **environment) == ["1"]


def test_options_of_actors(on):
    script = """
import importlib
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
nonsense = {"num_gnus": 1, "name": "a", "object_store_memory": 10**6, "lifetime": "detached", "num_cpus": -1}
for name, value in nonsense.items():
    try:
        ChunkExecutor(1, actor_options={name: value})
    except ValueError as error:
        print(name, name in str(error), up())
ray.init(**QUIET)
second = next(node["NodeID"] for node in ray.nodes() if node["Resources"].get("two"))
for options in (
    {"resources": {"two": 0.5}},
    {"label_selector": {"ray.io/node-id": second}},
    {"scheduling_strategy": NodeAffinitySchedulingStrategy(second, soft=False)},
):
    with ChunkExecutor(2, actor_options=options) as executor:
        print(set(executor.map(here, [0.1] * 4, chunksize=1)) == {second})
with ChunkExecutor(1, actor_options={"runtime_env": {"env_vars": {"COLOUR": "blue"}}, "num_cpus": 0.5}) as executor:
    print(executor.submit(os.getenv, "COLOUR").result())
def reported():
    return any(event["name"] == "thread_chunks_attach" for event in ray.timeline())
print(reported())
with ChunkExecutor(1, actor_options={"enable_task_events": True}) as executor:
    print(executor.submit(abs, -1).result(), until(reported))
"""
    refused = [f"{name} True False" for name in ("num_gnus", "name", "object_store_memory", "lifetime", "num_cpus")]
    said = [line for line in on(script) if "(raylet)" not in line]  # Ray may tell late of workers that have ended
    assert said == [*refused, "True", "True", "True", "blue", "False", "1 True"]


def test_room(cluster, tmp_path):
    """Check that workers that fit run, a line counts those that wait, and nodes may come and go."""
    script = """
import logging
from thread_chunks._dispatch import starts as _starts
_starts._LONG = 600  # no warning about the four, even on a busy machine
logging.basicConfig(filename="log")
executor = ChunkExecutor(6, actor_options={"num_cpus": 1}, max_retries=5)
print(spread(executor, 4))
_starts._LONG = 1  # else the test takes long
running = executor.map(here, [0.1] * 60, chunksize=1)
until(lambda: "not up" in open("log").read())
say("2 of 6 workers" in open("log").read(), "each needs 1 CPU; 0 are left" in open("log").read())
list(running)
say("add")
until(lambda: sum(node["Alive"] for node in ray.nodes()) == 3)
say(until(lambda: len(set(executor.map(here, [0.1] * 20, chunksize=1))) == 3))
values = executor.map(lambda x: (time.sleep(0.02), x)[1], range(500), chunksize=1)
next(values)
say("remove")
say(list(values) == list(range(1, 500)), executor.size)
executor.shutdown()
"""
    process = start(PRELUDE + script, tmp_path, **cluster.environment)
    wait_for(tmp_path, "add")
    node = cluster.add(num_cpus=2)
    wait_for(tmp_path, "remove")
    cluster.remove(node)
    end(process)
    assert said(tmp_path) == ["True True", "add", "True", "remove", "True 6"]


def test_node_that_is_lost_costs_what_it_ran(cluster, tmp_path):
    script = """
from thread_chunks import WorkerLost
executor = ChunkExecutor(4)
say(spread(executor, 4))
def work(x):
    with open(f"ran{os.getpid()}", "a") as file:
        print(x, file=file)
    time.sleep(0.02)
    return x
futures = [executor.submit(work, x) for x in range(400)]
until(lambda: futures[20].done())
say("remove")
lost = [x for x, future in enumerate(futures) if isinstance(future.exception(), WorkerLost)]
say(0 < len(lost) < 100, all(x in lost or future.result() == x for x, future in enumerate(futures)))
with ChunkExecutor(2) as another:
    say(list(another.map(abs, [-1, -2])))
executor.shutdown()
"""
    process = start(PRELUDE + script, tmp_path, **cluster.environment)
    wait_for(tmp_path, "remove")
    cluster.remove(cluster.second)
    out, err = end(process)
    assert said(tmp_path) == ["[1, 3]", "remove", "True True", "[1, 2]"]
    assert out == [], "nothing of Ray's"
    assert [line for line in err.splitlines() if not re.match(r"a worker \(.*\) died|\d+ of \d+ workers", line)] == []
    ran = [line for file in tmp_path.glob("ran*") for line in file.read_text().split()]
    assert len(ran) == len(set(ran)), "none ran twice"


def test_node_that_is_drained_gets_no_new_calls(cluster, tmp_path):
    script = """
executor = ChunkExecutor(4)
print(spread(executor, 4))
second = next(node["NodeID"] for node in ray.nodes() if node["Resources"].get("two"))
long = executor.map(here, [4] * 4, chunksize=1)
drain = ["drain-node", "--address", os.environ["RAY_ADDRESS"], "--node-id", second,
         "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "it goes"]
ray_command = os.path.join(os.path.dirname(sys.executable), "ray")
print(subprocess.run([ray_command, *drain, "--deadline-remaining-seconds", "60"], capture_output=True).returncode)
time.sleep(2.5)  # within which the executor has looked
after = [executor.submit(here, 0.1) for _ in range(8)]
print(list(long).count(second))  # what ran was not disturbed
print([future.result() for future in after].count(second))
print(spread(executor, 4))
executor.shutdown()
"""
    lines, _ = end(start(PRELUDE + script, tmp_path, **cluster.environment))
    cluster.remove(cluster.second)
    assert lines == ["[1, 3]", "0", "3", "0", "[4]"]


def test_workers_of_other_machines_connect_by_tcp(on):
    script = """
from thread_chunks._ray import channels
channels.TELLS_PEERS = False  # else the nodes, which are on one machine, would use a Unix socket
with ChunkExecutor(4, max_retries=1) as executor:
    print(spread(executor, 4))
    listening = {c.laddr for c in psutil.Process().net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    connected = [c for c in psutil.Process().net_connections("tcp") if c.laddr in listening and c.raddr]
    print(len(connected) >= 4)
    print(sum(executor.map(abs, range(-1000, 0))))
    print(executor.submit(lambda: bytes(3_000_000)).result() == bytes(3_000_000))
    running = executor.submit(time.sleep, 0.5)
    until(lambda: executor.running())
    os.kill(executor.running()[0].pid, signal.SIGKILL)
    print(running.result())
"""
    # The death is on the logger, which writes to standard error otherwise.
    answers = on("import logging, psutil\nlogging.getLogger('thread_chunks').setLevel('ERROR')\n" + script)
    assert answers == ["[1, 3]", "True", "500500", "True", "None"]


def test_large_stored_function_travels_once_to_each_node(on, cluster):
    def shared():
        return psutil.Process(cluster.second.raylet).memory_info().shared

    script = """
large = np.ones(10_000_000)
def look(x):
    time.sleep(0.01)
    return float(large[x]), ray.get_runtime_context().get_node_id()
with ChunkExecutor(look, 8) as executor:
    print(spread(executor, 8), until(lambda: len(set(executor.map([0] * 40, chunksize=1))) == 2))
"""
    before = shared()
    assert on(script) == ["[2, 6] True"]
    # Of the pages of the object store those count that the node's Ray has written, and had not before: one copy for six
    # workers.
    assert 60e6 < shared() - before < 130e6


def test_values_that_stay_in_the_cluster(on):
    script = """
from thread_chunks import PicklingFailed
ray.init(**QUIET)
def make(x):
    if x == 3: raise KeyError(x)
    return np.full(500_000, float(x))
with ChunkExecutor(4) as executor:
    # 8 values of 4 MB each, of which the driver has references only.
    references = list(executor.map(make, [1, 2] * 4, results="refs"))
    print({type(reference).__name__ for reference in references})
    print(list(executor.map(lambda array: float(array[0]), references)))
    print([float(ray.get(reference)[0]) for reference in executor.starmap(make, [(1,), (2,)], results="refs")])
    # A call runs where its argument is, if a worker is idle there.
    for reference in references[:4]:
        homes = ray.experimental.get_object_locations([reference])[reference]["node_ids"]
        print(executor.submit(lambda array: ray.get_runtime_context().get_node_id(), reference).result() in homes)
    for call in (lambda: executor.map(make, [1, 3], results="refs"),
                 lambda: executor.map(lambda x: threading.Lock(), [1], results="refs"),
                 lambda: executor.map(make, [1], results="refs", chunksize=2),
                 lambda: executor.map(make, [1], results="references")):
        try:
            print(len(list(call())))
        except Exception as error:
            print(type(error).__name__)
    kept = list(executor.map(make, [5], results="refs"))
    with_function = ChunkExecutor(make, 1)
    kept += with_function.map([6], results="refs")
    with_function.shutdown()
print([float(ray.get(reference)[0]) for reference in kept])  # they outlast the executor
ray.shutdown()
with ChunkExecutor(1) as executor:  # but not Ray
    futures = [executor.submit(len, argument) for argument in ([1], kept[0], [1, 2])]
    print(futures[0].result(), futures[2].result(), "owner is unknown" in str(futures[1].exception()))
    print(executor.report().functions[0].retries)
"""
    values = str([1.0, 2.0] * 4)
    errors = ["KeyError", "PicklingFailed", "ValueError", "ValueError"]
    assert on(script) == [
        "{'ObjectRef'}",
        values,
        "[1.0, 2.0]",
        *["True"] * 4,
        *errors,
        "[5.0, 6.0]",
        "1 2 True",
        "0",
    ]


def test_no_module_of_ray_that_may_change_is_needed(on):
    modules = ["ray.autoscaler.v2.sdk", "ray.dag", "ray.experimental", "ray.util.client"]
    script = """
import builtins
original, missed = builtins.__import__, set()
def hiding(name, globals=None, *args, **kwargs):
    if name in os.environ["HIDDEN"].split() and globals["__name__"].startswith("thread_chunks."):
        missed.add(name)
        raise ImportError(name)
    return original(name, globals, *args, **kwargs)
builtins.__import__ = hiding
ray.init(**QUIET)
with ChunkExecutor(4) as executor:
    references = list(executor.map(lambda x: np.full(500_000, float(x)), range(4), results="refs"))
    print(list(executor.map(lambda array: float(array[0]), references)), *sorted(missed))
"""
    assert on(script, HIDDEN=" ".join(modules)) == [" ".join(["[0.0, 1.0, 2.0, 3.0]", *modules])]


def test_package_that_is_not_installed_on_a_node(cluster, tmp_path):
    stub = tmp_path / "without" / "thread_chunks"
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'thread_chunks'\")")
    script = """
import thread_chunks
from thread_chunks._dispatch import starts as _starts
_starts._BACK_OFF = 0.01
there = {"resources": {"bare": 0.1}}
try:
    with ChunkExecutor(1, actor_options=there) as executor:
        executor.submit(abs, -1).result()
except Exception as error:
    print(type(error).__name__, "not installed on its node" in str(error), "py_modules" in str(error))
config.ray_config["runtime_env"] = {"py_modules": [thread_chunks]}
with ChunkExecutor(1, actor_options=there) as executor:
    print(executor.submit(abs, -1).result())
"""
    cluster.add(num_cpus=1, resources={"bare": 1}, env_vars={"PYTHONPATH": str(stub.parent)})
    out, err = end(start(PRELUDE + script, tmp_path, **cluster.environment))
    assert out == ["ExecutorBroken True True", "1"]
    assert "thread_chunks is not installed on its node" in err


def test_checkpoint_needs_no_shared_disk(on, tmp_path):
    script = """
def work(x):
    time.sleep(0.05)
    return x, ray.get_runtime_context().get_node_id()
with ChunkExecutor(4) as executor:
    spread(executor, 4)
    os.mkdir("here")
    values = list(executor.map(work, range(20), path="here/checkpoint", chunksize=1))
    print(len({node for _, node in values}), *{name.partition("-")[0] for name in os.listdir("here")})
    print(list(executor.map(work, range(20), path="here/checkpoint")) == values)
"""
    assert on(script) == ["2 checkpoint", "True"]


def test_many_executors_and_drivers(cluster, tmp_path):
    script = """
executors = [ChunkExecutor(2) for _ in range(3)]
print([sum(executor.map(abs, range(-100, 0))) for executor in executors])
print(ray.util.list_named_actors(all_namespaces=True))
for executor in executors:
    executor.shutdown()
"""
    programs = [start(PRELUDE + script, tmp_path, **cluster.environment) for _ in range(2)]
    for program in programs:
        assert end(program)[0] == ["[5050, 5050, 5050]", "[]"]


def test_driver_that_is_killed_leaves_nothing(cluster, tmp_path):
    script = """
executor = ChunkExecutor(4)
spread(executor, 4)
pids = set()
until(lambda: pids.update(executor.map(lambda _: (here(), os.getpid())[1], range(8), chunksize=1)) or len(pids) == 4)
print(*pids, flush=True)
executor.submit(time.sleep, 600)
time.sleep(600)
"""
    driver = start(PRELUDE + script, tmp_path, **cluster.environment)
    pids = [int(pid) for pid in driver.stdout.readline().split()]
    assert len(pids) == 4
    driver.kill()
    end(driver, -signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, pids))


def said(directory):
    """Return the lines that a program wrote to a stream that Ray does not use."""
    path = directory / "said"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(directory, word):
    """Wait until a program has said a word."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and word not in said(directory):
        time.sleep(0.01)
