"""The tiers of the tests, and how a test's tier is told."""

from __future__ import annotations

from pathlib import Path

TIERS = ["fake", "ray", "process"]  # and what they may start: nothing; one Ray for all; whatever they like
PROGRAMS = Path(__file__).with_name("programs")


def tier_of(item):
    """Tell the tier of a test by the folder that it lies in, by its fixtures, and by a parameter that is "ray"."""
    if PROGRAMS in item.path.parents or "python" in item.fixturenames:
        return "process"
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    is_on_ray = any(isinstance(parameter, str) and parameter == "ray" for parameter in parameters)
    return "ray" if is_on_ray or "ray_up" in item.fixturenames else "fake"
