"""What a call sees of the driver's globals: what a child that is forked as the call is submitted would see."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripts import run

from thread_chunks._wire import homes, images
from thread_chunks._wire.holdings import Holdings
from thread_chunks._wire.ledger import Ledger
from thread_chunks._wire.pickling import unpack

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


def test_changes_are_seen(tmp_path):
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
    assert run(script, tmp_path) == ["name 'T' is not defined"]


def test_each_submit_sees_its_moment(tmp_path):
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
    assert run(script, tmp_path) == ["True", "[1]", "[1, 2] [[1, 2]]"]


def test_what_a_worker_changed_stays_until_the_driver_changes_it(tmp_path):
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
    assert run(script, tmp_path) == [
        "(1, 1, 'loaded', 3, 1)",
        "(2, 2, 'loaded', 3, 2) [(3, 3, 'loaded', 3, 2)]",
        "(11, 4, 'loaded', 3, 2)",
    ]


def test_globals_share_what_they_share(tmp_path):
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
    assert run(script, tmp_path) == ["[1] True True", "True", "False"]


def test_large_data_that_no_call_uses_does_not_travel(tmp_path):
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
    assert run(script, tmp_path) == ["[1, 2, 3] 2", "True 50000000"]


def test_functions_in_turn_cost_a_worker_nothing_that_lasts(tmp_path):
    script = """
    import psutil
    base = 1
    def closure(i):
        held = bytes(100_000)
        return lambda: (i + base, len(held))[0]
    with ChunkExecutor(1) as executor:
        worker = psutil.Process(executor.submit(os.getpid).result())
        for i in range(200): executor.submit(closure(i)).result()
        before = worker.memory_info().rss
        for i in range(2000):
            assert executor.submit(closure(i)).result() == i + 1
        print((worker.memory_info().rss - before) / 2**20 < 20)
    """
    assert run(script, tmp_path) == ["True"]


# Programs of a module that travels by value, in which a "worker" is this process with another module of that name.

NAMES = st.sampled_from("abc")
VALUES = st.one_of(
    st.integers(0, 3),
    st.builds(float, st.integers(0, 3)),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.sampled_from("xy"), st.integers(0, 3), max_size=2),
    st.builds(lambda n: np.full(3, n), st.integers(0, 3)),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("bind"), NAMES, VALUES),
        st.tuples(st.just("alias"), NAMES, NAMES),
        st.tuples(st.just("change"), NAMES, st.integers(4, 9)),
        st.tuples(st.just("delete"), NAMES, st.none()),
        st.tuples(st.just("define"), st.sampled_from("fg"), st.sets(st.sampled_from("abcfg"), max_size=3)),
        st.tuples(st.just("call"), st.sampled_from("fg"), st.integers(0, 1)),
    ),
    max_size=25,
)


def step(names, kind, name, value):
    if kind == "bind":
        names[name] = value
    elif kind == "alias" and value in names:
        names[name] = names[value]
    elif kind == "change":
        found = names.get(name)
        if type(found) is list:
            found.append(value)
        elif type(found) is dict:
            found["z"] = value
        elif type(found) is np.ndarray:
            found[0] = value
    elif kind == "delete":
        names.pop(name, None)
    elif kind == "define":
        seen = ", ".join(f"look(lambda: {each}{'(depth - 1)' if each in 'fg' else ''})" for each in sorted(value))
        code = f"def {name}(depth):\n    return [{seen}] if depth else 'deep'"
        exec(code, names)


LOOK = """
def look(what):
    try: value = what()
    except NameError as error: return str(error)
    return value.tolist() if hasattr(value, "tolist") else value
"""


@pytest.mark.parametrize("workers", [1, 2])
@given(steps=STEPS)
@settings(max_examples=150, deadline=None)
def test_a_worker_sees_what_a_forked_child_would(workers, steps):
    module = type(sys)("tc_program")
    exec(LOOK, vars(module))
    sys.modules["tc_program"] = module
    ledger = Ledger(lambda packed: packed)
    kept = [(Holdings(ledger), images._Image("tc_program"), {}) for _ in range(workers)]
    try:
        for kind, name, value in steps:
            step(vars(module), kind, name, value)
            if kind == "call" and name in vars(module):
                want = vars(module)[name](2)
                packed, view = ledger.ship(vars(module)[name])
                holdings, image, later = kept[value % workers]
                assert in_worker(image, later, holdings.update(view), packed) == want
    finally:
        sys.modules.pop("tc_program")
        homes.find_homes()


def in_worker(image, later, update, packed):
    """Run what was sent with another module in the place of the driver's."""
    driver = sys.modules["tc_program"]
    if update is not None:
        update.process = b"another"
        update.modules = [each for each in update.modules if each[0] == "tc_program"]
        update.bundles = [
            (shipped, [key for key in keys if key[0] == "tc_program"]) for shipped, keys in update.bundles
        ]
    vars(image)["__builtins__"] = __builtins__
    images._later.clear()
    images._later.update(later)
    homes.add_home(image)
    try:
        if update is not None:
            images.open_shipment(images.Shipment(None, update))
        return unpack(packed)(2)
    finally:
        later.clear()
        later.update(images._later)
        images._later.clear()
        homes.add_home(driver)
