"""The tiers of the tests, and which tier a test belongs to."""

from __future__ import annotations

from pathlib import Path

TIERS = ["fake", "ray", "process"]  # they may start: nothing; one shared Ray; any program
PROGRAMS = Path(__file__).with_name("programs")


def tier_of(item):
    """Return the tier of a test, by its folder, its fixtures, a parameter "ray", or the mark `process`."""
    if PROGRAMS in item.path.parents or "python" in item.fixturenames or item.get_closest_marker("process"):
        return "process"
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    is_on_ray = any(isinstance(parameter, str) and parameter == "ray" for parameter in parameters)
    return "ray" if is_on_ray or "ray_up" in item.fixturenames else "fake"
