"""A checkpoint and its log are found by any path that leads to them."""

from __future__ import annotations

import os
import signal

import pytest
from fake_cluster import FakeExecutor

from thread_chunks import Checkpoint, CheckpointRefused
from thread_chunks.__main__ import main
from thread_chunks._checkpoints.opening import open_store


@pytest.fixture(params=["file", "folder", "chain", "relative"])
def link(request, tmp_path, monkeypatch):
    """A link to the future place of a checkpoint, and its real path."""
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "results"
    if request.param == "folder":
        (tmp_path / "there").symlink_to(real.parent)
        return tmp_path / "there" / "results", real
    target = real
    if request.param == "chain":
        target = tmp_path / "between"
        target.symlink_to(real)
    if request.param == "relative":
        monkeypatch.chdir(tmp_path)
        target = "real/results"
    (tmp_path / "link").symlink_to(target)
    return (tmp_path / "link" if request.param != "relative" else "link"), real


def squares(path, stop=3):
    with FakeExecutor(1) as executor:
        return list(executor.map(lambda x: x * x, range(stop), path=path))


def test_a_link_is_as_good_as_the_real_path(link):
    link, real = link
    assert squares(link) == squares(real) == squares(link) == [0, 1, 4]
    assert Checkpoint.load(link).done == 3
    assert Checkpoint.load(link).path == os.path.abspath(link)
    assert os.listdir(real.parent) == ["results"]


def test_a_link_is_read_while_somebody_writes_by_the_real_path(link):
    link, real = link
    squares(real)
    with FakeExecutor(1) as executor:
        values = executor.map(lambda x: x * x, iter(range(9)), path=real, buffersize=1)
        assert next(values) == 0
        assert squares(link) == [0, 1, 4]
        assert main(["status", str(link)]) == 0
        assert list(values) == [1, 4, 9, 16, 25, 36, 49, 64]


def test_a_link_is_read_after_its_writer_was_killed(python, link):
    link, real = link
    script = f"""
import os, signal
from thread_chunks import Checkpoint
from fake_cluster import FakeExecutor
executor = FakeExecutor(1)
values = executor.map(abs, iter(range(9)), path={str(real)!r}, buffersize=1)
for _ in range(5): next(values)
while Checkpoint.load({str(real)!r}).done < 3: pass
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert python.start(script).wait(120) == -signal.SIGKILL
    assert os.path.getsize(f"{real}-wal") > 0
    assert Checkpoint.load(link).func_name == "abs"
    assert Checkpoint.load(link).done >= 3


def test_a_loaded_checkpoint_stays_with_its_file_where_the_link_moves_on(tmp_path):
    link = tmp_path / "latest"
    for name, value in (("old", 1), ("new", 2)):
        Checkpoint("f", [[0]], [value], [True], path=tmp_path / name)
    link.symlink_to("old")
    found = Checkpoint.load(link)
    link.unlink()
    link.symlink_to("new")
    assert found.output == [1]


def test_a_link_that_leads_nowhere_is_an_error_or_the_new_files_place(tmp_path):
    (tmp_path / "dangling").symlink_to("made")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FileNotFoundError):
        Checkpoint.load(tmp_path / "dangling")
    assert squares(tmp_path / "dangling") == [0, 1, 4]
    assert (tmp_path / "made").is_file()
    with pytest.raises(OSError):
        squares(tmp_path / "loop")


def test_a_file_with_several_hard_links_is_refused_and_left_as_it_is(tmp_path, capsys):
    squares(tmp_path / "one")
    os.link(tmp_path / "one", tmp_path / "two")
    before = (tmp_path / "one").read_bytes()
    for name in ("one", "two"):
        with pytest.raises(CheckpointRefused, match="hard links"):
            squares(tmp_path / name)
        assert main(["status", str(tmp_path / name)]) == 1
    assert "hard links" in capsys.readouterr().err
    assert (tmp_path / "one").read_bytes() == before
    (tmp_path / "two").unlink()
    assert squares(tmp_path / "one") == [0, 1, 4]


@pytest.mark.parametrize(
    "name",
    [
        "a b?c#d%41&e=f",
        "ünï",
        "-dash",
        " ",
        "new\nline",
        "\x1b[31m",
        b"bytes",
        b"\xff\xfe",
        "\udcff",
        "file:x",
        ":memory:",
    ],
)
def test_odd_names_work(tmp_path, name, capsys):
    path = os.path.join(os.fsencode(tmp_path), name) if isinstance(name, bytes) else f"{tmp_path}/{name}"
    assert squares(path) == squares(path) == [0, 1, 4]
    assert Checkpoint.load(path).done == 3
    assert os.listdir(os.fsencode(tmp_path)) == [os.fsencode(name)]
    assert main(["status", os.fsdecode(path)]) == 0
    out = capsys.readouterr().out
    assert "3 of 3" in out
    assert "\x1b" not in out


@pytest.mark.parametrize("name", ["nul\0x", "\ud800", "x" * 300, "missing/x", "/".join(["x"] * 3000)])
def test_impossible_names_are_errors_of_the_system(tmp_path, name):
    for use in (squares, Checkpoint.load, open_store):
        with pytest.raises(OSError):
            use(f"{tmp_path}/{name}")
    assert os.listdir(tmp_path) == []


def test_a_name_that_is_bytes_suits_a_chunker(ray_up, tmp_path, monkeypatch):
    from thread_chunks import Chunker

    monkeypatch.chdir(tmp_path)
    with Chunker(abs, chunk_size=1, progress_bar=False, path=b"\xff") as chunker:
        assert chunker([[-1]]) == [1]
    assert os.listdir(b".") == [b"\xff"]
