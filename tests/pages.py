"""Pages in a browser without a screen."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

import pytest

BROWSER = shutil.which("chromium")


@dataclass
class Shown:
    """A page after its scripts have run, and the messages of the console."""

    document: str
    complaints: list[str]

    def count(self, name):
        """Return how many elements have a class of that name."""
        return len(re.findall(rf'class="(?:[^"]* )?{name}(?: [^"]*)?"', self.document))


def show(path, folder):
    """Open a page; skip the test if there is no browser."""
    if BROWSER is None:
        pytest.skip("chromium is not installed")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={folder}"]
    # No host name resolves, so that each request to the network fails and is logged.
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=10000", "--dump-dom"]
    shown = subprocess.run([BROWSER, *flags, path.as_uri()], capture_output=True, text=True, timeout=300, check=True)
    complaints = [line for line in shown.stderr.splitlines() if "CONSOLE" in line or "Security Policy" in line]
    return Shown(shown.stdout, complaints)
