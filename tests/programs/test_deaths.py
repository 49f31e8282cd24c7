"""Workers and clusters that die while calls run."""

from __future__ import annotations

from scripts import descendants, end, start


def test_dead_worker_costs_its_call_only(joined, tmp_path):
    script = """
    from concurrent.futures.process import BrokenProcessPool
    with ChunkExecutor(2) as executor:
        for kill in (lambda: os._exit(3), lambda: os.kill(os.getpid(), signal.SIGKILL)):
            lost, other = executor.submit(kill), executor.submit(abs, -1)
            try:
                lost.result()
            except BrokenProcessPool as error:
                say(type(error).__name__, "process" in str(error), "call 0 of" in str(error))
            say(other.result(), list(executor.map(abs, range(5))), executor.size)
    """
    end(start(script, tmp_path, **joined))
    assert (tmp_path / "said").read_text().splitlines() == ["WorkerLost True True", "1 [0, 1, 2, 3, 4] 2"] * 2


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
    assert "Segmentation fault" in err  # what a worker leaves says where it was


def test_ray_that_the_user_shuts_down_while_calls_run(tmp_path):
    script = """
    from thread_chunks import ExecutorBroken
    executor = ChunkExecutor(2)
    future = executor.submit(time.sleep, 600)
    until(future.running)
    threading.Timer(0.5, ray.shutdown).start()
    say(type(future.exception(30)).__name__ in ("ExecutorBroken", "WorkerLost"))
    say(chunk(abs, [[-1]]))
    """
    end(start(script, tmp_path))
    assert (tmp_path / "said").read_text().splitlines() == ["True", "[1]"]


def test_head_of_ray_that_is_killed_while_calls_run(tmp_path):
    script = """
    import psutil
    from thread_chunks import ExecutorBroken
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
        values = list(executor.map(hold, range(8)))
        say(values == list(range(8)), 1 <= executor.size < 4, executor.chunk_size)
    """
    end(start(script, tmp_path))
    assert (tmp_path / "said").read_text().splitlines() == ["True True 4"]
    assert "would fit" in (tmp_path / "log").read_text()
