"""Modules that take long to import are imported only when they are needed."""

from __future__ import annotations

import pickle

import pytest

import thread_chunks

LARGE = ("ray", "numpy", "joblib", "tqdm", "asyncio")


@pytest.fixture
def run(python):
    """Returns the lines that a fresh process prints."""
    return lambda program, *argv, **environment: python.run(program, *argv, **environment).splitlines()


@pytest.fixture
def large_ones_of(run):
    """Tells which of the large packages a fresh process has imported when the program is over."""
    tail = f"\nimport sys\nprint('imported', *[name for name in {LARGE} if name in sys.modules])"
    return lambda program, *argv: run(program + tail, *argv)[-1].split()[1:]


@pytest.mark.parametrize(
    "program",
    [
        "import thread_chunks",
        "from thread_chunks import Checkpoint, ChunkExecutor, Chunker, LabelledActor, WorkerLost, chunk, config",
        "import thread_chunks.__main__",
        "import thread_chunks; dir(thread_chunks), thread_chunks.__all__",
        "import thread_chunks; thread_chunks.chunk(abs, [])",
        "import thread_chunks, pickle; pickle.dumps([thread_chunks.ChunkExecutor, thread_chunks.LabelledActor])",
    ],
)
def test_the_package_alone_imports_nothing_large(large_ones_of, program):
    assert large_ones_of(program) == []


def test_the_command_line_imports_nothing_large(large_ones_of, tmp_path):
    thread_chunks.Checkpoint("f", [[1], [2]], [1, None], [True, False], path=tmp_path / "a.checkpoint")
    program = "import sys; from thread_chunks.__main__ import main; assert main(['status', sys.argv[1]]) == 0"
    assert large_ones_of(program, tmp_path / "a.checkpoint") == []


@pytest.mark.parametrize("names", ["RemoteLabelledActor", "*"])
def test_what_needs_ray_imports_it(large_ones_of, names):
    assert "ray" in large_ones_of(f"from thread_chunks import {names}\nRemoteLabelledActor.options(num_cpus=0)")


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="Chonker"):
        thread_chunks.Chonker  # noqa: B018


def test_names_are_listed_before_they_are_asked_for(run):
    (names,) = run("import thread_chunks; print(*dir(thread_chunks))")
    assert set(thread_chunks.__all__) <= set(names.split())


@pytest.mark.parametrize("name", sorted(set(thread_chunks.__all__) - {"config", "RemoteLabelledActor"}))
def test_public_names_are_pickled_by_reference(name):
    assert pickle.loads(pickle.dumps(getattr(thread_chunks, name))) is getattr(thread_chunks, name)


def test_a_reference_has_no_digest_though_no_executor_was_made(run, joined, tmp_path):
    # The file has all that `chunk` is asked for, as far as can be told without a look at the arguments.
    program = """
import sys
import thread_chunks

path = sys.argv[1]
if sys.argv[2] == "first":
    print(thread_chunks.chunk(abs, [[-1]], chunk_size=1, progress_bar=False, path=path))
else:
    import ray

    ray.init(log_to_driver=False, logging_level="error")
    try:
        thread_chunks.chunk(abs, [[ray.put(-1)]], chunk_size=1, progress_bar=False, path=path)
    except TypeError as error:
        print(error)
"""
    path = tmp_path / "a.checkpoint"
    assert run(program, path, "first", **joined) == ["[1]"]
    said = run(program, path, "then", **joined)[-1]
    assert "a reference to an object of the cluster means nothing to the next run" in said


def test_a_worker_imports_nothing_of_the_driver_s(run, joined):
    program = """
import thread_chunks

with thread_chunks.ChunkExecutor(1) as executor:
    print(*executor.submit(eval, "set(__import__('sys').modules)").result(), sep="\\n")
"""
    modules = run(program, **joined)
    assert "thread_chunks.actor" in modules
    drivers = ("thread_chunks._dispatch", "thread_chunks._ray.session")
    assert [name for name in modules if name.startswith(drivers)] == []


def test_a_child_that_was_forked_while_ray_was_up_before_any_executor_was_made(run, joined):
    program = """
import os
import ray
import thread_chunks

ray.init(log_to_driver=False, logging_level="error")
if (child := os.fork()) == 0:
    try:
        thread_chunks.ChunkExecutor(1)
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    assert "forked while Ray was up" in run(program, **joined)[-1]
