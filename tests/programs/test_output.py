"""Calls print where the driver prints."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

from scripts import PRELUDE, end, run, start


def test_calls_print_where_the_driver_prints(joined, tmp_path):
    script = """
    def speak(n):
        print("printed", n)
        print("error", n, file=sys.stderr)
        os.system("echo shell " + str(n))
        return n
    print("before", flush=True)
    with ChunkExecutor(1) as executor:
        for n in (1, 1, 2):
            executor.submit(speak, n).result()
        def nested():
            with ChunkExecutor(1) as inner:
                inner.submit(print, "nested").result()
        executor.submit(nested).result()
    ray.init(**QUIET)
    @ray.remote
    class Mine(LabelledActor):
        pass
    print(chunk(None, [["not shown"]], [Mine.remote(print)]), flush=True)
    """
    lines, err = end(start(script, tmp_path, **joined))
    said = [["printed 1", "shell 1"], ["printed 1", "shell 1"], ["printed 2", "shell 2"]]
    assert lines == ["before", *said[0], *said[1], *said[2], "nested", "[None]"]
    assert err.splitlines() == ["error 1", "error 1", "error 2"]


def test_lines_of_several_workers_do_not_mix(joined, tmp_path):
    script = """
    def speak(letter):
        for number in range(300):
            print(letter, letter * 40, end=" ")
            print(letter, number, sep=letter, end=letter + "\\n")
            print(letter * 30_000)
            print(letter + "\\n" + letter, letter)
            sys.stdout.write(letter)
            print()
    with ChunkExecutor(3) as executor:
        list(executor.map(speak, "abc"))
        executor.submit(print, "no end", end="").result()
        print()
        executor.submit(lambda: print("seen", end="", flush=True) or time.sleep(0.1)).result()
        print()
    """
    lines = run(script, tmp_path, **joined)
    assert [line for line in lines if len(set(line) - set("0123456789 ")) > 1] == ["no end", "seen"]
    for letter in "abc":
        mine = [line for line in lines if line.startswith(letter) and line != "seen"]
        assert len(mine) == 300 * 5
        assert sum(line == letter * 30_000 for line in mine) == 300


def test_calls_print_into_a_file_in_order(joined, tmp_path):
    script = """
    from concurrent.futures import ProcessPoolExecutor
    def main():
        os.dup2(os.open("out", os.O_WRONLY | os.O_CREAT), 1)
        print("first", flush=True)
        with (ProcessPoolExecutor if "STANDARD" in os.environ else ChunkExecutor)(1) as executor:
            executor.submit(print, "second", flush=True).result()
            print("third", flush=True)
            executor.submit(print, "fourth", flush=True).result()
    if __name__ == "__main__":  # the worker of the standard library's executor imports the script, unless it is forked
        main()
    """
    for environment in ({}, {"STANDARD": "1"}):
        assert run(script, tmp_path, **joined, **environment) == []
        assert (tmp_path / "out").read_text().split() == ["first", "second", "third", "fourth"]
        (tmp_path / "out").unlink()


def test_calls_print_nowhere_when_the_driver_has_no_output(joined, tmp_path):
    # Its descriptors are something else's by then: Ray's, or the user's data.
    script = """
    with ChunkExecutor(1) as executor:
        def speak(): print("lost"); return os.system("echo lost")
        print(data.fileno(), executor.submit(speak).result(), file=sys.stderr)
    """
    file = tmp_path / "closed.py"
    # The next file that is opened gets the free descriptor.
    file.write_text(PRELUDE.replace("import gc", "data = open('data', 'w')\nimport gc", 1) + textwrap.dedent(script))
    command = f"exec {sys.executable} {file} >&-"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **joined}, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "1 0\n")
    assert (tmp_path / "data").read_text() == ""


def test_a_kept_actor_does_not_hold_the_drivers_output(joined, tmp_path):
    script = """
    chunker = Chunker(print, chunk_size=1, persistent=True)
    chunker([["shown"]])
    actors = chunker.actors
    del chunker
    until(lambda: not any(t.name.startswith("thread_chunks") for t in threading.enumerate()))
    chunk(None, [["not shown"]], actors)
    """
    assert run(script, tmp_path, **joined) == ["shown"]
