"""Workers and clusters that die while calls run."""

from __future__ import annotations

import platform

from scripts import descendants, end, start


def tells_exits():
    """Return whether the kernel reports how a process ended that is not a child."""
    version = platform.release().split(".")
    return platform.system() == "Linux" and (int(version[0]), int(version[1].split("-")[0])) >= (6, 15)


def test_dead_worker_costs_its_call_only(joined, tmp_path):
    script = """
    from concurrent.futures.process import BrokenProcessPool
    with ChunkExecutor(2) as executor:
        for kill in (lambda: os._exit(3), lambda: os.kill(os.getpid(), signal.SIGKILL)):
            lost, other = executor.submit(kill), executor.submit(abs, -1)
            try:
                lost.result()
            except BrokenProcessPool as error:
                say(type(error).__name__, "process" in str(error), "It ran <lambda>()" in str(error))
            say(other.result(), list(executor.map(abs, range(5))), executor.size)
    """
    end(start(script, tmp_path, **joined))
    assert (tmp_path / "said").read_text().splitlines() == ["WorkerLost True True", "1 [0, 1, 2, 3, 4] 2"] * 2


def test_what_is_said_of_deaths(joined, tmp_path):
    script = """
    import logging
    logging.basicConfig(filename="log", format="%(name)s %(levelname)s %(message)s")
    from thread_chunks import WorkerLost
    def fall(how, *, hard=True):
        eval(how)
        time.sleep(600)
    ways = ["os._exit(1)", "os._exit(7)", "os.abort()", "__import__('ctypes').string_at(0)"]
    ways += [f"os.kill(os.getpid(), signal.{name})" for name in ("SIGKILL", "SIGSEGV", "SIGBUS", "SIGFPE")]
    ways += ["ray.actor.exit_actor()", "os.kill(os.getppid(), 0) or os._exit(255)"]
    with ChunkExecutor(2) as executor:
        for how in ways:
            try:
                say(executor.submit(fall, how, hard=False).result())
            except WorkerLost as error:
                say(error)
        try:
            list(executor.map(fall, ["0 or os._exit(3)"] * 3))
        except WorkerLost as error:
            say(error)
            say(*getattr(error, "__notes__", ["In call 0 of the series, fall('0 or os._exit(3)')"]))
        print("for the next program")
    """
    out, _ = end(start(script, tmp_path, **joined))
    assert out == ["for the next program"], "nothing of Ray's"
    said = (tmp_path / "said").read_text().splitlines()
    ends = ["with exit status 1", "with exit status 7", "of SIGABRT", "of SIGSEGV"]
    ends += ["of SIGKILL", "of SIGSEGV", "of SIGBUS", "of SIGFPE", "with exit status 0", "with exit status 255"]
    ends += ["with exit status 3"]
    known = [end for line, end in zip(said, ends, strict=False) if f") died {end}" in line]
    assert known == ends or not tells_exits(), said
    assert "It ran fall('os._exit(1)', hard=False)" in said[0]
    assert said[-1] == "In call 0 of the series, fall('0 or os._exit(3)')"
    assert not any("\x1b" in line or "Some common causes" in line or len(line) > 400 for line in said)
    log = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("thread_chunks")]
    assert [line.removeprefix("thread_chunks WARNING ") for line in log][:10] == said[:10]
    assert len([line for line in log if "exit status 3" in line]) in (1, 2), "one for each worker"


def test_worker_that_crashes(joined, tmp_path):
    script = """
    import ctypes
    with ChunkExecutor(1) as executor:
        try:
            executor.submit(ctypes.string_at, 0).result()
        except Exception as error:
            text = str(error)
            say(type(error).__name__, "process" in text, os.uname().nodename in text, "SIGSEGV" in text)
        say(executor.submit(abs, -1).result())
    """
    _, err = end(start(script, tmp_path, **joined))
    assert (tmp_path / "said").read_text().splitlines() == ["WorkerLost True True True", "1"]
    assert "Segmentation fault" in err  # the page of a dead worker says where it was


def test_ray_that_the_user_shuts_down_while_calls_run(joined, tmp_path):
    script = """
    next_ray("started")
    executor = ChunkExecutor(2)
    future = executor.submit(time.sleep, 600)
    until(future.running)
    threading.Timer(0.5, ray.shutdown).start()
    say(type(future.exception(30)).__name__ in ("ExecutorBroken", "WorkerLost"))
    next_ray("joined")
    say(chunk(abs, [[-1]]))
    """
    end(start(script, tmp_path, **joined))
    assert (tmp_path / "said").read_text().splitlines() == ["True", "[1]"]


def test_head_of_ray_that_is_killed_while_calls_run(tmp_path):
    script = """
    import psutil
    executor = ChunkExecutor(2)
    futures = [executor.submit(time.sleep, 600) for _ in range(3)]
    until(futures[0].running)
    for process in psutil.Process().children(recursive=True):
        if process.name() in ("raylet", "gcs_server"):
            process.kill()
    say([type(future.exception(30)).__name__ in ("ExecutorBroken", "WorkerLost") for future in futures])
    executor.shutdown()
    say(chunk(abs, [[-1]]))
    """
    process = start(script, tmp_path)
    try:
        process.wait(120)
    finally:  # Ray leaves some of its processes behind if it is killed
        for orphan in descendants(process.mark):
            if orphan.pid != process.pid:
                orphan.kill()
    end(process)
    assert (tmp_path / "said").read_text().splitlines() == ["[True, True, True]", "[1]"]


def test_workers_that_ray_kills_for_memory(tmp_path):
    # Four at once do not fit, and two do.
    script = """
    import logging, psutil
    logging.basicConfig(filename="log")
    GIB = 2**30
    memory = psutil.virtual_memory()
    used = memory.total - memory.available
    os.environ["RAY_memory_usage_threshold"] = repr((used + 3.2 * GIB) / memory.total)
    os.environ["RAY_memory_monitor_refresh_ms"] = "100"
    os.environ["RAY_max_kill_memory_buffer_bytes"] = "0"
    def hold(x):
        held = []
        while sum(map(len, held)) < GIB:
            held.append(bytearray(b"x") * (16 * 2**20))
            time.sleep(0.005)
        time.sleep(1)
        return x
    with ChunkExecutor(4, max_retries=10) as executor:
        values = list(executor.map(hold, range(6)))
        say(values == list(range(6)), 1 <= executor.size < 4, executor.chunk_size)
    """
    end(start(script, tmp_path))
    assert (tmp_path / "said").read_text().splitlines() == ["True True 4"]
    assert "would fit" in (tmp_path / "log").read_text()
