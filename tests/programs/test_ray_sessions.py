"""Who starts and stops Ray, and joins a cluster: each in a fresh process."""

from __future__ import annotations

import ray
from scripts import end, run, start


def test_ray_that_the_user_initialised_stays_up(joined, tmp_path):
    script = """
    ray.init(**QUIET)
    with ChunkExecutor(2) as executor:
        print(list(executor.map(abs, [-1, -2])))
    print(up())
    print(chunk(pow, [[2, 3]]), up())
    chunker = Chunker(abs, chunk_size=2)
    print(chunker([[-1]]))
    del chunker
    gc.collect()
    print(until(lambda: not any(t.name.startswith("thread_chunks") for t in threading.enumerate())), up())
    """
    assert run(script, tmp_path, **joined) == ["[1, 2]", "True", "[8] True", "[1]", "True True"]


def test_ray_that_the_package_began_is_ended_by_the_last_executor(joined, tmp_path):
    script = """
    print(chunk(abs, []), up())
    for last_first, how in ((False, "started"), (True, "joined")):
        next_ray(how)
        executors = [ChunkExecutor(1), ChunkExecutor(1)]
        print(up(), [executor.submit(abs, -1).result() for executor in executors])
        first, second = reversed(executors) if last_first else executors
        first.shutdown()
        print(up(), second.submit(abs, -2).result())
        second.shutdown()
        print(up())
    ray.init(**QUIET)
    with ChunkExecutor(1) as executor:
        print(executor.submit(abs, -3).result())
    print(up())
    ray.shutdown()
    with ChunkExecutor(1) as executor:
        print(executor.submit(abs, -4).result())
    print(up())
    """
    overlap = ["True [1, 1]", "True 2", "False"]
    assert run(script, tmp_path, **joined) == ["[] False", *overlap, *overlap, "3", "True", "4", "False"]


def test_persistent_leaves_ray_up(tmp_path):
    script = """
    chunker = Chunker(abs, chunk_size=2, persistent=True)
    print(chunker([[-1]]))
    actors = chunker.actors
    del chunker
    gc.collect()
    print(until(lambda: not any(t.name.startswith("thread_chunks") for t in threading.enumerate())), up())
    print(chunk(None, [[-1], [-2], [-3]], actors), up())
    with ChunkExecutor(1) as executor:
        executor.submit(abs, 1).result()
    print(up())
    """
    assert run(script, tmp_path) == ["[1]", "True True", "[1, 2, 3] True", "True"]


def test_persistent_among_others_that_are_not(joined, tmp_path):
    script = """
    with ChunkExecutor(1) as other:
        with ChunkExecutor(1, persistent=True) as executor:
            executor.submit(abs, 1).result()
    print(up())
    """
    assert run(script, tmp_path, **joined) == ["True"]


def test_dropped_chunker_leaves_the_ray_that_it_joined(joined, tmp_path):
    script = """
    chunker = Chunker(abs, chunk_size=2)
    print(chunker([[-1]]), up())
    del chunker
    print(until(lambda: not up()))
    """
    assert run(script, tmp_path, **joined) == ["[1] True", "True"]
    assert ray.get(ray.put(1)) == 1


def test_ray_that_the_user_stopped_and_started_again_is_the_users(joined, tmp_path):
    script = """
    next_ray("started")
    old = ChunkExecutor(1)
    print(old.submit(abs, -1).result())
    ray.shutdown()
    next_ray("joined")
    ray.init(**QUIET)
    new = ChunkExecutor(1)
    old.shutdown()
    print(new.submit(abs, -2).result())
    new.shutdown()
    print(up())
    """
    assert run(script, tmp_path, **joined) == ["1", "2", "True"]


def test_existing_cluster_is_joined_and_left_running(joined, tmp_path):
    script = """
    config.ray_config["num_cpus"] = 7
    with ChunkExecutor(1) as executor:
        print(executor.submit(lambda: ray.cluster_resources()["CPU"]).result())
    print(up())
    config.ray_config["address"] = os.environ.pop("RAY_ADDRESS")
    print(chunk(abs, [[-1]]), up())
    """
    assert run(script, tmp_path, **joined) == ["4.0", "False", "[1] False"]
    assert ray.get(ray.put(1)) == 1


def test_executors_in_turn_leave_nothing(joined, tmp_path):
    script = """
    import psutil
    next_ray("started")
    ray.init(num_cpus=2, **QUIET)
    for _ in range(8):
        with ChunkExecutor(1) as executor:
            assert list(executor.map(abs, [-1, -2])) == [1, 2]
    def actors():
        children = psutil.Process().children(recursive=True)
        try:
            return [child for child in children if child.name().startswith("ray::LabelledA")]
        except psutil.NoSuchProcess:  # it has just ended
            return actors()
    with ChunkExecutor(1) as executor:
        executor.submit(abs, 1).result()
        print(len(actors()) > 0)
    print(until(lambda: not actors()), [t.name for t in threading.enumerate() if t.name.startswith("thread_chunks")])
    ray.shutdown()
    for how in ("started", "joined", "joined"):
        next_ray(how)
        with ChunkExecutor(1) as executor:
            assert executor.submit(abs, -1).result() == 1
    print(up(), [t.name for t in threading.enumerate() if t.name.startswith("thread_chunks")])
    """
    assert run(script, tmp_path, **joined) == ["True", "True []", "False []"]


def test_ray_that_cannot_be_started(tmp_path):
    script = """
    from thread_chunks import ExecutorBroken
    config.ray_config["_temp_dir"] = "/proc/nothing"
    for handler in (signal.SIG_DFL, lambda *_: None):
        signal.signal(signal.SIGTERM, handler)
        try:
            ChunkExecutor(1)
        except ExecutorBroken as error:
            print(str(error)[:25], signal.getsignal(signal.SIGTERM) is handler)
    """
    lines, _ = end(start(script, tmp_path))
    assert lines[-2:] == ["Ray cannot be started: [E True"] * 2


def test_ray_starts_without_its_dashboard(tmp_path):
    script = """
    original = ray.init
    def init(**options):
        context = original(**options)
        print(options["include_dashboard"], options["log_to_driver"], repr(context.dashboard_url or ""))
    ray.init = init
    ChunkExecutor(1).shutdown()
    """
    assert run(script, tmp_path) == ["False False ''"]


def test_ray_that_the_user_shut_down(joined, tmp_path):
    script = """
    next_ray("started")
    executor = ChunkExecutor(2)
    future = executor.submit(time.sleep, 60)
    until(future.running)
    ray.shutdown()
    executor.shutdown()
    print(type(future.exception()).__name__ in ("ExecutorBroken", "WorkerLost"))  # as Ray goes, its workers die
    next_ray("joined")
    for warm in (False, True):
        executor = ChunkExecutor(1)
        if warm:
            executor.submit(abs, 1).result()
        ray.shutdown()
        print(repr(executor.submit(abs, 1).exception())[:14], up())
    """
    lines = run(script, tmp_path, **joined)
    assert lines == ["True", "ExecutorBroken False", "ExecutorBroken False"]


def test_no_os_error_where_ray_cannot_be_reached(tmp_path):
    script = """
    from thread_chunks import ExecutorBroken
    def fail(**options): raise ConnectionError("nobody answers")
    ray.init = fail
    try:
        ChunkExecutor(1)
    except ExecutorBroken as error:
        print(error, isinstance(error, OSError), type(error.__cause__).__name__)
    """
    assert run(script, tmp_path) == ["Ray cannot be started: nobody answers False ConnectionError"]
