"""The tiers of the tests, and how a test's tier is told."""

from __future__ import annotations

from pathlib import Path

TIERS = ["fake", "ray", "process"]  # and what they may start: nothing; one Ray for all; whatever they like
PROGRAMS = Path(__file__).with_name("programs")


def tier_of(item):
    """Tell the tier of a test by the folder that it lies in, the fixtures that it asks for, and the class it tests."""
    if PROGRAMS in item.path.parents or "python" in item.fixturenames:
        return "process"
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return "ray" if "ray_up" in item.fixturenames or parameters.get("executor_class") == "ray" else "fake"
