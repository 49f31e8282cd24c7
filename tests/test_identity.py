"""What counts for the identity of a function, and what does not."""

from __future__ import annotations

import functools
import itertools
import math
import operator
import textwrap
import threading
from functools import partial
from typing import ClassVar

import numpy as np
import pytest

from thread_chunks._checkpoints.hashing import hash_of
from thread_chunks._checkpoints.identity import identify, identify_class


def define(source, name="f", **names):
    """Run `source` and return its global `name`."""
    names["__name__"] = "module"
    exec(textwrap.dedent(source), names)
    return names[name]


BASE = "def f(x, y=1):\n    return x + y"


@pytest.mark.parametrize(
    "source",
    [
        "\n\n\n# a comment\n" + BASE,
        'def f(x, y=1):\n    """A docstring."""\n    return x + y',
        'def f(x: int, y: "anything" = 1) -> int:\n    "A docstring."\n\n    return (x +\n        y)  # a comment',
    ],
)
def test_what_does_not_count(source):
    assert identify(define(source)) == identify(define(BASE))


@pytest.mark.parametrize(
    "source",
    [
        "def f(x, y=1):\n    return x - y",
        "def f(x, y=2):\n    return x + y",
        "def f(x, y=1.0):\n    return x + y",
        "def f(x, y=True):\n    return x + y",
        "def f(x, y=1):\n    return x + z",
        "def f(x, y=1):\n    return x + y + 0",
        "def f(x, *, y=1):\n    return x + y",
        "def f(x, y=1):\n    def g(): return 1\n    return x + y",
        "def f(x, y=1):\n    yield x + y",
        "async def f(x, y=1):\n    return x + y",
    ],
)
def test_what_counts(source):
    here, there = identify(define(BASE)), identify(define(source))
    assert here.name == there.name == "module.f"
    assert here.code != there.code


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def g(): return 1", "def g(): return 2"),
        ("class C:\n        x = 1", "class C:\n        x = 2"),
        ("g = lambda: 'a'", "g = lambda: 'b'"),
        ("g = ['a' for _ in x]", "g = ['b' for _ in x]"),
        ("g = x in {1, 2, 'c'}", "g = x in {1, 2, 'd'}"),
        ("try: g = x\n    except ValueError: g = 0", "try: g = x\n    except TypeError: g = 0"),
    ],
)
def test_what_is_nested_counts(one, other):
    here, there = (define(f"def f(x):\n    {nested}\n    return x") for nested in (one, other))
    assert identify(here).code == identify(define(f"def f(x):\n    {one}\n    return x")).code
    assert identify(here).code != identify(there).code


ON_FEW_LINES = """
def f(x, y):
    for a in x:
        if a: z = a; w = y
        else: w, z = y, a
    return (x, y, z, w)
"""
ON_MANY_LINES = """
def f(x,
      y):
    for a in (
            x):
        if a:
            z = a
            w = y
        else:
            pass
            w, z = (y,
                    a)
    return (x,
            y, z,
            w)
"""


def test_where_lines_end_does_not_count():
    assert identify(define(ON_FEW_LINES)) == identify(define(ON_MANY_LINES))


def test_what_is_tried_counts():
    one = "def f(x):\n    try:\n        x()\n    except ValueError: pass\n    else: x()"
    other = "def f(x):\n    try:\n        x(); x()\n    except ValueError: pass"
    assert identify(define(one)) != identify(define(other))


def test_docstrings_and_lines_of_what_is_nested_do_not_count():
    plain = "def f(x):\n    def g(): return x\n    class C:\n        y = 1\n    return g, C"
    documented = (
        "def f(x):\n    'f'\n    def g():\n        'g'\n        return x\n\n"
        "    class C:\n        'C'\n        y = 1\n    return g, C"
    )
    assert identify(define(plain)) == identify(define(documented))


def closing_over(value):
    return lambda x: (x, value)


def test_captured_values_count_apart_from_the_code():
    one, other = identify(closing_over(1)), identify(closing_over(2))
    assert one == identify(closing_over(1))
    assert one.code == other.code
    assert one.bound != other.bound
    assert identify(closing_over(np.arange(3))) == identify(closing_over(np.arange(3)))
    assert identify(closing_over(np.arange(3))) != identify(closing_over(np.arange(4)))


def test_functions_that_are_captured_count_by_their_code():
    functions = [define(f"def f(x): return {x}") for x in (1, 1, 2)]
    one, same, other = (identify(closing_over(function)) for function in functions)
    assert one == same != other
    decorated = functools.lru_cache(functions[0]), functools.lru_cache(functions[2])
    assert identify(decorated[0]).name == identify(decorated[1]).name == "module.f"
    assert identify(decorated[0]).code != identify(decorated[1]).code


def test_a_function_that_captures_itself():
    def f(x):
        return f(x - 1) if x else 0

    assert identify(f).name.endswith("f")


def test_a_captured_value_that_has_no_hash_is_warned_of():
    with pytest.warns(UserWarning, match="the variable 'value' that .* captured does not count"):
        assert identify(closing_over(threading.Lock())).code


class Adder:
    def __init__(self, y):
        self.y = y

    def __call__(self, x):
        return x + self.y

    def add(self, x):
        return x + self.y

    @classmethod
    def make(cls, y):
        return cls(y)

    @staticmethod
    def double(x):
        return 2 * x


def test_other_callables():
    assert identify(partial(operator.add, 1)).name == "_operator.add"
    assert identify(partial(operator.add, 1)) == identify(partial(operator.add, 1))
    assert identify(partial(operator.add, 1)) != identify(partial(operator.add, 2))
    assert identify(partial(operator.add, 1)) != identify(operator.add)
    assert identify(Adder(1)) == identify(Adder(1)) != identify(Adder(2))
    assert identify(Adder(1).add) == identify(Adder(1).add) != identify(Adder(2).add)
    assert identify(Adder(1).add) != identify(Adder(1))
    assert identify(Adder(1).add).name.endswith("Adder.add")
    assert identify(Adder.make).name.endswith("Adder.make")
    assert identify(Adder.double).name.endswith("Adder.double")
    assert identify(Adder).name.endswith("Adder")
    names = [identify(fn).name for fn in (pow, math.sqrt, str.upper, "a".upper, [].append, np.sqrt, np.sin, int)]
    assert len(set(names)) >= len(names) - 1
    assert identify("a".upper) != identify("b".upper)
    assert identify(np.sin) != identify(np.cos)
    assert identify(functools.partialmethod) != identify(functools.partial)


def test_an_object_that_has_no_hash_is_refused():
    adder = Adder(threading.Lock())
    for fn in (adder, adder.add, partial(pow, adder)):
        with pytest.raises(TypeError, match="cannot be hashed"):
            identify(fn)


def compose(*functions):
    def composed(x):
        for function in functions:
            x = function(x)
        return x

    return composed


def test_what_is_captured_twice_is_told_apart():
    double, increment = (define(f"def f(x): return {code}") for code in ("2 * x", "x + 1"))
    identities = [identify(compose(*fs)) for fs in itertools.product([double, increment], repeat=3)]
    assert len(set(identities)) == 8


class Scaled:
    def __init__(self, function, factor):
        functools.update_wrapper(self, function)
        self.factor = factor

    def __call__(self, x):
        return self.factor * self.__wrapped__(x)


HOLDERS = [
    closing_over,
    functools.lru_cache,
    lambda helper: partial(map, helper),
    lambda helper: closing_over([1, {"a": (helper,)}]),
    lambda helper: closing_over(functools.lru_cache(helper)),
    lambda helper: closing_over(partial(helper, 1)),
    lambda helper: closing_over(type("C", (), {"run": helper})),
    lambda helper: closing_over(type("C", (type("B", (), {"run": property(helper)}),), {})),
    lambda helper: Scaled(helper, 2),
    lambda helper: closing_over(Scaled(helper, 2)),
    lambda helper: Adder(helper),
    lambda helper: Adder(helper).add,
]


@pytest.mark.parametrize("hold", HOLDERS)
def test_what_a_function_holds_counts_by_its_code(hold):
    one, same, other = (identify(hold(define(f"def f(x): return {x}"))) for x in (1, 1, 2))
    assert one == same
    assert one != other


def test_state_of_wrappers_counts():
    function = define(BASE)
    assert identify(Scaled(function, 2)) == identify(Scaled(function, 2)) != identify(Scaled(function, 3))


def test_captured_modules_count_by_name():
    assert identify(closing_over(math)) == identify(closing_over(math)) != identify(closing_over(operator))


def test_what_has_neither_code_nor_a_name_is_refused():
    with pytest.raises(TypeError, match="cannot be hashed"):
        identify(np.frompyfunc(lambda x: x + 1, 1, 1))


CLASSES = [
    "class C(B):\n    def run(self, label): return 1",
    "class C(B):\n    def run(self, label): return 2",
    "class C(B):\n    def run(self, label, x=1): return 1",
    "class C(B):\n    offset = 1",
    "class C(B):\n    offset = 2",
    "class C(B):\n    @property\n    def offset(self): return 1",
    "class M:\n    def run(self): return 1\nclass C(M, B): pass",
    "class M:\n    def run(self): return 2\nclass C(M, B): pass",
]


def test_the_class_of_the_actors_counts():
    classes = [identify_class(define(source, "C", B=Adder), Adder) for source in CLASSES]
    assert classes == [identify_class(define(source, "C", B=Adder), Adder) for source in CLASSES]
    assert len({*classes, identify_class(Adder, Adder)}) == len(CLASSES) + 1
    assert identify(pow, classes[0]) != identify(pow, classes[1]) != identify(pow)


def test_hashes_tell_values_apart():
    values = [(1,), (1.0,), (True,), ("1",), (b"1",), (None,), ((1,),), ([1],), ({1},), ({1: 1},), (float("nan"),)]
    assert len({hash_of(value) for value in values}) == len(values)
    assert hash_of(({"a": 1, "b": 2},)) == hash_of(({"b": 2, "a": 1},))


@pytest.mark.parametrize("base", [dict, list, tuple, str, float])
def test_what_subclasses_of_builtins_hold_counts(base):
    cls = type("Sub", (base,), {"__module__": __name__})
    globals()["Sub"] = cls
    cls.__qualname__ = "Sub"
    contents = {dict: ({"a": 1}, {"a": 2}), list: ([1], [2]), tuple: ((1,), (2,)), str: ("1", "2"), float: (1, 2)}
    one, same, other = (closing_over(cls(contents[base][index])) for index in (0, 0, 1))
    assert identify(one) == identify(same)
    assert identify(one) != identify(other)


def test_the_order_of_a_dict_does_not_count():
    function = define(BASE)
    one, other = {"a": [1], "b": function}, {"b": function, "a": [1]}
    assert identify(closing_over(one)) == identify(closing_over(other))


def test_what_instances_do_to_their_class_does_not_count():
    class Counted:
        made: ClassVar = []
        cache: ClassVar = {}

        def __init__(self):
            self.made.append(1)
            self.cache[len(self.cache)] = 1

        def f(self, x):
            return x

    assert identify(Counted().f) == identify(Counted().f)


def test_methods_that_functools_made_count():
    def of(x):
        return type("C", (), {"f": lambda self: 0, "g": functools.lru_cache(define(f"def f(self): return {x}"))})().f

    assert identify(of(1)).code == identify(of(1)).code
    assert identify(of(1)).code != identify(of(2)).code


def test_the_base_of_an_actor_class_does_not_count():
    source = "class C(B):\n    def run(self, label):\n        return super().run(label)"
    bases = [define(f"class B:\n    def run(self, label): return {x}", "B") for x in (1, 2)]
    one, other = (identify_class(define(source, "C", B=base), base) for base in bases)
    assert one == other


def test_a_list_that_holds_itself_is_warned_of():
    endless = [define(BASE)]
    endless.append(endless)
    with pytest.warns(UserWarning, match="does not count"):
        assert identify(closing_over(endless)).code


SEEDED = """
from thread_chunks._checkpoints.hashing import hash_of
from thread_chunks._checkpoints.identity import identify
from collections import namedtuple
Words = namedtuple("Words", "words")
class Held:
    __slots__ = ("words",)
    def __init__(self, words): self.words = words
    def run(self): pass
def f(x, stop=frozenset({"a", "b", "c"}), words=Words(frozenset({"one", "two", "three"}))): return x in {"u", "v", "w"}
def make(y): return lambda: y
print(hash_of((frozenset({"g", "r", "i", "z"}), [frozenset({"k", "l", "m"})])), identify(f),
      identify(make({k: [f] for k in {"aa", "bb", "cc"}})),
      identify(Held({frozenset({"p", "q"}), frozenset({"q", "r"})}).run),
      identify(make(Words({"k": frozenset({"s", "t", "u"})}))))
"""


def test_identities_are_the_same_in_each_process(python):
    said = {python.run(SEEDED, PYTHONHASHSEED=seed) for seed in ("1", "2", "3")}
    assert len(said) == 1
