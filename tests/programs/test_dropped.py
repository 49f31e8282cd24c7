"""When `del` returns, Ray is down, or disconnected from, if that was the dropped object's to do."""

from __future__ import annotations

import pytest
from scripts import run

DROP = """
    gc.disable()  # no reference cycle may keep a deleted object
    for make, how in PAIRS:
        thing = eval(make)
        if how == "failed":
            try:
                thing([["x"]]) if isinstance(thing, Chunker) else thing.submit(abs, "x").result()
            except TypeError:
                pass
        elif how != "unused":
            assert (thing([[-1], [-2]]) if isinstance(thing, Chunker) else list(thing.map(abs, [-1, -2]))) == [1, 2]
        if how == "gc":
            cycle = [thing]
            cycle.append(cycle)
            del cycle, thing
            assert up()
            gc.collect()
        else:
            del thing
        print(how, up())
"""
WAYS = ["del", "gc", "unused", "failed"]
DROPPED = [f"{how} False" for how in WAYS]
MAKE = ["ChunkExecutor(2)", "Chunker(abs, chunk_size=2, path='file')"]


@pytest.mark.parametrize("make", MAKE)
def test_ray_is_disconnected_when_del_returns(joined, tmp_path, make):
    pairs = [(make, how) for how in WAYS]
    assert run(DROP.replace("PAIRS", repr(pairs)), tmp_path, **joined) == DROPPED


def test_ray_that_was_started_is_down_when_del_returns_and_another_stays_up(tmp_path):
    pairs = list(zip(MAKE * 2, WAYS, strict=True))
    script = """
    ray.init(address="local", num_cpus=1, **QUIET)
    time.sleep(1.5)
    print(up())
    ray.shutdown()
    """
    assert run(DROP.replace("PAIRS", repr(pairs)) + script, tmp_path) == [*DROPPED, "True"]


def test_ray_is_down_after_the_with_block(joined, tmp_path):
    script = """
    with Chunker(abs, chunk_size=2) as chunker:
        chunker([[-1]])
    print(up())
    with Chunker(abs, chunk_size=2, persistent=True) as chunker:
        chunker([[-1]])
    print(up())
    """
    assert run(script, tmp_path, **joined) == ["False", "True"]


def test_what_is_pending_is_not_waited_for(joined, tmp_path):
    script = """
    executor = ChunkExecutor(1)
    executor.submit(abs, 1).result()
    future = executor.submit(lambda: time.sleep(1) or 5)
    del executor
    print(future.done())
    print(future.result(), until(lambda: not up()))
    """
    assert run(script, tmp_path, **joined) == ["False", "5 True"]


def test_a_finalizer_on_a_thread_of_the_package_waits_for_nothing(joined, tmp_path):
    script = """
    dropped = []
    def drop(future):
        dropped.pop()
    executor = ChunkExecutor(1)
    dropped.append(executor)
    executor.submit(abs, 1).result()
    future = executor.submit(time.sleep, 0.1)
    future.add_done_callback(drop)
    del executor
    future.result()
    start = time.monotonic()
    print(until(lambda: not dropped and not up()))
    from thread_chunks._dispatch import engine
    print(time.monotonic() - start < engine._PATIENCE)
    """
    assert run(script, tmp_path, **joined) == ["True", "True"]


def test_a_finalizer_in_the_middle_of_the_start_of_ray_does_not_wait_for_itself(joined, tmp_path):
    script = """
    from thread_chunks._ray import session
    executor = ChunkExecutor(1)
    executor.submit(abs, 1).result()
    with session._held():
        del executor  # whose end needs the lock
        print(up())
    print(until(lambda: not up()))
    """
    assert run(script, tmp_path, **joined) == ["True", "True"]


def test_ctrl_c_while_a_finalizer_waits_is_raised_afterwards(joined, tmp_path):
    script = """
    from thread_chunks._ray import session
    held, over = threading.Event(), threading.Event()
    def hold():
        with session._held():  # which the end of the executor needs
            held.set()
            over.wait(60)
    executor = ChunkExecutor(1)
    executor.submit(abs, 1).result()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        del executor
        print("deleted")
        over.wait(60)
        print("not interrupted")
    except KeyboardInterrupt:
        print("interrupted")
    over.set()
    thread.join()
    print(until(lambda: not up()))
    """
    assert run(script, tmp_path, **joined) == ["deleted", "interrupted", "True"]
