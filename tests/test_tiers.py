"""The three tiers: each test belongs to one, and starts nothing that its tier forbids."""

from __future__ import annotations

import subprocess
import sys

import pytest
import ray
from tiers import TIERS


def test_each_test_is_of_one_tier(request):
    for item in request.session.items:
        assert len(set(TIERS).intersection(mark.name for mark in item.iter_markers())) == 1, item.nodeid


def test_programs_are_for_the_tests_of_processes():
    with pytest.raises(AssertionError, match="tier fake"):
        subprocess.run([sys.executable, "-c", ""])


def test_ray_is_not_for_the_tests_on_the_fake_cluster():
    with pytest.raises(AssertionError, match="tier fake"):
        ray.init("local")
