from __future__ import annotations

import functools

import pytest
from executors import Maker
from scenarios import process_pool


@pytest.fixture(scope="session")
def on_process_pool(tmp_path_factory):
    """Return the result of a scenario with the standard library."""

    @functools.cache
    def outcome(function):
        make = Maker(process_pool)
        try:
            return function(make, tmp_path_factory.mktemp("process_pool"))
        finally:
            make.end()

    return outcome
