"""What a call sees of the driver's globals: what a child that is forked as the call is submitted would see."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thread_chunks._wire import homes, images
from thread_chunks._wire.holdings import Holdings
from thread_chunks._wire.ledger import Ledger
from thread_chunks._wire.pickling import unpack

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
        data = [each for each in sorted(value) if each in "abc"]
        pairs = ", ".join(f"same(lambda: ({one}, {other}))" for one in data for other in data if one < other)
        code = f"def {name}(depth):\n    return [[{seen}], [{pairs}]] if depth else 'deep'"
        exec(code, names)


LOOK = """
def look(what):
    try: value = what()
    except NameError as error: return str(error)
    return value.tolist() if hasattr(value, "tolist") else value
def same(what):
    try: one, other = what()
    except NameError: return None
    return one is other and not isinstance(one, float)
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
