"""Executors that are made in threads which end, and while other threads call ``ray.init``."""

from __future__ import annotations

import pytest
from scripts import end, run, start

MADE_IN_A_THREAD = """
def made(**options):
    found = []
    thread = threading.Thread(target=lambda: found.append(ChunkExecutor(1, **options)))
    thread.start()
    thread.join()
    return found[0]
def goes_on(*executors):
    pids = set()
    for _ in range(4):  # the kernel took less than a second to end the processes of that thread
        time.sleep(0.5)
        pids.update(executor.submit(os.getpid).result(30) for executor in executors)
    return len(pids) == len(executors)
"""
ROWS = {
    "alone": """
        executor = made()
        print(goes_on(executor))
        executor.shutdown()
        print(up(), [thread.name for thread in threading.enumerate() if "thread_chunks" in thread.name])
    """,
    "shared": """
        first, second = made(), made()
        print(goes_on(first, second))
        first.shutdown()
        goes = goes_on(second)
        second.shutdown()
        print(not goes, [])
    """,
    "persistent": """
        made(persistent=True).shutdown()
        executor = made()
        print(goes_on(executor))
        executor.shutdown()
        print(not up(), [])
        ray.shutdown()
    """,
    "the user's": """
        ray.init(**QUIET)
        executor = made()
        print(goes_on(executor))
        executor.shutdown()
        print(not up(), [])
    """,
    "nested": """
        def outer():
            executor = made()
            goes = goes_on(executor)
            executor.shutdown()
            return goes and up()
        with ChunkExecutor(1) as executor:
            print(executor.submit(outer).result())
        print(up(), [])
    """,
}


@pytest.mark.parametrize("row", ["alone", "shared", "persistent"])
def test_ray_outlives_the_thread_that_made_an_executor(row, tmp_path):
    assert run(MADE_IN_A_THREAD + ROWS[row].replace("\n        ", "\n"), tmp_path) == ["True", "False []"]


@pytest.mark.parametrize("row", ["alone", "the user's", "nested"])
def test_a_connection_outlives_the_thread_that_made_an_executor(row, joined, tmp_path):
    script = MADE_IN_A_THREAD + ROWS[row].replace("\n        ", "\n")
    assert run(script, tmp_path, **joined) == ["True", "False []"]


def test_the_handler_of_sigterm_stays_where_a_thread_makes_the_executor(tmp_path):
    script = """
    signal.signal(signal.SIGTERM, lambda *_: print("mine", flush=True))
    executor = made()
    os.kill(os.getpid(), signal.SIGTERM)
    print(executor.submit(abs, -1).result())
    executor.shutdown()
    """
    assert run(MADE_IN_A_THREAD + script.replace("\n    ", "\n"), tmp_path) == ["mine", "1"]


def test_executors_are_made_and_dropped_while_another_thread_initialises_ray(tmp_path):
    # The thread that starts Ray stays: the kernel ends Ray with it.
    script = """
    rounds = 2
    over, wrong, done = threading.Event(), [], []
    def work(pause):
        for _ in range(rounds):
            try:
                executor = ChunkExecutor(1)
                done.append(executor.submit(abs, -1).result(120))
                del executor
                time.sleep(pause)
            except BaseException as error:
                wrong.append(repr(error))
    def init():
        while not over.is_set():
            try:
                ray.init(num_cpus=2, **QUIET)
            except (RuntimeError, AssertionError):  # Ray's own error if it is up, or another thread was faster
                pass
            over.wait(0.2)
    workers = [threading.Thread(target=work, args=(number / 20,)) for number in range(6)]
    starter = threading.Thread(target=init)
    for thread in (starter, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    say(wrong, len(done))
    ray.shutdown()
    over.set()
    starter.join()
    ray.shutdown()
    """
    end(start(script, tmp_path))
    assert (tmp_path / "said").read_text().splitlines() == ["[] 12"]
