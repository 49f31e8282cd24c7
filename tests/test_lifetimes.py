"""Who starts and stops Ray, and what becomes of pending work: each in a fresh process.

The scripts print what they find; nothing of theirs may be left when they end.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

from scripts import PRELUDE, descendants, end, run, start


def test_ray_that_the_user_initialised_stays_up(tmp_path):
    script = """
    ray.init(num_cpus=2, **QUIET)
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
    assert run(script, tmp_path) == ["[1, 2]", "True", "[8] True", "[1]", "True True"]


def test_ray_that_the_package_started_is_stopped_by_the_last_executor(tmp_path):
    script = """
    print(chunk(abs, []), up())
    for last_first in (False, True):
        executors = [ChunkExecutor(1), ChunkExecutor(1)]
        print(up(), [executor.submit(abs, -1).result() for executor in executors])
        first, second = reversed(executors) if last_first else executors
        first.shutdown()
        print(up(), second.submit(abs, -2).result())
        second.shutdown()
        print(up())
    ray.init(num_cpus=1, **QUIET)
    with ChunkExecutor(1) as executor:
        print(executor.submit(abs, -3).result())
    print(up())
    ray.shutdown()
    with ChunkExecutor(1) as executor:
        print(executor.submit(abs, -4).result())
    print(up())
    """
    overlap = ["True [1, 1]", "True 2", "False"]
    assert run(script, tmp_path) == ["[] False", *overlap, *overlap, "3", "True", "4", "False"]


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


def test_persistent_among_others_that_are_not(tmp_path):
    script = """
    with ChunkExecutor(1) as other:
        with ChunkExecutor(1, persistent=True) as executor:
            executor.submit(abs, 1).result()
    print(up())
    """
    assert run(script, tmp_path) == ["True"]


def test_dropped_chunker_stops_the_ray_that_it_started(tmp_path):
    script = """
    chunker = Chunker(abs, chunk_size=2)
    print(chunker([[-1]]), up())
    del chunker
    print(until(lambda: not up()))
    """
    assert run(script, tmp_path) == ["[1] True", "True"]


def test_ray_that_the_user_stopped_and_started_again_is_the_users(tmp_path):
    script = """
    old = ChunkExecutor(1)
    print(old.submit(abs, -1).result())
    ray.shutdown()
    ray.init(num_cpus=1, **QUIET)
    new = ChunkExecutor(1)
    old.shutdown()
    print(new.submit(abs, -2).result())
    new.shutdown()
    print(up())
    """
    assert run(script, tmp_path) == ["1", "2", "True"]


def test_existing_cluster_is_joined_and_left_running(tmp_path):
    cluster = start(
        """
        context = ray.init(num_cpus=2, **QUIET)
        print(context.address_info["gcs_address"], flush=True)
        time.sleep(600)
        """,
        tmp_path,
        RAY_AUTH_MODE="disabled",
    )
    try:
        address = cluster.stdout.readline().strip()
        script = """
        config.ray_config["num_cpus"] = 7
        with ChunkExecutor(1) as executor:
            print(executor.submit(lambda: ray.cluster_resources()["CPU"]).result())
        print(up())
        del os.environ["RAY_ADDRESS"]
        config.ray_config["address"] = sys.argv[1] if len(sys.argv) > 1 else os.environ["ADDRESS"]
        print(chunk(abs, [[-1]]), up())
        """
        lines = run(script, tmp_path, RAY_ADDRESS=address, ADDRESS=address, RAY_AUTH_MODE="disabled")
        assert lines == ["2.0", "False", "[1] False"]
        assert cluster.poll() is None
    finally:
        cluster.send_signal(signal.SIGINT)
        end(cluster, returncode=-signal.SIGINT)


def test_executor_inside_a_call_of_another(tmp_path):
    script = """
    def outer(x):
        with ChunkExecutor(2) as inner:
            values = list(inner.map(lambda y: x * y, range(3)))
        return values, up()
    with ChunkExecutor(2) as executor:
        print(list(executor.map(outer, [1, 2])))
    print(up())
    """
    assert run(script, tmp_path) == ["[([0, 1, 2], True), ([0, 2, 4], True)]", "False"]


def test_fifty_executors_leave_nothing(tmp_path):
    script = """
    import psutil
    ray.init(num_cpus=2, **QUIET)
    for _ in range(50):
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
    for _ in range(3):
        with ChunkExecutor(1) as executor:
            assert executor.submit(abs, -1).result() == 1
    print(up(), [t.name for t in threading.enumerate() if t.name.startswith("thread_chunks")])
    """
    assert run(script, tmp_path) == ["True", "True []", "False []"]


def test_pending_work_is_finished_at_the_interpreters_exit(tmp_path):
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
    assert run(script, tmp_path) == ["cannot schedule new futures after interpreter shutdown"]
    assert len(list(tmp_path.glob("done*"))) == 20


def test_dropped_at_once(tmp_path):
    script = """
    print(list(ChunkExecutor(2).map(abs, [-1, -2])))
    print(until(lambda: not up()))
    """
    assert run(script, tmp_path) == ["[1, 2]", "True"]


def test_functions_of_main(tmp_path):
    script = """
    import xml
    import xml.dom.minidom
    model, cache, constant = None, {}, 10

    class Point:
        def __init__(self, x): self.x = x
        def moved(self): return Point(self.x + constant)

    class Oops(Exception):
        def __init__(self, a, b): super().__init__(f"{a}{b}"); self.b = b

    def initialize(value):
        global model
        model = value
        cache["key"] = value

    def helper(x): return x + 1
    def use(x): return model, cache["key"], helper(x)
    def parse(text): return xml.dom.minidom.parseString(text).documentElement.tagName
    def fail(): raise Oops(1, 2)
    def count():
        cache["count"] = cache.get("count", 0) + 1
        return cache["count"]

    with ChunkExecutor(1, initializer=initialize, initargs=("m",)) as executor:
        print(executor.submit(use, 1).result(), list(executor.map(use, [2])))
        back = executor.submit(Point.moved, Point(1)).result()
        print(type(back) is Point, back.x, executor.submit(parse, "<a/>").result())
        print([executor.submit(count).result() for _ in range(2)], list(executor.map(lambda _: count(), [0])))
        G = 1
        executor.submit(lambda: G).result()
        G = 2
        print(list(executor.map(lambda _: G, [0])))
        def helper(x): return x + 100
        print(executor.map(lambda x: helper(x), [1]).__next__())
        try:
            executor.submit(fail).result()
        except Oops as error:
            print(repr(error), error.b)
    """
    assert run(script, tmp_path) == [
        "('m', 'm', 2) [('m', 'm', 3)]",
        "True 11 a",
        "[1, 2] [3]",
        "[2]",
        "101",
        "Oops('12') 2",
    ]


def test_classes_of_main_that_mention_themselves(tmp_path):
    script = """
    import abc, dataclasses, enum, functools, typing

    class Money:
        made = 0
        def __init__(self, n): self.n = n; Money.made += 1
        def __eq__(self, other): return isinstance(other, Money) and self.n == other.n
        def __bool__(self): return self.n != 0
        def __add__(self, other): return Money(self.n + other.n)
        def __enter__(self): return Money
        def __exit__(self, *_): pass
        @classmethod
        def nothing(cls): return Money(0)

    class Tree:
        def __init__(self, depth): self.children = [Tree(depth - 1) for _ in range(2)] if depth else []
        def __len__(self): return 1 + sum(map(len, self.children))

    @functools.total_ordering
    @dataclasses.dataclass
    class Version:
        number: int
        def next(self): return Version(self.number + 1)
        def __lt__(self, other): return self.number < other.number

    class Pair(typing.NamedTuple):
        a: int
        b: int
        def __add__(self, other): return Pair(self.a + other.a, self.b + other.b)

    class Shape(abc.ABC):
        @abc.abstractmethod
        def area(self): ...
    class Square(Shape):
        def __init__(self, side): self.side = side
        def area(self): return self.side ** 2
        def twice(self): return Square(2 * self.side)

    class Flags(enum.Flag):
        A = 1
        B = 2
        def both(self): return Flags.A | Flags.B

    class Oops(Exception):
        def __init__(self, a, b): super().__init__(a); self.b = b
        def again(self): return Oops(self.args[0], self.b + 1)

    class Ping:
        def other(self): return Pong()
        def name(self): return "ping"
    class Pong:
        def other(self): return Ping()
        def name(self): return "pong"

    class Adder:
        def __init__(self, n): self.n = n
        def __call__(self, x): return Adder(self.n + x).n

    def fail(): raise Oops(1, 2).again()

    with ChunkExecutor(1) as executor:
        do = lambda f, *args: executor.submit(f, *args).result()
        print(do(lambda a, b: a == b, Money(1), Money(1)), do(bool, Money(0)), do(lambda: Money.nothing().n))
        print((do(lambda a: a + a, Money(2))).n, do(lambda m: m.__enter__() is type(m), Money(1)))
        print(do(len, Tree(2)), list(executor.map(len, [Tree(0), Tree(1)])))
        print(do(Version(1).next), do(lambda: Version(1) < Version(2)), do(lambda: Pair(1, 2) + Pair(3, 4)))
        print(do(lambda: Square(2).twice().area()), do(Flags.A.both).value, do(lambda: Ping().other().other().name()))
        try:
            do(fail)
        except Oops as error:
            print(error.args, error.b)
        print(do(Adder(1), 2), list(executor.map(Adder(1), [1, 2])), do(lambda: Money.made) > 0)
    with ChunkExecutor(lambda n: Money(n) == Money(n), 1) as executor:
        print(list(executor.map([1, 2])))
    """
    assert run(script, tmp_path) == [
        "True False 0",
        "4 True",
        "7 [1, 3]",
        "Version(number=2) True Pair(a=4, b=6)",
        "16 3 ping",
        "(1,) 3",
        "3 [2, 3] True",
        "[True, True]",
    ]


def test_main_is_not_changed_by_what_comes_back(tmp_path):
    script = """
    import enum, functools
    G = 1
    class Foo:
        n = 0
        def get(self): return G
    class Slots:
        __slots__ = ("a",)
        def __init__(self): self.a = 1
    import dataclasses
    @dataclasses.dataclass(slots=True)
    class Record: x: int
    class Color(enum.Enum): RED = 1
    def make(): return Foo()
    def bump():
        Foo.n += 1
        return Foo.n
    def same(x): return x
    get = Foo.get
    with ChunkExecutor(1) as executor:
        foo = executor.submit(make).result()
        print(type(foo) is Foo, Foo.get is get)
        Foo.n = 5
        executor.submit(make).result()
        G = 2
        print(Foo.n, Foo().get())
        print([executor.submit(bump).result() for _ in range(3)])
        print(executor.submit(same, Slots()).result().a, executor.submit(same, Color.RED).result() is Color.RED)
        print(executor.submit(same, Record(3)).result() == Record(3), executor.submit(lambda: Slots().a).result())
        print(executor.submit(same, same).result() is same, executor.submit(same, Foo).result() is Foo)
    """
    # The class went out when its n was 0, and is the worker's own from then on.
    assert run(script, tmp_path) == ["True True", "5 2", "[1, 2, 3]", "1 True", "True 1", "True True"]


def test_odd_functions_of_main(tmp_path):
    script = """
    import functools
    lock = threading.Lock()
    @functools.lru_cache(maxsize=None)
    def fib(n: int) -> int: return n if n < 2 else fib(n - 1) + fib(n - 2)
    class Lazy:
        @functools.cached_property
        def value(self): return 7
        @functools.lru_cache
        def cached(self, x): return -x
    def locked(x):
        with lock:
            return x
    def closure():
        n = 0
        def inc():
            nonlocal n
            n += 1
        def both():
            inc(); inc()
            return n
        return both
    def annotated(x: int = 3, *, y: str = "y") -> None: "doc"
    with ChunkExecutor(1) as executor:
        print(executor.submit(fib, 30).result(), list(executor.map(fib, [5, 6])))
        print(executor.submit(lambda: (Lazy().value, Lazy().cached(2))).result(), executor.submit(locked, 4).result())
        print(executor.submit(closure()).result())
        parts = lambda f=annotated: (f.__annotations__["x"], f.__defaults__, f.__kwdefaults__)
        print(executor.submit(parts).result(), executor.submit(lambda: annotated.__doc__).result())
    """
    assert run(script, tmp_path) == [
        "832040 [5, 8]",
        "(7, -2) 4",
        "2",
        "(<class 'int'>, (3,), {'y': 'y'}) doc",
    ]


def test_main_of_a_package(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "other.py").write_text("V = 5")
    (tmp_path / "package" / "program.py").write_text(
        PRELUDE + "def f():\n    from .other import V\n    return V\n"
        "with ChunkExecutor(1) as executor: print(executor.submit(f).result())"
    )
    done = subprocess.run(
        [sys.executable, "-m", "package.program"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.returncode) == ("5\n", 0), done.stderr


def test_workers_take_over_the_drivers_surroundings(tmp_path):
    script = """
    import multiprocessing
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
    """
    assert run(script, tmp_path) == ["2 [3]", "True", "5"]


def test_references_to_objects_in_the_cluster(tmp_path):
    script = """
    import numpy as np
    ray.init(num_cpus=2, **QUIET)
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
    assert run(script, tmp_path) == [
        "('ndarray', 19999900001)",
        "[199999, 199999]",
        "['ObjectRef']",
        "5",
        "1",
        "LookupError('upstream')",
    ]


def test_dead_worker_costs_its_call_only(tmp_path):
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
    end(start(script, tmp_path))
    assert (tmp_path / "said").read_text().splitlines() == ["WorkerLost True True", "1 [0, 1, 2, 3, 4] 2"] * 2


def test_worker_that_crashes(tmp_path):
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
    _, err = end(start(script, tmp_path))
    assert (tmp_path / "said").read_text().splitlines() == ["WorkerLost True True True", "1"]
    assert "Segmentation fault" in err  # what a worker leaves says where it was


def test_calls_print_where_the_driver_prints(tmp_path):
    script = """
    def speak(n):
        print("printed", n)
        print("error", n, file=sys.stderr)
        os.system("echo shell " + str(n))
        return n
    print("before", flush=True)
    with ChunkExecutor(1) as executor:
        for n in (1, 1, 2):
            executor.submit(speak, n).result()
        def nested():
            with ChunkExecutor(1) as inner:
                inner.submit(print, "nested").result()
        executor.submit(nested).result()
    ray.init(num_cpus=2, **QUIET)
    @ray.remote
    class Mine(LabelledActor):
        pass
    print(chunk(None, [["not shown"]], [Mine.remote(print)]), flush=True)
    """
    lines, err = end(start(script, tmp_path))
    said = [["printed 1", "shell 1"], ["printed 1", "shell 1"], ["printed 2", "shell 2"]]
    assert lines == ["before", *said[0], *said[1], *said[2], "nested", "[None]"]
    assert err.splitlines() == ["error 1", "error 1", "error 2"]


def test_calls_print_into_a_file_in_order(tmp_path):
    script = """
    from concurrent.futures import ProcessPoolExecutor
    os.dup2(os.open("out", os.O_WRONLY | os.O_CREAT), 1)
    print("first", flush=True)
    with (ProcessPoolExecutor if "STANDARD" in os.environ else ChunkExecutor)(1) as executor:
        executor.submit(print, "second", flush=True).result()
        print("third", flush=True)
        executor.submit(print, "fourth", flush=True).result()
    """
    for environment in ({}, {"STANDARD": "1"}):
        assert run(script, tmp_path, **environment) == []
        assert (tmp_path / "out").read_text().split() == ["first", "second", "third", "fourth"]
        (tmp_path / "out").unlink()


def test_calls_print_nowhere_when_the_driver_has_no_output(tmp_path):
    # Its descriptors are something else's by then: Ray's, or the user's data.
    script = """
    with ChunkExecutor(1) as executor:
        def speak(): print("lost"); return os.system("echo lost")
        print(data.fileno(), executor.submit(speak).result(), file=sys.stderr)
    """
    file = tmp_path / "closed.py"
    # The first file that is opened gets the descriptor that is free.
    file.write_text(PRELUDE.replace("import gc", "data = open('data', 'w')\nimport gc", 1) + textwrap.dedent(script))
    command = f"exec {sys.executable} {file} >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert (done.returncode, done.stderr) == (0, "1 0\n")
    assert (tmp_path / "data").read_text() == ""


def test_a_kept_actor_does_not_hold_the_drivers_output(tmp_path):
    script = """
    chunker = Chunker(print, chunk_size=1, persistent=True)
    chunker([["shown"]])
    actors = chunker.actors
    del chunker
    until(lambda: not any(t.name.startswith("thread_chunks") for t in threading.enumerate()))
    chunk(None, [["not shown"]], actors)
    """
    assert run(script, tmp_path) == ["shown"]


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


def test_what_a_worker_takes_over_and_what_not(tmp_path):
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
    assert run(script, tmp_path) == ["True -2", "None", "ValueError", "True"]


def test_sys_exit_in_a_call_does_not_end_the_worker(tmp_path):
    script = """
    with ChunkExecutor(1) as executor:
        pid = executor.submit(os.getpid).result()
        print(repr(executor.submit(sys.exit, 3).exception()), executor.submit(os.getpid).result() == pid)
    """
    assert run(script, tmp_path) == ["SystemExit(3) True"]


def test_forked_child(tmp_path):
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
    assert run(script, tmp_path, PYTHONWARNINGS="ignore::DeprecationWarning") == ["1", "True", "True", "0 2"]


def test_the_users_handler_of_sigterm_stays(tmp_path):
    script = """
    handler = lambda *_: print("mine", flush=True)
    signal.signal(signal.SIGTERM, handler)
    with ChunkExecutor(1) as executor:
        executor.submit(abs, 1).result()
        os.kill(os.getpid(), signal.SIGTERM)
    print(signal.getsignal(signal.SIGTERM) is handler)
    """
    assert run(script, tmp_path) == ["mine", "True"]


def test_bad_actor_options_are_refused_at_once(tmp_path):
    script = """
    for option in ("bogus", "max_restarts"):
        try:
            ChunkExecutor(1, actor_options={option: 1})
        except ValueError as error:
            print(option in str(error), up())
    """
    assert run(script, tmp_path) == ["True False"] * 2


def test_actor_options_and_a_worker_that_cannot_be_placed(tmp_path):
    script = """
    ray.init(num_cpus=2, resources={"special": 1}, **QUIET)
    with ChunkExecutor(2, actor_options={"resources": {"special": 1}}) as executor:
        pids = set(executor.map(lambda _: (time.sleep(0.01), os.getpid())[1], range(50)))
        print(len(pids), ray.available_resources().get("special", 0))
    """
    assert run(script, tmp_path) == ["1 0"]


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


def test_ray_that_the_user_shut_down(tmp_path):
    script = """
    from thread_chunks import ExecutorBroken
    executor = ChunkExecutor(2)
    future = executor.submit(time.sleep, 60)
    until(future.running)
    ray.shutdown()
    executor.shutdown()
    print(type(future.exception()).__name__ in ("ExecutorBroken", "WorkerLost"))  # as Ray goes, its workers die
    for warm in (False, True):
        executor = ChunkExecutor(1)
        if warm:
            executor.submit(abs, 1).result()
        ray.shutdown()
        print(repr(executor.submit(abs, 1).exception())[:14], up())
    """
    lines = run(script, tmp_path)
    assert lines == ["True", "ExecutorBroken False", "ExecutorBroken False"]


def test_exit_while_a_call_sleeps(tmp_path):
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
    assert run(script, tmp_path, STANDARD="1") == run(script, tmp_path) == lines


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


def test_ctrl_c(tmp_path):
    script = """
    try:
        with ChunkExecutor(2) as executor:
            future = executor.submit(time.sleep, 600)
            until(future.running)
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


def test_ctrl_c_in_a_session_that_goes_on(tmp_path):
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
    process = start(script, tmp_path)
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
    ray.init = init
    say(chunk(abs, [[-1]]), up())
    signal.signal(signal.SIGINT, lambda *_: say("noted"))  # the program's own handler, which goes on
    ray.init = init_and_be_interrupted
    say(chunk(abs, [[-2]]), up())
    """
    end(start(script, tmp_path))
    assert (tmp_path / "said").read_text().splitlines() == ["interrupted False", "[1] False", "noted", "[2] False"]


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
