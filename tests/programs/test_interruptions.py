"""Pending work after Ctrl-C, signals, forks and the exit of the interpreter."""

from __future__ import annotations

import signal
import time

import pytest
from scripts import end, run, start


def test_pending_work_is_finished_at_the_interpreters_exit(joined, tmp_path):
    script = """
    executor = ChunkExecutor(2)
    def f(x):
        time.sleep(0.05)
        open(f"done{x}", "w").close()
    for x in range(10):
        executor.submit(f, x)
    executor.map(f, range(10, 20))
    def late():
        threading.main_thread().join()
        try:
            executor.submit(f, 99)
        except RuntimeError as error:
            print(error, flush=True)
    threading.Thread(target=late).start()
    """
    assert run(script, tmp_path, **joined) == ["cannot schedule new futures after interpreter shutdown"]
    assert len(list(tmp_path.glob("done*"))) == 20


def test_dropped_at_once(joined, tmp_path):
    script = """
    print(list(ChunkExecutor(2).map(abs, [-1, -2])))
    print(until(lambda: not up()))
    """
    assert run(script, tmp_path, **joined) == ["[1, 2]", "True"]


def test_sys_exit_in_a_call_does_not_end_the_worker(joined, tmp_path):
    script = """
    with ChunkExecutor(1) as executor:
        pid = executor.submit(os.getpid).result()
        print(repr(executor.submit(sys.exit, 3).exception()), executor.submit(os.getpid).result() == pid)
    """
    assert run(script, tmp_path, **joined) == ["SystemExit(3) True"]


def test_forked_child(joined, tmp_path):
    script = """
    executor = ChunkExecutor(1)
    print(executor.submit(abs, -1).result(), flush=True)
    pid = os.fork()
    if pid == 0:
        try:
            executor.submit(abs, -1)
        except RuntimeError as error:
            print("forked child" in str(error), flush=True)
        executor.shutdown()
        del executor
        try:
            ChunkExecutor(1)
        except RuntimeError as error:
            print("forked while Ray was up" in str(error), flush=True)
        os._exit(0)
    print(os.waitpid(pid, 0)[1], executor.submit(abs, -2).result())
    executor.shutdown()
    """
    assert run(script, tmp_path, **joined, PYTHONWARNINGS="ignore::DeprecationWarning") == ["1", "True", "True", "0 2"]


def test_the_users_handler_of_sigterm_stays(joined, tmp_path):
    script = """
    handler = lambda *_: print("mine", flush=True)
    signal.signal(signal.SIGTERM, handler)
    with ChunkExecutor(1) as executor:
        executor.submit(abs, 1).result()
        os.kill(os.getpid(), signal.SIGTERM)
    print(signal.getsignal(signal.SIGTERM) is handler)
    """
    assert run(script, tmp_path, **joined) == ["mine", "True"]


def test_exit_while_a_call_sleeps(joined, tmp_path):
    script = """
    from concurrent.futures import ProcessPoolExecutor
    def work():
        time.sleep(1)
        print("slept", flush=True)
    if __name__ == "__main__":
        executor = (ProcessPoolExecutor if "STANDARD" in os.environ else ChunkExecutor)(2)
        executor.submit(work)
        print("end of the program", flush=True)
    """
    lines = ["end of the program", "slept"]
    assert run(script, tmp_path, **joined, STANDARD="1") == run(script, tmp_path, **joined) == lines


def test_signals_end_a_program_that_waits_outside_of_a_with_block(tmp_path):
    script = """
    executor = ChunkExecutor(2)
    future = executor.submit(time.sleep, 600)
    until(future.running)
    print("waiting", flush=True)
    future.result()
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start(script, tmp_path)
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
        _, err = end(process, returncode=-number)
        assert err.endswith("KeyboardInterrupt\n") == (number == signal.SIGINT)


def test_sigterm_in_a_with_block(tmp_path):
    script = """
    with ChunkExecutor(2) as executor:
        future = executor.submit(time.sleep, 600)
        until(future.running)
        print("waiting", flush=True)
        future.result()
    """
    process = start(script, tmp_path)
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGTERM)
    assert end(process, returncode=-signal.SIGTERM) == ([], "")


def test_ctrl_c(tmp_path):
    script = """
    def nap():
        open("began", "w").close()
        time.sleep(600)
    try:
        with ChunkExecutor(2) as executor:
            future = executor.submit(nap)
            until(lambda: os.path.exists("began"))
            print("waiting", flush=True)
            list(executor.map(time.sleep, [600] * 3))
    except KeyboardInterrupt:
        say(type(future.exception()).__name__, until(lambda: not up()))
    say(chunk(abs, [[-1]]))
    """
    process = start(script, tmp_path)
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    end(process)
    assert (tmp_path / "said").read_text().splitlines() == ["WorkerLost True", "[1]"]


@pytest.mark.parametrize("waits", ["for a call", "for the end"])
def test_ctrl_c_ends_a_program_by_sigint_though_ray_ends_meanwhile(waits, joined, tmp_path):
    # Ray's own hook for exceptions asks its core worker, which ends the program with status 1 where it has just ended.
    script = f"""
    import traceback
    import ray._private.worker as rays
    class Slow:
        def __init__(self, real):
            self.real = real
        def __getattr__(self, name):
            return self.end if name == "shutdown_driver" else getattr(self.real, name)
        def end(self):
            self.real.shutdown_driver()
            is_down.set()
            time.sleep(1)
    is_down = threading.Event()
    format_tb = traceback.format_tb
    traceback.format_tb = lambda *of: is_down.wait(1) and False or format_tb(*of)
    with ChunkExecutor(1) as executor:
        future = executor.submit(time.sleep, 600)
        until(future.running)
        rays.global_worker.core_worker = Slow(rays.global_worker.core_worker)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        if {waits == "for a call"}:
            future.result()
    """
    _, err = end(start(script, tmp_path, **joined), returncode=-signal.SIGINT)
    assert err.endswith("KeyboardInterrupt\n")


def test_ctrl_c_in_a_session_that_goes_on(joined, tmp_path):
    script = """
    def work(x):
        if x >= 20:
            open("works", "a").close()
            time.sleep(600)
        return x
    for _ in range(2):
        try:
            chunk(work, [[x] for x in range(40)], chunk_size=2, path="checkpoint")
        except KeyboardInterrupt:
            say("interrupted")
    from thread_chunks import Checkpoint
    say(len(Checkpoint.load("checkpoint")))
    say(chunk(work, [[x] for x in range(20)], chunk_size=2, path="checkpoint") == list(range(20)))
    say(chunk(abs, [[-1]]))
    """
    process = start(script, tmp_path, **joined)
    for _ in range(2):
        deadline = time.monotonic() + 60
        while not (tmp_path / "works").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        (tmp_path / "works").unlink()
        process.send_signal(signal.SIGINT)
    end(process)
    assert (tmp_path / "said").read_text().splitlines() == ["interrupted", "interrupted", "20", "True", "[1]"]


def test_ctrl_c_while_ray_starts(tmp_path):
    # Ray itself, interrupted there, would end the process when it is started the next time.
    script = """
    init = ray.init
    def init_and_be_interrupted(**options):
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        return init(**options)
    ray.init = init_and_be_interrupted
    try:
        chunk(abs, [[-1]])
    except KeyboardInterrupt:
        say("interrupted", up())
    signal.signal(signal.SIGINT, lambda *_: say("noted"))  # the program's own handler, which goes on
    say(chunk(abs, [[-2]]), up())
    """
    end(start(script, tmp_path))
    assert (tmp_path / "said").read_text().splitlines() == ["interrupted False", "noted", "[2] False"]
