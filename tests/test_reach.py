# ruff: noqa: E501 (one case on each line)
"""What a function uses by name belongs to its identity: code of the user's, and values of globals."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import ray

from thread_chunks._checkpoints import reach
from thread_chunks._checkpoints.identity import identify, identify_class


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return a function that writes modules, imports them anew, and returns the parts of what `main.f` is."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(reach, "_warned", set())
    written = set()

    def forget():
        for name in [name for name in sys.modules if name.partition(".")[0] in written]:
            del sys.modules[name]

    def load(**sources):
        for name, source in sources.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(source))
            written.add(name.partition("/")[0])
        forget()
        importlib.invalidate_caches()
        module = importlib.import_module("main")
        return dict(identify(module.f).parts)

    yield load
    forget()


def differences(one, other):
    return sorted(what for what in one.keys() | other.keys() if one.get(what) != other.get(what))


HELPERS = """
import math
SCALE = 1
TABLE = {"a": lambda x: x, "b": math.sqrt}
count = 0
def g(x): return inner(x)
def inner(x):
    global count
    count += 1
    return SCALE * x
def unrelated(x): return 1
class Meta(type):
    def __call__(cls, *args): return super().__call__(*args)
class Base:
    def run(self): return inner(1)
class Model(Base, metaclass=Meta):
    'A model.'
    sizes = [1, 2]
    def __init__(self, x): self.x = x
    def run(self): return super().run() + self.x
    @property
    def double(self): return 2 * self.x
    @staticmethod
    def help(): return 3
"""
DECORATED = """
import contextlib, functools, operator
from helpers import g, inner
def twice(factor):
    def wrap(function):
        @functools.wraps(function)
        def wrapper(x): return factor * function(x)
        return wrapper
    return wrap
@twice(2)
def decorated(x): return x + 1
@functools.lru_cache
def cached(x): return x + 2
@contextlib.contextmanager
def managed(x): yield x + 3
@functools.singledispatch
def single(x): return x + 4
@single.register
def _(x: str): return x + "5"
bound = functools.partial(g, 6)
class Slots:
    __slots__ = ("x",)
    def __init__(self, x): self.x = x
    def run(self): return self.x + 7
held = [Slots(8)]
table = {"g": g, "h": lambda x: x + 9}
square = lambda x: x ** 10
class Scaled:
    def __init__(self, function, factor):
        functools.update_wrapper(self, function)
        self.factor = factor
    def __call__(self, x): return self.__wrapped__(x) * self.factor
def plain(x): return x - 11
scaled = Scaled(plain, 12)
class Partial:
    run = functools.partialmethod(lambda self, x: x, 13)
def counted(function):
    calls = 14
    def wrapper(x):
        nonlocal calls
        calls += 1
        return function(x)
    return wrapper
counting = counted(plain)
unnamed = functools.lru_cache(functools.partial(pow, 15))
"""

# What `main` is, beside `helpers` and `decorated`; what is replaced, in which module; and what differs then.
# fmt: off
CASES = [
    ("def f(x): return g(x)\ndef g(x): return x", "main", "return x\n", "return x + 1\n", "code g"),
    ("def g(x): return x\ndef f(x): return g(x)", "main", "return x\n", "return x + 1\n", "code g"),
    ("from helpers import g\ndef f(x): return g(x)", "helpers", "SCALE *", "2 *", "code helpers.inner, global helpers.SCALE"),
    ("import helpers\ndef f(x): return helpers.g(x)", "helpers", "inner(x)\n", "inner(2)\n", "code helpers.g"),
    ("import helpers as h\ndef f(x): return h.g(x)", "helpers", "SCALE = 1", "SCALE = 2", "global helpers.SCALE"),
    ("from helpers import g as h\ndef f(x): return h(x)", "helpers", "inner(x)\n", "inner(2)\n", "code h"),
    ("import helpers\ndef f(x): return helpers.SCALE", "helpers", "SCALE = 1", "SCALE = 2", "global helpers.SCALE"),
    ("import helpers\ndef f(x): return helpers.g(x)", "helpers", "return 1", "return 2", ""),
    ("import helpers\ndef f(x): return helpers.g(x)", "helpers", "    return SCALE", "    # why\n\n    return SCALE", ""),
    ("import helpers\ndef f(x): return helpers.g(x)", "helpers", "count = 0", "count = 1", ""),
    ("import helpers\nh = helpers\ndef f(x): return h.g(x)", "helpers", "inner(x)\n", "inner(2)\n", "code h.g"),
    ("import helpers\ndef f(x): h = helpers; return h.g(x)", "helpers", "inner(x)\n", "inner(2)\n", "code helpers"),
    ("def f(x):\n    import helpers\n    return helpers.g(x)", "helpers", "inner(x)\n", "inner(2)\n", "code helpers"),
    ("def f(x):\n    from helpers import g\n    return g(x)", "helpers", "SCALE = 1", "SCALE = 2", "code helpers"),
    ("def f(x):\n    import decorated", "helpers", "SCALE = 1", "SCALE = 2", "code helpers"),
    ("from helpers import Model\ndef f(x): return Model(x).run()", "helpers", "run() + self.x", "run() + 1", "code Model"),
    ("from helpers import Model\ndef f(x): return Model(x).run()", "helpers", "2 * self", "3 * self", "code Model"),
    ("from helpers import Model\ndef f(x): return Model(x).run()", "helpers", "return 3", "return 4", "code Model"),
    ("from helpers import Model\ndef f(x): return Model(x).run()", "helpers", "[1, 2]", "[1, 3]", "code Model"),
    ("from helpers import Model\ndef f(x): return Model(x).run()", "helpers", "'A model.'", "pass", ""),
    ("from helpers import Model\ndef f(x): return Model(x).run()", "helpers", "inner(1)", "inner(2)", "code Model"),
    ("from helpers import Model\ndef f(x): return Model(x).run()", "helpers", "(*args)\n", "()\n", "code helpers.Meta"),
    ("from helpers import Model\nm = Model(1)\ndef f(x): return m.run()", "helpers", "[1, 2]", "[]", "code helpers.Model"),
    ("from helpers import Model\nm = Model(1)\ndef f(x): return m.run()", "main", "(1)", "(2)", "global m"),
    ("from helpers import Model\nm = Model(1).run\ndef f(x): return m()", "helpers", "[1, 2]", "[]", "code helpers.Model"),
    ("import helpers\ndef f(x): return helpers.TABLE", "helpers", "lambda x: x", "lambda x: 1", "global helpers.TABLE"),
    ("import helpers\ndef f(x): return helpers.TABLE", "helpers", "math.sqrt", "math.exp", "global helpers.TABLE"),
    ("T = 1\ndef f(x): return x * T", "main", "T = 1", "T = 2", "global T"),
    ("T = 1\ndef f(x): return [x * T for x in x]", "main", "T = 1", "T = 2", "global T"),
    ("T = 1\ndef f(x): return lambda: T", "main", "T = 1", "T = 2", "global T"),
    ("T = 1\ndef f(x):\n    class C:\n        y = T\n    return C", "main", "T = 1", "T = 2", "global T"),
    ("T = 1\ndef f(x):\n    class C:\n        T = 3; y = T\n    return C", "main", "T = 1", "T = 2", ""),
    ("T = 1\ndef f(x, y=lambda: T): return y()", "main", "T = 1", "T = 2", "global T"),
    ("T = 1\ndef make():\n    return lambda x: T\nf = make()", "main", "T = 1", "T = 2", "global T"),
    ("T = 1\ndef f(x):\n    global T\n    T = x", "main", "T = 1", "T = 2", ""),
    ("T = 1\ndef f(x): g(); return T\ndef g():\n    global T\n    T = 5", "main", "T = 1", "T = 2", ""),
    ("T = {'a', 'b'}\ndef f(x): return T", "main", "'b'", "'c'", "global T"),
    ("T = 1\ndef f(T): return T", "main", "T = 1", "T = 2", ""),
    ("def f(x): return g(x - 1)\ndef g(x): return x and f(x)", "main", "x and", "x or", "code g"),
    ("def f(x): return f(x - 1) if x else 0\nT = 1", "main", "T = 1", "T = 2", ""),
    ("from math import sin as g\ndef f(x): return g(x)", "main", "import sin", "import cos", "global g"),
    ("import math as m\ndef f(x): return m.pi", "main", "import math", "import cmath", "global m"),
    ("from textwrap import dedent as g\ndef f(x): return g(x)", "main", "dedent", "indent", "global g"),
    ("from decorated import decorated as d\ndef f(x): return d(x)", "decorated", "x + 1", "x + 0", "code d"),
    ("from decorated import decorated as d\ndef f(x): return d(x)", "decorated", "twice(2)", "twice(3)", "code d"),
    ("from decorated import decorated as d\ndef f(x): return d(x)", "decorated", "factor *", "factor +", "code d"),
    ("from decorated import cached\ndef f(x): return cached(x)", "decorated", "x + 2", "x + 0", "code cached"),
    ("from decorated import managed\ndef f(x): return managed(x)", "decorated", "x + 3", "x + 0", "code managed"),
    ("from decorated import single\ndef f(x): return single(x)", "decorated", "x + 4", "x + 0", "code single"),
    ("from decorated import single\ndef f(x): return single(x)", "decorated", "+ \"5\"", "+ \"0\"", "code decorated._"),
    ("from decorated import bound\ndef f(x): return bound()", "decorated", "g, 6", "g, 0", "global bound"),
    ("from decorated import bound\ndef f(x): return bound()", "helpers", "inner(x)\n", "inner(2)\n", "code helpers.g"),
    ("from decorated import held\ndef f(x): return held", "decorated", "x + 7", "x + 0", "code decorated.Slots"),
    ("from decorated import held\ndef f(x): return held", "decorated", "(8)", "(0)", "global held"),
    ("from decorated import table\ndef f(x): return table", "decorated", "x + 9", "x + 0", "global table"),
    ("from decorated import table\ndef f(x): return table", "helpers", "inner(x)\n", "inner(2)\n", "code helpers.g"),
    ("from decorated import table\ndef f(x): return table", "decorated", "\"g\": g", "\"g\": inner", "code helpers.g, global table"),
    ("from decorated import square\ndef f(x): return square(x)", "decorated", "** 10", "** 0", "code square"),
    ("from helpers import g\nimport functools\nf = functools.partial(map, g)", "helpers", "SCALE = 1", "SCALE = 2", "global SCALE"),
    ("from helpers import Model\nf = Model(1).run", "helpers", "SCALE = 1", "SCALE = 2", "global SCALE"),
    ("from helpers import Model as f", "helpers", "SCALE = 1", "SCALE = 2", "global SCALE"),
    ("from decorated import Slots\nimport functools\nf = functools.partial(print, Slots(1))", "decorated", "x + 7", "x + 0", "code decorated.Slots"),
    ("import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int = 1\ndef f(x): return P()", "main", "= 1", "= 2", "code P"),
    ("import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int = 1\ndef f(x): return P()", "main", "x: int", "y: int", "code P"),
    ("import enum\nclass E(enum.Enum):\n    A = 1\ndef f(x): return E.A", "main", "A = 1", "A = 2", "code E"),
    ("import enum\nclass E(enum.Enum):\n    A = 1\nT = E.A\ndef f(x): return T", "main", "A = 1", "A = 2", "code E, global T"),
    ("import typing\nclass P(typing.NamedTuple):\n    x: int = 1\ndef f(x): return P()", "main", "= 1", "= 2", "code P"),
    ("import abc\nclass A(abc.ABC):\n    @abc.abstractmethod\n    def g(self): return 1\ndef f(x): return A", "main", "return 1", "return 2", "code A"),
    ("from __main__ import __name__\nHERE = __file__\ndef f(x): return __file__, __name__, __doc__", "main", "HERE", "'x'\nTHERE", ""),
    ("from decorated import scaled\ndef f(x): return scaled(x)", "decorated", ", 12", ", 0", "global scaled"),
    ("from decorated import scaled\ndef f(x): return scaled(x)", "decorated", "x - 11", "x - 0", "code decorated.plain"),
    ("from decorated import scaled\ndef f(x): return scaled(x)", "decorated", "(x) * self.factor", "(x)", "code decorated.Scaled"),
    ("from decorated import Partial as P\ndef f(x): return P", "decorated", "13", "0", "code P"),
    ("from decorated import counting\ndef f(x): return counting(x)", "decorated", "x - 11", "x - 0", "code decorated.plain"),
    ("from decorated import counting\ndef f(x): return counting(x)", "decorated", "calls = 14", "calls = 0", ""),
    ("from decorated import unnamed as u\ndef f(x): return u(x)", "decorated", "pow", "round", "global u"),
    ("T = 1\ndef f(x):\n    T = 2\n    def g():\n        nonlocal T; T = 3\n    return h()\ndef h(): return T", "main", "T = 1", "T = 4", "global T"),
    ("def g(x, y=1): return x\ndef f(x): return g(x)", "main", "y=1", "y=2", "code g"),
    ("def g(x): return x\ng.T = 1\ndef f(x): return g(x) * g.T", "main", "g.T = 1", "g.T = 2", "global g.T"),
    ("def g(x): return x\ng.T = 1\ndef f(x): return g(x)", "main", "g.T = 1", "g.T = 2", ""),
    ("import types\nT = types.MappingProxyType({1: 2})\ndef f(x): return T", "main", "2}", "3}", "global T"),
    ("T = 1\nU = T\ndef f(x, y=(lambda: U,)): return y", "main", "T = 1", "T = 2", "global U"),
]
# fmt: on


def named(differences):
    return ", ".join(sorted(differences)).replace("the ", "").replace("code of", "code").replace("`", "")


@pytest.mark.parametrize(("main", "module", "old", "new", "expected"), CASES, ids=range(len(CASES)))
def test_what_is_used_by_name_counts(load, main, module, old, new, expected):
    sources = {"main": main + "\n", "helpers": HELPERS, "decorated": DECORATED}
    one, same = load(**sources), load(**sources)
    assert differences(one, same) == []
    assert sources[module].count(old) == 1
    other = load(**sources | {module: sources[module].replace(old, new)})
    assert named(differences(one, other)) == expected


def test_submodules_and_relative_imports(load):
    sources = {
        "package/__init__": "from . import tools\n",
        "package/tools": "from .deep import g as h\ndef g(x): return h(x)\n",
        "package/deep": "def g(x): return x\n",
    }
    for main, differ in [
        ("import package.tools\ndef f(x): return package.tools.g(x)", "code package.tools.h"),
        ("from package import tools as t\ndef f(x): return t.g(x)", "code package.tools.h"),
        ("def f(x):\n    import package.tools as t\n    return t.g(x)", "code package.deep"),
        ("def f(x):\n    from package import deep\n    return deep.g(x)", "code package.deep"),
        ("def f(x):\n    from package.deep import g\n    return g(x)", "code package.deep"),
    ]:
        one = load(main=main, **sources)
        other = load(main=main, **sources | {"package/deep": "def g(x): return x + 1\n"})
        assert named(differences(one, other)) == differ
        assert differences(other, load(main="import package.deep, package.tools\n" + main)) == []


def test_the_order_of_definitions_and_what_stands_between_do_not_count(load):
    one = load(main="T = 1\ndef g(x): return T\ndef f(x): return g(x)")
    other = load(main="import os\ndef f(x): return g(x)\n\nclass C: pass\ndef g(x):\n    'g'\n    return T\nT = 1")
    assert differences(one, other) == []


def test_what_is_assigned_later_counts_as_it_is(load):
    load(main="def f(x): return T + g(x)\ndef g(x): return x")
    main = sys.modules["main"]
    identities = [identify(main.f)]
    for temperature in np.linspace(1, 2, 3):
        main.T = temperature
        identities += [identify(main.f), identify(main.f)]
    assert identities[1::2] == identities[2::2]
    assert len(set(identities)) == 4
    exec(compile("def g(x): return x + 0", "cell 1", "exec", dont_inherit=True), vars(main))
    assert identify(main.f) != identities[-1]
    exec(compile("def g(x): return x", "cell 2", "exec", dont_inherit=True), vars(main))
    assert identify(main.f) == identities[-1], "defined again, as in a notebook"


def test_what_is_installed_counts_by_its_name(load):
    parts = load(main="import numpy as np\nfrom joblib import hash as h\ndef f(x): return np.sin(x), h(x), print(x)")
    assert named(parts) == "class of the actors, code f, global h, global np".replace("of the", "of")
    assert identify(sys.modules["main"].f).uses == ()


def test_a_global_without_a_hash_is_warned_of_once(load):
    with pytest.warns(UserWarning, match="the global `lock` does not count for the checkpoint: .*cannot") as caught:
        load(
            main="import threading\nlock = threading.Lock()\ndef f(x):\n    with lock: return g(x)\ndef g(x): return lock"
        )
    assert len(caught) == 1
    assert caught[0].category is UserWarning
    identify(sys.modules["main"].f)


def test_what_the_class_of_the_actors_uses_counts(load):
    source = "from helpers import g\nclass C:\n    def run(self): return g(1)\ndef f(x): return x"
    load(main=source, helpers=HELPERS)
    one = identify_class(sys.modules["main"].C, object)
    load(main=source, helpers=HELPERS.replace("SCALE = 1", "SCALE = 1  # one"))
    assert identify_class(sys.modules["main"].C, object) == one
    load(main=source, helpers=HELPERS.replace("SCALE = 1", "SCALE = 2"))
    assert identify_class(sys.modules["main"].C, object) != one


def test_references_to_the_cluster_do_not_count(load, ray_up):
    load(main="ref = None\ndef f(x): return ref")
    main = sys.modules["main"]
    main.ref = [ray.put(1)]
    with pytest.warns(UserWarning, match="the global `ref` does not count .* a reference to an object of the cluster"):
        one = identify(main.f)
    main.ref = [ray.put(2)]
    assert identify(main.f) == one


def test_an_array_counts_by_its_values(load):
    load(main="import numpy as np\nA = np.zeros(10)\ndef f(x): return A[x]")
    main = sys.modules["main"]
    one = identify(main.f)
    main.A[3] = 1
    assert identify(main.f) != one
    main.A = np.zeros(10)
    assert identify(main.f) == one


def test_a_large_array_is_hashed_once(load, monkeypatch):
    load(
        main="import numpy as np\nA = np.zeros(10)\ndef f(x): return g(x) + A[x]\ndef g(x): return A[x] + h(A)\ndef h(x, y=A): return x"
    )
    hashed = []
    original = reach.hash_of
    monkeypatch.setattr(reach, "hash_of", lambda value, meet: hashed.append(value) or original(value, meet))
    identify(sys.modules["main"].f)
    assert len([value for value in hashed if value is sys.modules["main"].A]) == 1


SEEDED = """
import collections, dataclasses, enum, functools, json, re, sys
from thread_chunks._checkpoints.identity import identify, identify_class
class Color(enum.Flag):
    RED = enum.auto()
    BLUE = enum.auto()
@dataclasses.dataclass
class Point:
    x: frozenset = frozenset({"a", "b", "c"})
    y: list = dataclasses.field(default_factory=lambda: [{"p", "q", "r"}])
    def names(self): return NAMES | {"u", "v", "w"}
NAMES = {"one", "two", "three"}
TABLE = {frozenset({"k", "l"}): Point(), frozenset({"l", "m"}): functools.partial(print, NAMES), Color.RED: re.compile("x")}
class Plain:
    kinds = {"s", "t", "u"}
    def __init__(self): self.x = {Color.RED, Color.BLUE, None, "x"}
things = collections.deque([Plain(), Plain])
def outer(words=frozenset({"d", "e", "f"})):
    state = {"g", "h", "i"}
    def inner(x): return state, words, Plain
    return inner
inner = outer()
@functools.lru_cache
def cached(x): return x in {"j", "k", "l"}
missing = object()
def f(x): return TABLE, things, inner(x), cached(x), outer(), Point(x).names(), missing, Color.RED, [s for s in NAMES]
print(json.dumps(identify(f).parts), identify(f).code)
"""


@pytest.mark.process
def test_what_is_used_has_the_same_digests_in_each_process(tmp_path):
    said = set()
    for seed in ("1", "2", "3"):
        script = tmp_path / seed / "script.py"
        script.parent.mkdir()
        script.write_text("\n" * int(seed) + SEEDED)
        process = subprocess.run(
            [sys.executable, str(script)], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        assert process.stderr == ""
        said.add(process.stdout)
    (text,) = said
    parts = dict(json.JSONDecoder().raw_decode(text)[0])
    assert {"the global `TABLE`", "the global `NAMES`", "the code of `Point`", "the code of `cached`"} <= parts.keys()
