from __future__ import annotations

import functools

import pytest
from scenarios import play, process_pool


@pytest.fixture(scope="session")
def on_process_pool(tmp_path_factory):
    """Tell what the standard library makes of a scenario."""

    @functools.cache
    def outcome(function):
        return play(function, process_pool, tmp_path_factory.mktemp("process_pool"))

    return outcome
