"""The digests of arguments: equal in every process, and equal to those in existing files."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import math
import operator
import os
import subprocess
import sys
import types
from pathlib import Path

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thread_chunks._checkpoints.hashing import hash_of
from thread_chunks._checkpoints.identity import identify
from thread_chunks._checkpoints.stable_pickler import _without_frozensets


class Color(enum.Enum):
    RED = 1
    BLUE = "b"


@dataclasses.dataclass(frozen=True)
class Point:
    x: object
    y: object = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: object


class Plain:
    def __init__(self, x):
        self.x = x


class Slots:
    __slots__ = ("x", "y")

    def __init__(self, x, y):
        self.x = x
        self.y = y


class Pair(collections.namedtuple("Pair", "a b")):
    __slots__ = ()


class Reduced:
    def __init__(self, x):
        self.x = x

    def __reduce__(self):
        return Reduced, ({"x": self.x, "more": [self.x]},)


class Frozen(frozenset):
    pass


class Mutable(set):
    pass


class Names(dict):
    pass


def object_array(*items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


flat = [1, 2]
nested = [1, [2]]

# Values whose digests did not depend on the process before frozensets were put in order in the pickler, too.
SOUND = [
    (),
    (1.5, "a", b"b", None, True, 2j),
    ([1, 2], (3, 4), {"a": 1, "b": [2]}),
    ({1, 2, 3}, {"a", "b", "c"}, {1, "a", None}, {("a", 1), ("b", None)}),
    (frozenset({"x", "y", "z"}), [frozenset({1, 2}), {"k": frozenset({"a", "b"})}]),
    (Point(1, "a"), Point(frozenset({1, 2, 3})), Point({"a", "b"}, {1: 2}), Slotted(frozenset({100, 7, 33}))),
    (Plain([{1, 2}]), Pair(1, {"x": 2}), Pair(frozenset({(0, 1), (1, 2)}), 2)),
    (collections.deque([1]), collections.OrderedDict(b=1, a=2), collections.Counter("abca"), Names(a=1, b=2)),
    ({1: 2, "a": 3, (1, 2): 4}, {Color.RED: 1, Color.BLUE: 2}, {Color.RED, Color.BLUE}, {None: 1}),
    ({frozenset({0, 1}), frozenset({1, 2}), frozenset({2, 3})}, {frozenset({0, 1}), (1, 2), 3}),
    (Frozen({1, 2, 3}), Frozen({33, 7, 100}), Mutable({2, 1})),
    (np.arange(5), np.ones((2, 3)), np.float32(2), np.int64, np.dtype("f4")),
    (object_array(frozenset({1, 2}), None, {1, 2}), functools.partial(operator.add, frozenset({3, 1}))),
    (datetime.datetime(2020, 1, 1), decimal.Decimal("1.5"), fractions.Fraction(1, 3), Path("/a/b"), range(5)),
    (flat, flat, [1, 2], nested, nested),
    ({1, 1.5, fractions.Fraction(1, 3)}, {datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)}, {1 + 2j, 3}),
    (print, len, Point, np.sin, "a".upper, Plain(1).__init__),
    ({i * 37 % 101 for i in range(60)}, frozenset(range(0, 400, 8)), Point(frozenset(i * i for i in range(30)))),
]


# The earlier results of `hash_of`. Some pickles differ between versions of Python and NumPy.
RECORDED = (
    "7aa3631cc45701e2df0e03ef7162f2cb",
    "447c9b91979309c26c768a553334c01c",
    "50b37df80171390739318485b0cb8a94",
    "cb19a6536f7e3b47c7b15a4b717fbb43",
    "acf9334d38b160c5117942e7fcbc4fc8",
    "9c623a1186930222664072fa907a8d79",
    "cb175e8fe3ffa92c2676ee4a92634d26",
    "0365e633cc23d06ae81c1070aa75060f",
    "822de0d6f13b2d7ebacbaa9b12dff1a0",
    "b3d25e56b903eaf00891002b466eee0c",
    "6b875bbf4808c2330145b864073bcaa2",
    "57fbd01ae687ee04b28c32b7c16bcd38",
    "688be9f56ae1bec0ec74060a97f02c28",
    "0a59c81f1c7a276e8155de426c38702e",
    "0cebd971ce4faa9bf2685ac09ba8d434",
    "f45f6c2f87539daa17e0b87b0ea4d544",
    "0e375b019421d6a9d979a54006e7294b",
    "8d1de2519002cf74c03ae54fd69096af",
)
DIFFER = (11, 12, 13) if sys.version_info >= (3, 11) else (10, 11, 12, 13, 15)


@pytest.mark.parametrize("number", range(len(SOUND)))
def test_digests_that_did_not_depend_on_the_process_are_what_they_were(number):
    value = SOUND[number]
    for each in (value, *((part,) for part in value)):
        assert hash_of(each) == joblib.hash(_without_frozensets(each))
    if number not in DIFFER:
        assert hash_of(value) == RECORDED[number]


def test_values_that_joblib_takes_for_the_same():
    differ = [
        Names({1: 1, "a": 2}),
        Names({1: 1, "a": 3}),
        Names({1: 1, "b": 3}),
        frozenset({"a"}),
        ("frozenset", {"a"}),
        {"a"},
        ("tuple", "frozenset", {"a"}),
    ]
    assert len({hash_of(value) for value in differ}) == len({hash_of((value,)) for value in differ}) == len(differ)


class Quantity(np.ndarray):
    """An array with a unit, which is pickled."""

    unit = ""

    def __reduce__(self):
        make, args, state = super().__reduce__()
        return make, args, (*state, self.unit)


def quantity(unit):
    array = np.arange(3.0).view(Quantity)
    array.unit = unit
    return array


def test_arrays_count_with_what_they_bring():
    values = [np.ma.array(np.arange(2, dtype="u1"), mask=mask) for mask in ([0, 1], [1, 0])]
    values += [np.ma.array([1.5, 2.5], mask=mask) for mask in ([0, 1], [1, 0])]
    values += [np.ma.array([1.5, 2.5], mask=[0, 1], fill_value=7), quantity("m"), quantity("ft"), np.arange(3.0)]
    assert len({hash_of((value,)) for value in values}) == len(values)
    assert all(hash_of((value,)) == hash_of((value.copy(),)) for value in values[:5])


def test_what_calls_can_be_sent_and_pickle_does_not_know():
    make = [
        lambda x: types.MappingProxyType({"a": {x, "b"}}),
        lambda x: {x: 1, 2: 3}.keys(),
        lambda x: {1: x}.values(),
        lambda x: {1: x}.items(),
        lambda x: [{"a": 1}, np, type(None), int | None, type(...), math, x],
        lambda x: iter({x, "b", "c"}),
    ]
    values = [each(x) for each in make for x in ("x", "y")]
    assert len({hash_of((value,)) for value in values}) == len(values)
    assert [hash_of((value,)) for value in values] == [hash_of((each(x),)) for each in make for x in ("x", "y")]


def test_what_holds_itself():
    def made(x):
        items, names = [{x, "b"}], {"x": frozenset({x, "b"})}
        items.append(items)
        names["names"] = [names, items]
        return items, names

    values = [value for x in ("x", "y") for value in made(x)]
    assert len({hash_of((value,)) for value in values}) == 4
    assert hash_of(made("x")) == hash_of(made("x"))


def nan():
    return float("nan")


def test_items_that_have_no_order():
    a, b = nan(), nan()
    assert hash_of({a, 1.0, 2.0}) == hash_of({2.0, nan(), 1.0}) != hash_of({2.0, nan(), 3.0})
    assert hash_of({a: 1, b: 2}) == hash_of({b: 2, a: 1}) != hash_of({a: 1, b: 3})
    assert hash_of({a: [1], b: {"x"}}) == hash_of({nan(): {"x"}, nan(): [1]})
    for cls in (set, frozenset, Frozen, Mutable):
        assert hash_of(Plain(cls([0, 8, 16]))) == hash_of(Plain(cls([16, 8, 0])))
    assert hash_of({frozenset({1}): 1, frozenset({2}): 2}) == hash_of({frozenset({2}): 2, frozenset({1}): 1})


# Each value as source code, and a test that recognises it.
TEXTS = st.sampled_from(["", "a", "b", "apple", "pear", "zebra", "\u00e9"])
ATOMS = st.one_of(st.integers(-3, 40), TEXTS, st.booleans(), st.none(), st.sampled_from([0.5, 2.0, b"a", 1j])).map(
    lambda value: (ascii(value), (type(value).__name__, repr(value)))
) | st.sampled_from(
    [("Color.RED", "red"), ("Color.BLUE", "blue"), ("nan()", "nan"), ("len", "len"), ("Point", "the class")]
)


def sequence(template, kind):
    return lambda items: (
        template.format("".join(f"{source}, " for source, _ in items)),
        (kind, *[c for _, c in items]),
    )


def collection(template, kind):
    """Of items of any order, which occur once; equal ones (1 and True) would replace each other."""
    return lambda items: (
        template.format("".join(f"{source}, " for source, _ in items)),
        (kind, frozenset(canon for _, canon in items)),
    )


def mapping(template, kind):
    return lambda pairs: (
        template.format("".join(f"{key}: {value}, " for (key, _), (value, _) in pairs)),
        (kind, frozenset((key, value) for (_, key), (_, value) in pairs)),
    )


def distinct(elements, **options):
    return st.lists(elements, unique_by=lambda item: _equality(item[1]), **options)


def _equality(canon):
    """Return what is equal for keys that Python takes for equal."""
    if isinstance(canon, tuple) and canon[0] in ("int", "bool", "float", "complex"):
        return complex(eval(canon[1]))
    return canon if isinstance(canon, str) else tuple(map(_equality, canon)) if isinstance(canon, tuple) else canon


def keys(elements):
    items = st.lists(elements, max_size=3)
    return st.one_of(
        items.map(sequence("({})", "tuple")),
        distinct(ATOMS, max_size=5).map(collection("frozenset([{}])", "frozenset")),
        distinct(elements, max_size=3).map(collection("frozenset([{}])", "frozenset")),
        st.tuples(elements, elements).map(list).map(sequence("Pair(*({}))", "Pair")),
        st.tuples(elements).map(list).map(sequence("Point({})", "Point")),
        st.tuples(elements).map(list).map(sequence("Slotted({})", "Slotted")),
        distinct(elements, max_size=3).map(collection("Frozen([{}])", "Frozen")),
    )


KEYS = st.recursive(ATOMS, keys, max_leaves=8)


def values(elements):
    items = st.lists(elements, max_size=3)
    pairs = st.lists(st.tuples(KEYS, elements), max_size=4, unique_by=lambda pair: _equality(pair[0][1]))
    one, two = st.tuples(elements).map(list), st.tuples(elements, elements).map(list)
    return st.one_of(
        items.map(sequence("[{}]", "list")),
        items.map(sequence("collections.deque([{}])", "deque")),
        items.map(sequence("object_array(*[{}])", "array")),
        distinct(KEYS, max_size=5).map(collection("set([{}])", "set")),
        distinct(KEYS, max_size=5).map(collection("Mutable([{}])", "Mutable")),
        pairs.map(mapping("{{{}}}", "dict")),
        pairs.map(mapping("Names({{{}}})", "Names")),
        pairs.map(mapping("types.MappingProxyType({{{}}})", "proxy")),
        pairs.map(mapping("collections.ChainMap({{{}}})", "chain")),
        pairs.map(mapping("collections.defaultdict(list, {{{}}})", "defaultdict")),
        one.map(sequence("Plain(*[{}])", "Plain")),
        one.map(sequence("Reduced(*[{}])", "Reduced")),
        two.map(sequence("Slots(*[{}])", "Slots")),
        two.map(sequence("Point(*[{}])", "point")),
        two.map(sequence("functools.partial(print, *[{}])", "partial")),
    )


VALUES = st.recursive(KEYS, values, max_leaves=12)

ANSWER = """
import sys
sys.path.insert(0, sys.argv[1])
from test_hashing import *
for line in sys.stdin:
    print(hash_of((eval(line),)), flush=True)
"""


@pytest.fixture(scope="module")
def ask():
    """Return a function that returns the digests that three other processes make of a source's value."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ANSWER, str(Path(__file__).parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        for seed in ("1", "2", "3")
    ]

    def ask(source):
        for process in processes:
            process.stdin.write(source + "\n")
            process.stdin.flush()
        return {process.stdout.readline().strip() for process in processes}

    yield ask
    for process in processes:
        process.communicate()
        assert process.returncode == 0


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@settings(max_examples=400, deadline=None)
@given(st.lists(VALUES, min_size=2, max_size=4))
def test_any_value_has_one_digest_in_all_processes_and_no_other_has_it(ask, values):
    digests = {}
    for source, canon in values:
        (digest,) = ask(source)
        assert digest == hash_of((eval(source),))
        assert digests.setdefault(canon, digest) == digest
    assert len(set(digests.values())) == len(digests)


def test_a_builtin_that_was_replaced_counts_as_the_original(monkeypatch):
    """Hash `print`, which Ray replaces when it first prints the output of a worker."""

    def digests():
        return hash_of((print, functools.partial(print, 1))), identify(print), identify(functools.partial(print, 1))

    before = digests()
    monkeypatch.setattr("builtins.print", lambda *_: None)
    assert digests() == before


PLAIN = st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=400), st.binary(max_size=400))


@given(st.lists(PLAIN, max_size=5).map(tuple), st.booleans())
@settings(deadline=None)
def test_tuples_of_plain_values_have_joblibs_digest(values, doubled):
    if doubled:  # which pickle would remember
        values += values
    assert hash_of(values) == joblib.hash(values)
    assert hash_of(list(values)) == joblib.hash(list(values))


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 2**2100, -0.0, float("nan"), "", b"", "é" * 70000, "\ud800"])
def test_plain_values_have_joblibs_digest(value):
    assert hash_of((value,)) == joblib.hash((value,))
    assert hash_of((value, value, "a", "a")) == joblib.hash((value, value, "a", "a"))
