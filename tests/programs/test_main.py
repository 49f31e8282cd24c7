"""Functions and classes of `__main__`, which only a program has."""

from __future__ import annotations

import os
import subprocess
import sys

from scripts import PRELUDE, run


def test_functions_of_main(joined, tmp_path):
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
    assert run(script, tmp_path, **joined) == [
        "('m', 'm', 2) [('m', 'm', 3)]",
        "True 11 a",
        "[1, 2] [3]",
        "[2]",
        "101",
        "Oops('12') 2",
    ]


def test_classes_of_main_that_mention_themselves(joined, tmp_path):
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
    assert run(script, tmp_path, **joined) == [
        "True False 0",
        "4 True",
        "7 [1, 3]",
        "Version(number=2) True Pair(a=4, b=6)",
        "16 3 ping",
        "(1,) 3",
        "3 [2, 3] True",
        "[True, True]",
    ]


def test_main_is_not_changed_by_what_comes_back(joined, tmp_path):
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
    # The driver changed the class after it went out, so its n is sent anew; then it is the worker's own.
    assert run(script, tmp_path, **joined) == ["True True", "5 2", "[6, 7, 8]", "1 True", "True 1", "True True"]


def test_odd_functions_of_main(joined, tmp_path):
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
    assert run(script, tmp_path, **joined) == [
        "832040 [5, 8]",
        "(7, -2) 4",
        "2",
        "(<class 'int'>, (3,), {'y': 'y'}) doc",
    ]


def test_main_of_a_package(joined, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "other.py").write_text("V = 5")
    (tmp_path / "package" / "program.py").write_text(
        PRELUDE + "def f():\n    from .other import V\n    return V\n"
        "with ChunkExecutor(1) as executor: print(executor.submit(f).result())"
    )
    done = subprocess.run(
        [sys.executable, "-m", "package.program"],
        cwd=tmp_path,
        env={**os.environ, **joined},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout, done.returncode) == ("5\n", 0), done.stderr
