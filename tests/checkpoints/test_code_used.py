"""Values of a function whose helpers or globals have changed, and files of versions that did not note these."""

from __future__ import annotations

import sqlite3
import warnings

import pytest

from thread_chunks import Checkpoint, CheckpointStaleWarning, chunker
from thread_chunks._series.options import SeriesOptions
from thread_chunks._series.resumption import finished_values


def define(helper="x + 1", limit=5):
    """Return a function that uses a helper and a global."""
    names = {"__name__": "module", "LIMIT": limit}
    exec(f"def helper(x): return {helper}\ndef f(x): return min(helper(x), LIMIT)", names)
    return names["f"]


def map_all(make, path, function):
    """Return the values and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        values = list(make(1).map(function, [1, 2], path=path))
    assert all(warning.category is CheckpointStaleWarning for warning in caught)
    return values, "\n".join(str(warning.message) for warning in caught)


def outcomes(path):
    connection = sqlite3.connect(path)
    (count,) = connection.execute("SELECT count(*) FROM outcomes").fetchone()
    connection.close()
    return count


def test_values_of_an_older_helper_or_global_are_kept_and_not_used(make, path):
    assert map_all(make, path, define()) == ([2, 3], "")
    values, text = map_all(make, path, define(helper="x + 2"))
    assert values == [3, 4]
    assert "2 values of module.f with another code or other globals: the code of `helper` differs. They are" in text
    values, text = map_all(make, path, define(limit=2))
    assert values == [2, 2]
    assert "4 values" in text
    assert ": the global `LIMIT` differs. They are" in text, "compared to what is most like it"
    values, text = map_all(make, path, define(helper="x + 3", limit=2))
    assert ": the code of `helper` differs. They are" in text
    for function in (define(), define(limit=2), define(helper="x + 2")):
        map_all(make, path, function)
    assert outcomes(path) == 8, "each is found again"


def test_many_differences_are_not_all_named(make, path):
    def of(x):
        names = {"__name__": "module", **{f"T{number}": x for number in range(8)}}
        exec(f"def f(x): return {' + '.join(f'T{number}' for number in range(8))}", names)
        return names["f"]

    map_all(make, path, of(1))
    assert "the global `T4` differs, and 3 more. They" in map_all(make, path, of(2))[1]


def make_old(path):
    """Change a file to what an older version would have written, which identified a function by its own code."""
    from thread_chunks._checkpoints.identity import identify

    connection = sqlite3.connect(path)
    connection.execute("UPDATE functions SET code = ?", (identify(define()).own_code,))
    connection.execute("DROP TABLE parts")
    connection.commit()
    connection.close()


def test_a_file_of_an_older_version_gives_its_values_and_says_what_it_does_not_know(make, path):
    map_all(make, path, define())
    make_old(path)
    assert len(Checkpoint.load(path)) == 2
    values, text = map_all(make, path, define())
    assert values == [2, 3]
    assert "2 values of module.f of an older version" in text
    assert "did not note what the function uses: the code of `helper`, the global `LIMIT`. They are taken" in text
    assert map_all(make, path, define()) == ([2, 3], ""), "from then on it is known"
    values, text = map_all(make, path, define(helper="x + 2"))
    assert values == [3, 4]
    assert "the code of `helper` differs" in text
    assert outcomes(path) == 4


def test_a_file_of_an_older_version_has_one_heir(make, path):
    map_all(make, path, define())
    make_old(path)
    assert map_all(make, path, define(limit=1))[0] == [2, 3]
    values, text = map_all(make, path, define())
    assert values == [2, 3]
    assert ": the global `LIMIT` differs. They are kept" in text
    assert outcomes(path) == 4


def test_code_that_uses_nothing_is_what_it_was_in_older_versions(make, path):
    names = {"__name__": "module"}
    exec("def f(x): return max(x, 2)", names)
    map_all(make, path, names["f"])
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE parts")
    connection.commit()
    connection.close()
    assert map_all(make, path, names["f"]) == ([2, 2], "")
    assert outcomes(path) == 2


def test_chunk_finds_all_without_an_executor_unless_a_helper_has_changed(make, path, monkeypatch):
    map_all(make, path, define())
    monkeypatch.setattr(chunker, "ChunkExecutor", lambda *_, **__: pytest.fail("an executor is made"))
    assert chunker.chunk(define(), [[2], [1]], path=path) == [3, 2]
    assert finished_values(define(limit=2), [(1,), (2,)], SeriesOptions(path=path)) is None
