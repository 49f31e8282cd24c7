"""What workers take over from the driver: folders, modules, references, options."""

from __future__ import annotations

from scripts import run


def test_executor_inside_a_call_of_another(joined, tmp_path):
    script = """
    def outer(x):
        with ChunkExecutor(2) as inner:
            values = list(inner.map(lambda y: x * y, range(3)))
        return values, up()
    with ChunkExecutor(2) as executor:
        print(list(executor.map(outer, [1, 2])))
    print(up())
    """
    assert run(script, tmp_path, **joined) == ["[([0, 1, 2], True), ([0, 2, 4], True)]", "False"]


def test_workers_take_over_the_drivers_surroundings(joined, tmp_path):
    script = """
    import multiprocessing
    def main():
        executor = ChunkExecutor(1)
        executor.submit(abs, 1).result()
        os.makedirs("late/inside")
        open("late/late_module.py", "w").write("def f(x): return x + 1\\n")
        sys.path.append(os.path.abspath("late"))
        import late_module
        print(executor.submit(late_module.f, 1).result(), list(executor.map(late_module.f, [2])))
        os.chdir("late/inside")
        with ChunkExecutor(1) as other:
            print(other.submit(os.getcwd).result() == os.getcwd())
            with multiprocessing.Manager() as manager:
                queue = manager.Queue()
                other.submit(queue.put, 5).result()
                print(queue.get(timeout=10))
        executor.shutdown()
    if __name__ == "__main__":  # the manager's process imports the script, unless it is forked
        main()
    """
    assert run(script, tmp_path, **joined) == ["2 [3]", "True", "5"]


def test_references_to_objects_in_the_cluster(joined, tmp_path):
    script = """
    import numpy as np
    ray.init(**QUIET)
    @ray.remote
    def fail(): raise LookupError("upstream")
    array = ray.put(np.arange(200_000))
    with ChunkExecutor(2) as executor:
        total = lambda x, y=0: (type(x).__name__, int(x.sum()) + y)
        print(executor.submit(total, array, y=ray.put(1)).result())
        print(list(executor.map(lambda x: int(x[-1]), [array, array], chunksize=2)))
        print(executor.submit(lambda refs: [type(ref).__name__ for ref in refs], [array]).result())
        print(int(ray.get(executor.submit(lambda: [ray.put(5)]).result()[0])))
        values = executor.map(lambda x: 1, [1, fail.remote(), 3], chunksize=3)
        print(next(values))
        try:
            next(values)
        except LookupError as error:
            print(repr(error))
    """
    assert run(script, tmp_path, **joined) == [
        "('ndarray', 19999900001)",
        "[199999, 199999]",
        "['ObjectRef']",
        "5",
        "1",
        "LookupError('upstream')",
    ]


def test_what_a_worker_takes_over_and_what_not(joined, tmp_path):
    script = """
    import multiprocessing, subprocess
    from thread_chunks import PicklingFailed
    def interrupted():
        process = subprocess.Popen(["sleep", "60"])
        process.send_signal(signal.SIGINT)
        return process.wait()
    with ChunkExecutor(1) as executor:
        print(executor.submit(lambda: sys.argv).result() == sys.argv, executor.submit(interrupted).result())
        os.environ["LATER"] = "1"
        print(executor.submit(os.getenv, "LATER").result())
        print(type(executor.submit(signal.signal, signal.SIGUSR1, signal.SIG_DFL).exception()).__name__)
    try:
        ChunkExecutor(1, initializer=print, initargs=(multiprocessing.Lock(),))
    except PicklingFailed as error:
        print("inheritance" in str(error))
    """
    assert run(script, tmp_path, **joined) == ["True -2", "None", "NoneType", "True"]


def test_bad_actor_options_are_refused_at_once(tmp_path):
    script = """
    for option in ("bogus", "max_restarts"):
        try:
            ChunkExecutor(1, actor_options={option: 1})
        except ValueError as error:
            print(option in str(error), up())
    """
    assert run(script, tmp_path) == ["True False"] * 2


def test_no_node_has_what_a_worker_needs(tmp_path):
    script = """
    asked = {
        "1 GPU": {"num_gpus": 1},
        "1000 CPUs": {"num_cpus": 1000},
        "0.5 laser": {"resources": {"laser": 0.5}},
        "0.1 GPUs": {"num_gpus": 0.1},
    }
    def refuse(words):
        try:
            ChunkExecutor(2, actor_options=asked[words])
        except ValueError as error:
            say(words in str(error), "no node" in str(error), up())
    refuse("1 GPU")
    with ChunkExecutor(1, actor_options={"num_cpus": 1, "num_gpus": 0}) as executor:
        for words in asked:
            refuse(words)
        say(executor.submit(abs, -1).result())
    """
    run(script, tmp_path)
    assert (tmp_path / "said").read_text().splitlines() == ["True True False", *["True True True"] * 4, "1"]


def test_actor_options_and_a_worker_that_cannot_be_placed(joined, tmp_path):
    script = """
    ray.init(**QUIET)
    with ChunkExecutor(2, actor_options={"resources": {"special": 1}}) as executor:
        pids = set(executor.map(lambda _: (time.sleep(0.01), os.getpid())[1], range(50)))
        print(len(pids), ray.available_resources().get("special", 0))
    """
    assert run(script, tmp_path, **joined) == ["1 0"]
