"""What a call sees of the driver's globals: what a child that is forked as the call is submitted would see."""

from __future__ import annotations

from scripts import run

CHANGES = """
    import collections, dataclasses, functools
    import numpy as np
    T, array, large = 1, np.zeros(3), np.zeros(100_000)
    items, table, queue, part = [1], {"a": [1]}, collections.deque([1]), functools.partial(pow, 2)
    @dataclasses.dataclass
    class Config: rate: float
    class Thing:
        n, kinds = 1, []
        def __init__(self): self.v = [1]
    config, thing = Config(0.1), Thing()
    def view(): return (T, array.tolist(), float(large[500]), list(items), table["a"], list(queue), part(2),
                        config.rate, thing.v, Thing.n, Thing.kinds, helper(1))
    def helper(x): return x
    def of_one(_): return view()
    def check(what):
        want = view()
        calls = dict(submit=executor.submit(view), closure=executor.submit(lambda: view()),
                     partial=executor.submit(functools.partial(of_one, 0)), stored=executor.submit(None, 0))
        got = {name: future.result() for name, future in calls.items()} | {"map": list(executor.map(of_one, [0]))[0]}
        stale = {name: [pair for pair in zip(value, want) if pair[0] != pair[1]] for name, value in got.items()}
        if any(stale.values()): print(what, stale)
"""


def test_changes_are_seen(joined, tmp_path):
    script = (
        CHANGES
        + """
    with ChunkExecutor(of_one, 1) as executor:
        check("first")
        T = np.float64(2.5); check("T")
        array[0] = 5; check("array")
        large[500] = 3; check("large")
        items.append(2); check("items")
        table["a"].append(3); check("table")
        queue.append(3); check("queue")
        part = functools.partial(pow, 3); check("part")
        config.rate = 0.2; check("config")
        thing.v.append(2); check("thing")
        Thing.n = 4; check("n")
        Thing.kinds.append(1); check("kinds")
        def helper(x): return x + 100
        check("helper")
        helper.__code__ = (lambda x: x + 200).__code__; check("code")
        helper.__defaults__ = (1,); check("defaults")
        class Thing(Thing): n = 9
        check("class")
        thing = Thing(); check("object")
        items = [7]; check("rebound")
        items = 7, 8; check("of another type")
        def view(): return T, len(items)
        check("view")
        T = [T]; check("list")
        T = 5; check("number")
        del T
        try: executor.submit(view).result()
        except NameError as error: print(error)
        T = 1; check("again")
    """
    )
    assert run(script, tmp_path, **joined) == ["name 'T' is not defined"]


def test_each_submit_sees_its_moment(joined, tmp_path):
    script = """
    items = []
    def view(): return N, list(items)
    with ChunkExecutor(2) as executor:
        futures = []
        for N in range(20):
            items.append(N)
            futures += [executor.submit(view), executor.submit(lambda: view())]
        print(all(future.result() == (n // 2, list(range(n // 2 + 1))) for n, future in enumerate(futures)))
        def closure(held):
            return lambda: list(held)
        held = [1]
        same = closure(held)
        print(executor.submit(same).result())
        held.append(2)
        print(executor.submit(same).result(), list(executor.map(lambda _: same(), [0])))
    """
    assert run(script, tmp_path, **joined) == ["True", "[1]", "[1, 2] [[1, 2]]"]


def test_what_a_worker_changed_stays_until_the_driver_changes_it(joined, tmp_path):
    script = """
    count, cache, model, other = 0, {}, None, 1
    def initialize():
        global model
        model = "loaded"
        globals()["late"] = 3
    def bump():
        global count
        count += 1
        cache[count] = 1
        return count, len(cache), model, late, other
    late = 0
    with ChunkExecutor(1, initializer=initialize) as executor:
        print(executor.submit(bump).result())
        other = 2
        print(executor.submit(bump).result(), list(executor.map(lambda _: bump(), [0])))
        count = 10
        print(executor.submit(bump).result())
    """
    assert run(script, tmp_path, **joined) == [
        "(1, 1, 'loaded', 3, 1)",
        "(2, 2, 'loaded', 3, 2) [(3, 3, 'loaded', 3, 2)]",
        "(11, 4, 'loaded', 3, 2)",
    ]


def test_globals_share_what_they_share(joined, tmp_path):
    script = """
    a = b = [1]
    config = {"k": 1}
    class Model:
        def __init__(self, config): self.config = config
    model = Model(config)
    def grow():
        a.append(2)
        return b is a
    def only_b(): return b
    def same(): return model.config is config
    with ChunkExecutor(1) as executor:
        print(executor.submit(only_b).result(), executor.submit(grow).result(), executor.submit(same).result())
        config["k"] = 2
        print(executor.submit(same).result())
        config = dict(config)
        print(executor.submit(same).result())
    """
    assert run(script, tmp_path, **joined) == ["[1] True True", "True", "False"]


def test_large_data_that_no_call_uses_does_not_travel(joined, tmp_path):
    script = """
    import numpy as np
    class Heavy:
        def __reduce__(self):
            with open("pickled", "a") as file: file.write("x")
            return list, (list(range(300_000)),)
    data, heavy = np.zeros(50_000_000), Heavy()
    def f(x): return x + 1
    def used(): return len(data)
    with ChunkExecutor(1) as executor:
        print(list(executor.map(f, range(3))), executor.submit(f, 1).result())
        print(not os.path.exists("pickled") or os.path.getsize("pickled") == 1, executor.submit(used).result())
    """
    assert run(script, tmp_path, **joined) == ["[1, 2, 3] 2", "True 50000000"]


def test_functions_in_turn_cost_a_worker_nothing_that_lasts(joined, tmp_path):
    script = """
    import psutil
    base = 1
    def closure(i):
        held = bytes(100_000)
        return lambda: (i + base, len(held))[0]
    with ChunkExecutor(1) as executor:
        worker = psutil.Process(executor.submit(os.getpid).result())
        for i in range(100): executor.submit(closure(i)).result()
        before = worker.memory_info().rss
        for i in range(400):  # 40 MB
            assert executor.submit(closure(i)).result() == i + 1
        print((worker.memory_info().rss - before) / 2**20 < 10)
    """
    assert run(script, tmp_path, **joined) == ["True"]


def test_a_name_that_is_looked_up_is_there_however_long_the_others_take(joined, tmp_path):
    script = """
    class Slow:
        def __reduce__(self):
            began = time.thread_time()
            while time.thread_time() - began < 0.5: pass
            return Slow, ()
    slow = Slow()
    def other(x): return x + 2
    def by_globals(name, x): return globals()[name](x)
    with ChunkExecutor(1) as executor:
        print(executor.submit(by_globals, "other", 1).result())
    """
    assert run(script, tmp_path, **joined) == ["3"]


def test_changes_of_the_function_itself_are_seen(joined, tmp_path):
    script = """
    def f(x): return x
    def results(executor):
        return [*executor.map(f, [1]), executor.submit(f, 1).result(), executor.submit(None, 1).result()]
    with ChunkExecutor(f, 1) as executor:
        print(results(executor))
        f.__code__ = (lambda x, y=0: x + y).__code__
        f.__defaults__ = (10,)
        print(results(executor))
        f.__defaults__ = (100,)
        print(results(executor))
    """
    assert run(script, tmp_path, **joined) == ["[1, 1, 1]", "[11, 11, 11]", "[101, 101, 101]"]
