from __future__ import annotations

import pytest
from checkpointed import Noted


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint"


@pytest.fixture
def noted(tmp_path):
    return Noted(tmp_path)
