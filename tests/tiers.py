"""The tiers of the tests, and how a test's tier is told."""

from __future__ import annotations

from pathlib import Path

TIERS = ["fake", "ray", "process"]  # and what they may start: nothing; one Ray for all; whatever they like
PROGRAMS = Path(__file__).with_name("programs")


def tier_of(item):
    """Tell the tier of a test: by a mark of its own, by its folder, by its fixtures, or by a parameter that is "ray"."""
    for mark in item.iter_markers():
        if mark.name in TIERS:
            return mark.name
    if PROGRAMS in item.path.parents or "python" in item.fixturenames:
        return "process"
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    is_on_ray = any(isinstance(parameter, str) and parameter == "ray" for parameter in parameters)
    return "ray" if is_on_ray or "ray_up" in item.fixturenames else "fake"
