"""Which globals of a script are one object in a worker: those that are one in a child forked as a call is submitted."""

from __future__ import annotations

import pytest
from scripts import run

PROGRAM = """
    import collections, dataclasses, warnings
    import numpy as np
    @dataclasses.dataclass
    class Data: held: list
    class Class: attribute = other = None
    class Object:
        def __init__(self): self.held, self.deep = a, {"deep": [x]}
    def closure():
        held = a
        return lambda: (held is a, held is b, held is c, list(held))
    def set_up():
        a = [1]
        x = {"k": 1}
        globals().update(a=a, b=a, c=[1], x=x, config={"x": x, "list": [x, x]}, several=(a, x), array=np.zeros(3))
        Class.attribute, Class.other = a, x
        one, other = lambda: a, lambda: a
        globals().update(object_=Object(), closed=closure(), again=several, array_too=array, one=one, one_too=one,
                         other=other, data=Data(a), queue=collections.deque([a]))
        globals().update(data_too=data, similar=Data(a))
        exec("def defaults(p=a, *, q=x): return p is a, p is b, p is c, q is x, list(p), dict(q)", globals())

    def plain(): return a is b, a is c, list(a), list(b), list(c)
    def through_a():
        a.append(9)
        try: return b[-1], c[-1]
        finally: a.pop()
    def only_b(): return list(b)
    def only_x(): return dict(x)
    def only_config(): return config["x"]["k"]
    def in_container(): return config["x"] is x, config["list"][0] is x, config["list"][1] is config["x"]
    def in_object(): return object_.held is a, object_.deep["deep"][0] is x
    def in_class(): return Class.attribute is a, Class.other is x, list(Class.attribute)
    def by_closure(): return closed()
    def in_tuple(): return several[0] is a, several is again, several[1] is x, queue[0] is a
    def of_arrays(): return array is array_too, array.tolist()
    def of_functions(): return one is one_too, one is other, one() is b, closed() == closure()()
    def of_data(): return data is data_too, data is similar, data.held is a
    ALL = (plain, through_a, only_b, only_x, only_config, in_container, in_object, in_class, by_closure,
           in_tuple, of_arrays, of_functions, of_data)

    # Ray has threads here, and the child uses nothing that one of them may have locked.
    warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
    def forked(functions):
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            try: os.write(writing, "\\n".join(repr(function()) for function in functions).encode())
            finally: os._exit(0)
        os.close(writing)
        with open(reading) as file: seen = file.read().split("\\n")
        os.waitpid(child, 0)
        return seen
    def compare(executor, functions, when):
        for function, want in zip(functions, forked(functions), strict=True):
            got = repr(executor.submit(function).result())
            if got != want: print(f"{function.__qualname__}, {when}: {got} instead of {want}")
"""

CHANGES = """
    with ChunkExecutor(1) as executor:
        def then(what):
            exec(what, globals())
            compare(executor, (*ALL, closed, defaults, lambda: a is b), what)
        then("set_up()")
        then("a.append(2)")
        then("x['k'] = 2")
        then("a = [5]")
        then("b = a")
        then("Class.attribute = a")
        then("c = list(a)")
        then("config = {'x': x, 'list': [x, x]}")
        then("x = dict(x)")
        then("config['x'] = x")
        then("array[0] = 3")
        then("array = np.ones(3)")
        then("Class.other = x")
        then("object_ = Object()")
        then("object_.held.append(1)")
        then("data.held = [7]")
        then("b = c")
        then("set_up()")
    print("compared")
"""

# One is sent with a call, the other with a later one; what is changed in between.
ORDERS = """
    changes = ["pass", "a.append(3)", "x['k'] = 9", "a = [1]", "b = [1]", "a = c", "x = dict(x)"]
    for first, change in enumerate(changes):
        with ChunkExecutor(1) as executor:
            set_up()
            functions = (*ALL, closed, defaults)
            functions = functions[2 * first:] + functions[:2 * first]
            compare(executor, functions[:1], "first")
            exec(change)
            compare(executor, functions, change)
    print("compared")
"""


@pytest.mark.parametrize("what", [CHANGES, ORDERS])
def test_globals_are_one_object_where_they_are_in_a_forked_child(what, joined, tmp_path):
    assert run(PROGRAM + what, tmp_path, **joined) == ["compared"]


def test_what_two_globals_share_is_current_in_each(joined, tmp_path):
    """What is in a pickle once counts for each of the globals that have it."""
    script = """
    class Kind: n = 1
    rate, held = 1, [1]
    def make():
        inner = [held, lambda: rate]
        return [inner], [inner]
    one, two = make()
    thing, thing_too = Kind(), Kind()
    def both(): return one[0] is two[0], thing.n, thing_too.n
    def of_two(): return two[0][0] is held, two[0][1](), thing_too.n, two[0][0]
    def of_held(): return held
    with ChunkExecutor(1) as executor:
        print(executor.submit(of_held).result(), executor.submit(both).result(), executor.submit(of_two).result())
        rate, Kind.n, held = 2, 2, [5]
        print(executor.submit(of_two).result(), executor.submit(both).result())
        with ChunkExecutor(1) as another: print(another.submit(of_two).result())
        two[0][0].append(3)
        print(executor.submit(of_two).result(), executor.submit(both).result())
    """
    assert run(script, tmp_path, **joined) == [
        "[1] (True, 1, 1) (True, 1, 1, [1])",
        "(False, 2, 2, [1]) (True, 2, 2)",
        "(False, 2, 2, [1])",
        "(False, 2, 2, [1, 3]) (True, 2, 2)",
    ]
