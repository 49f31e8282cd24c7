"""The tests of thread-chunks 1.0.5, as they are in its source distribution, pass with this package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile

import pytest

# What pip asks of the distribution's build backend, hatchling, before it keeps the archive. It need not be installed.
BACKEND = """
import pathlib

def prepare_metadata_for_build_wheel(folder, settings=None):
    info = pathlib.Path(folder, "thread_chunks-1.0.5.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: thread-chunks\\nVersion: 1.0.5\\n")
    return info.name
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The unpacked source distribution."""
    folder, backend = tmp_path_factory.mktemp("version_1"), tmp_path_factory.mktemp("backend")
    (backend / "hatchling").mkdir()
    (backend / "hatchling" / "build.py").write_text(BACKEND)
    environment = {**os.environ, "PYTHONPATH": str(backend)}
    download = [sys.executable, "-m", "pip", "download", "--no-binary", ":all:", "--no-deps", "--no-build-isolation"]
    try:
        got = subprocess.run(
            [*download, "-d", folder, "thread-chunks==1.0.5"], env=environment, capture_output=True, timeout=120
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the package index does not answer")
    archives = list(folder.glob("*.tar.gz"))
    if not archives:
        pytest.skip(f"the source distribution cannot be had: {got.stderr.decode()[-300:]}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    return folder / "thread_chunks-1.0.5"


def test_they_pass(sources):
    # Not the one about the version numbers in that distribution's own files, which needs other packages.
    (sources / "tests" / "test_version_consistency.py").unlink()
    (sources / "tests" / "__test_write_directory__").mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "tests"]
    done = subprocess.run(command, cwd=sources, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b30 passed", done.stdout), done.stdout
