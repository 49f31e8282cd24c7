"""All combinations of the options of a series: each call has its outcome, and runs as often as it should."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import Counter
from pathlib import Path

from fake_cluster import FakeExecutor, FakeReference, die  # noqa: F401 (`die` is looked up by its name)
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from thread_chunks import WorkerLost, call_seed

LEDGER = []  # the calls that were begun; workers are threads
LOCK = threading.Lock()


def begin(number):
    with LOCK:
        LEDGER.append(number)
        return LEDGER.count(number) == 1


def behave(number, kind):
    """Return the number and the seed, or raise, or let the worker die: always, or the first time."""
    tests = globals()  # by strings, as neither the ledger nor the threads are to count for the checkpoint
    is_first = tests["begin"](number)
    if kind == "raises":
        raise LookupError(number)
    if kind == "dies" or (kind == "dies once" and is_first):
        tests["die"]()
    return number, call_seed()


KINDS = st.lists(st.sampled_from(["returns"] * 6 + ["raises", "dies", "dies once"]), max_size=12)
OPTIONS = st.fixed_dictionaries(
    {
        "return_exceptions": st.booleans(),
        "with_arguments": st.booleans(),
        "unordered": st.booleans(),
        "buffersize": st.sampled_from([None, 1, 3]),
        "chunksize": st.sampled_from([None, 2]),
        "seed": st.sampled_from([None, 7]),
    }
)


def outcome_of(value, results):
    """Return a number, or the type of an error."""
    if isinstance(value, BaseException):
        return type(value)
    if results == "refs":
        assert isinstance(value, FakeReference)
        value = value.future().result(0)
    return value


# Examples are not shrunk, which takes minutes with workers that die.
@settings(
    max_examples=40 if os.environ.get("CI") else 15, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)
@given(
    kinds=KINDS,
    options=OPTIONS,
    retries=st.integers(0, 2),
    results=st.sampled_from(["values", "values", "refs"]),
    is_kept=st.booleans(),
    by_keyword=st.booleans(),
    size=st.integers(1, 3),
)
def test_all_with_all(kinds, options, retries, results, is_kept, by_keyword, size):
    if results == "refs":
        options, is_kept = {**options, "chunksize": None}, False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint" if is_kept else None
        with FakeExecutor(size) as executor:
            seeds = list(executor.map(lambda _: call_seed(), kinds, seed=options["seed"])) if kinds else []
        finished = set()
        for _ in range(2):
            LEDGER.clear()
            with FakeExecutor(size, max_retries=retries) as executor:  # at its end, nothing runs any more
                got, error = run(executor, kinds, {**options, "results": results, "path": path}, by_keyword=by_keyword)
            began = Counter(LEDGER)
            assert not finished & set(began), "what is in the checkpoint is not run again"
            check(kinds, seeds, got, error, retries, options, is_first=not finished)
            most = {"returns": 1 + retries, "raises": 1 + retries}
            assert all(count <= most.get(kinds[number], 1 + retries) for number, count in began.items())
            if is_kept and error is None:
                finished |= {number for number, value in got if not isinstance(value, type)}


def run(executor, kinds, options, *, by_keyword):
    """Return the values of a series, with the numbers of the calls where they are known, and its error."""
    rows = [{"number": n, "kind": kind} if by_keyword and n % 2 else (n, kind) for n, kind in enumerate(kinds)]
    got = []
    try:
        for item in executor.starmap(behave, rows, **options):
            number = None
            if options["with_arguments"]:
                row, item = item
                number = row["number"] if isinstance(row, dict) else row[0]
                assert row in rows
            got.append((number, outcome_of(item, options["results"])))
    except (LookupError, WorkerLost) as raised:
        return got, raised
    return got, None


def check(kinds, seeds, got, error, retries, options, *, is_first):
    possible = [possible_outcomes(number, kind, seeds, retries) for number, kind in enumerate(kinds)]
    if error is not None:
        assert not options["return_exceptions"]
        assert any(type(error) in outcomes for outcomes in possible)
    else:
        assert len(got) == len(kinds)
    if not options["return_exceptions"]:
        assert not any(isinstance(value, type) for _, value in got)
    if not options["unordered"]:
        for place, (number, value) in enumerate(got):
            assert number in (None, place)
            assert value in possible[place]
    else:
        for number, value in got:
            assert value in (possible[number] if number is not None else set().union(*possible))
        numbers = [value[0] for _, value in got if not isinstance(value, type)]
        assert len(set(numbers)) == len(numbers), "none comes twice"


def possible_outcomes(number, kind, seeds, retries):
    value = (number, seeds[number])
    outcomes = {"returns": {value}, "raises": {LookupError}, "dies": {WorkerLost}, "dies once": {value}}[kind]
    # Calls that were sent with one that ends its worker are lost with it. That uses up a retry; then each runs alone.
    return outcomes | ({WorkerLost} if retries < (2 if kind == "dies once" else 1) else set())
