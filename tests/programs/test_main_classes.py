"""What the classes and functions of a script are in a worker: the same as in a forked child."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from scripts import run

PROGRAM = """
import abc, os, collections, dataclasses, enum, functools, typing, threading, sys, pickle, asyncio, time
import concurrent.futures as cf, multiprocessing as mp

class Color(enum.Enum): RED = 1; BLUE = 2
class Flags(enum.Flag): A = 1; B = 2
class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...
class Sq(Shape):
    def __init__(self, s): self.s = s
    def area(self): return self.s ** 2
class Drawable(typing.Protocol):
    def area(self) -> float: ...
@typing.runtime_checkable
class Rt(typing.Protocol):
    def area(self) -> float: ...
class NT(typing.NamedTuple):
    a: int
    b: int = 3
class TD(typing.TypedDict):
    x: int
class Slots:
    __slots__ = ("a", "__b")
    def __init__(self): self.a = 1; self.__b = 2
    def get(self): return self.__b
class SubSlots(Slots):
    __slots__ = ("c",)
Tv = typing.TypeVar("Tv")
class Box(typing.Generic[Tv]):
    def __init__(self, v): self.v = v
class IntBox(Box[int]): pass
@functools.singledispatch
def disp(x): return "obj"
@disp.register
def _(x: int): return "int"
@disp.register(Sq)
def _(x): return "sq"
class HasSD:
    @functools.singledispatchmethod
    def m(self, x): return "obj"
    @m.register
    def _(self, x: int): return "int"
    @functools.cached_property
    def cp(self): return [1]
@dataclasses.dataclass(frozen=True, slots=True)
class DC: x: int = 1
@dataclasses.dataclass
class Sub(dict): y: list = dataclasses.field(default_factory=list)
class Err(Exception):
    def __init__(self, a, *, b): super().__init__(a); self.b = b
    def __reduce__(self): return _err, (self.args[0], self.b)
def _err(a, b): return Err(a, b=b)
class Desc:
    names = []
    def __set_name__(self, owner, name): Desc.names.append(name)
    def __get__(self, o, t): return 7
class UsesDesc: d = Desc()
class Single:
    _inst = None
    def __new__(cls):
        if cls._inst is None: cls._inst = super().__new__(cls)
        return cls._inst
S = Single()
a = b = [1]
cfg = {"k": 1}
class M:
    def __init__(self, c): self.c = c
model = M(cfg)
memo = {}
counter = 0
def c_enum(_): return Color.RED is Color["RED"], Color(1) is Color.RED, (Flags.A | Flags.B).value
def c_ret(_): return Color.BLUE
def c_abc(_):
    try: Shape(); return False
    except TypeError: return isinstance(Sq(2), Shape) and Sq(2).area() == 4 and isinstance(Sq(1), Rt)
def c_nt(_): return NT(1)._asdict(), NT(1) == (1, 3), TD(x=1), typing.get_type_hints(TD) == {"x": int}
def c_slots(_):
    s = SubSlots(); s.c = 1
    try: s.zz = 1; return "no slots"
    except AttributeError: return s.get()
def c_gen(_): return Box[int](3).v, IntBox(2).v, IntBox.__orig_bases__ == (Box[int],), Box.__parameters__
def c_disp(_): return disp(1), disp("x"), disp(Sq(1)), HasSD().m(1), HasSD().m("a"), HasSD().cp
def c_dc(_): return DC(2), Sub(y=[1]).y, pickle.loads(pickle.dumps(DC(5))) == DC(5)
def c_err(_): raise Err(1, b=2)
def c_desc(_): return UsesDesc().d, Desc.names
def c_single(_): return Single() is S
def c_alias(_): a.append(2); return b is a, b
def c_model(_): return model.c is cfg
def c_memo(x): memo[x] = 1; return len(memo)
def c_counter(_):
    global counter
    counter += 1
    return counter
async def co(): await asyncio.sleep(0); return NT(1).b
def c_async(_): return asyncio.run(co())
def c_gen2(_): return list(genf())
def genf():
    yield from (cfg["k"] for _ in range(2))
def c_nested_ex(_):
    with cf.ThreadPoolExecutor(1) as e: return e.submit(c_model, 0).result()
def c_fork(_):
    if (pid := os.fork()) == 0: os._exit(10 + c_model(0))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
def c_undefined(_): return not_there
def c_glob(_): return "late" in globals() and globals()["late"]
def c_self(_): return sys.modules["__main__"].c_self is c_self, c_self.__module__, Sq.__module__
cases = [v for k, v in list(globals().items()) if k.startswith("c_")]
late = None

def outcome(executor, f):
    try: return repr(executor.submit(f, 0).result(timeout=60))
    except Exception as error: return repr((error, getattr(error, "b", None)))

if __name__ == "__main__":
    from thread_chunks import ChunkExecutor
    late = 3
    with ChunkExecutor(1) as executor:
        for f in cases:
            with cf.ProcessPoolExecutor(1, mp_context=mp.get_context("fork")) as pool: want = outcome(pool, f)
            got = outcome(executor, f)
            if got != want: print(f.__name__, got, want)
        print(executor.submit(c_ret, 0).result() is Color.BLUE)
"""


def test_calls_see_what_a_forked_child_sees(joined, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {**os.environ, **joined}
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


REGISTRIES = """
    class Plugin:
        registry = {}
        def __init_subclass__(cls, /, name, **kw):
            super().__init_subclass__(**kw)
            if name in Plugin.registry: raise ValueError(f"{name} is registered")
            Plugin.registry[name] = cls
    class Square(Plugin, name="square"):
        def run(self, x): return x * x
    class Meta(type):
        seen = []
        def __new__(mcls, name, bases, ns, **kw):
            if name in mcls.seen: raise TypeError(f"{name} defined twice")
            mcls.seen.append(name)
            return super().__new__(mcls, name, bases, ns)
    class Model(metaclass=Meta):
        n = 0
    class Sub(Model, table="t"): pass
    def by_registry(x): return Plugin.registry["square"]().run(x)
    def by_object(obj): return type(obj) is Sub, Meta.seen, type(obj).n
    with ChunkExecutor(1) as executor:
        print(executor.submit(by_registry, 3).result(), executor.submit(by_object, Sub()).result())
        Model.n = 5
        print(executor.submit(by_object, Sub()).result())
        class Cube(Plugin, name="cube"):
            def run(self, x): return x ** 3
        print(executor.submit(lambda: (Plugin.registry["cube"] is Cube, Cube().run(2), len(Plugin.registry))).result())
"""


def test_nothing_is_registered_twice(joined, tmp_path):
    assert run(REGISTRIES, tmp_path, **joined) == [
        "9 (True, ['Model', 'Sub'], 0)",
        "(True, ['Model', 'Sub'], 5)",
        "(True, 8, 2)",
    ]


def test_models_of_libraries(joined, tmp_path):
    pytest.importorskip("pydantic")
    script = """
    import attrs, pydantic
    class User(pydantic.BaseModel):
        name: str
        tags: list[int] = []
    class Admin(User):
        level: int = 1
    @attrs.define
    class Point:
        x: int
        y: int = 2
    def f(u): return Admin(name="a", tags=["3"]), isinstance(u, User), Point(1), u
    with ChunkExecutor(1) as executor:
        print(executor.submit(f, User(name="b")).result())
        got = executor.submit(f, Admin(name="b")).result()
        print(type(got[0]) is Admin, type(got[2]) is Point)
    """
    assert run(script, tmp_path, **joined) == [
        "(Admin(name='a', tags=[3], level=1), True, Point(x=1, y=2), User(name='b', tags=[]))",
        "True True",
    ]


def test_what_is_rebuilt_finds_what_it_needs(joined, tmp_path):
    """Code that runs as objects arrive has its globals; what classes and loggers are is the driver's, to the last."""
    script = """
    import copy, copyreg, enum, logging, weakref
    class Planet(enum.Enum):
        EARTH = (5.9, 6.3)
        def __init__(self, mass, radius): self.mass, self.radius = mass, radius
    class Built:
        def __init__(self, n): self.n = n + OFFSET + sum(TABLE)
        def __reduce__(self): return build, (0,)
    class Registered:
        def __init__(self, n): self.n = n
        def method(self): return self.n
    def build(n): return Built(n)
    def of_registered(obj): return Registered, (obj.n + OFFSET,)
    class Outer:
        class Inner: n = 1
    def __private(): return Outer.Inner.n
    def made():
        class Inner: n = Outer.Inner.n
        return Inner
    copyreg.pickle(Registered, of_registered)
    OFFSET, TABLE = 2, [1, 1]
    built, Local, registered, log = [Built(0)], made(), Registered(1), logging.getLogger("ours.deep")
    method = weakref.WeakMethod(registered.method)
    log.setLevel(logging.WARNING)
    def view():
        return (Planet.EARTH.mass, built[0].n, Local.__qualname__, copy.copy(Registered(1)).n, log.getEffectiveLevel(),
                method()() == registered.n, hasattr(Registered, "method"), Outer.Inner.n, Local.n)
    with ChunkExecutor(1) as executor:
        print(executor.submit(view).result())
        log.setLevel(logging.DEBUG)
        method, Outer.Inner.n, Local.n = None, 2, 3
        del Registered.method
        def view(): return log.getEffectiveLevel(), hasattr(Registered, "method"), Outer.Inner.n, Local.n
        print(executor.submit(view).result())
        print(executor.submit(lambda: "__private" in globals()).result())
    """
    assert run(script, tmp_path, **joined) == [
        "(5.9, 4, 'made.<locals>.Inner', 3, 30, True, True, 1, 1)",
        "(10, False, 2, 3)",
        "True",
    ]
