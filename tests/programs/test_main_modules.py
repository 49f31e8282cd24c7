"""However a program is started: its `__main__`, and the modules that a worker cannot import, are there in a worker."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from scripts import run

PROGRAM = """
import pickle, sys
from thread_chunks import ChunkExecutor
K = 1
class P:
    def __init__(self, x): self.x = x
def helper(x): return x + K
def f(x):
    import __main__
    main = sys.modules["__main__"]
    same = main.__name__, getattr(main, "__file__", None), main.__spec__ and main.__spec__.name
    return same, helper(x), pickle.loads(pickle.dumps(P(x))).x, globals()["K"], __main__.helper(1)
if __name__ == "__main__":
    with ChunkExecutor(1) as executor:
        ours = __name__, globals().get("__file__"), __spec__ and __spec__.name
        print(executor.submit(f, 1).result() == (ours, 2, 1, 1, 2))
        K = 5
        print(list(executor.map(f, [1])) == [(ours, 6, 1, 5, 6)])
"""


@pytest.mark.parametrize("how", ["-m package.program", "-m package", "script", "-", "-c"])
def test_each_way_to_start_a_program(how, joined, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    for file in ("package/program.py", "package/__main__.py", "script"):
        (tmp_path / file).write_text(PROGRAM)
    command = [sys.executable, *how.split(), *([PROGRAM] if how == "-c" else [])]
    given = PROGRAM if how == "-" else None
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **joined}, input=given, capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.returncode) == ("True\nTrue\n", 0), done.stderr


def test_a_notebook(joined, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    cells = [
        "from thread_chunks import ChunkExecutor\nimport inspect\nexecutor = ChunkExecutor(1)\nT = 1",
        "def f(x): return x + T",
        "list(executor.map(f, [1]))",
        "T = 2",
        "list(executor.map(f, [1])), executor.submit(f, 1).result()",
        "def f(x): return x * 100 + T",
        "list(executor.map(f, [1])), executor.submit(lambda: inspect.getsource(f)).result()",
        "%%writefile written.py\ndef g(x): return 'one', x",
        "import written\nexecutor.submit(written.g, 1).result()",
        "%%writefile written.py\ndef g(x): return 'second', x",
        "import importlib\nimportlib.reload(written)\nexecutor.submit(lambda: (written.g(1), T)).result()",
        "executor.shutdown()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    path = tmp_path / "notebook.ipynb"
    nbformat.write(notebook, path)
    code = (
        "import nbformat, nbclient\n"
        "notebook = nbformat.read('notebook.ipynb', 4)\n"
        "nbclient.NotebookClient(notebook, timeout=120, kernel_name='python3').execute()\n"
        "for cell in notebook.cells:\n"
        "    for output in cell.outputs:\n"
        "        if output.output_type == 'execute_result': print(output.data['text/plain'])"
    )
    environment = {**os.environ, **joined}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.stdout.splitlines() == [
        "[2]",
        "([3], 3)",
        "([102], 'def f(x): return x * 100 + T\\n')",
        "('one', 1)",
        "(('second', 1), 2)",
    ], done.stderr


def test_modules_that_no_worker_can_import(joined, tmp_path):
    script = """
    import importlib.util, types
    os.mkdir("hidden")
    with open("hidden/plugin.py", "w") as file:
        file.write("K = 1\\nclass C:\\n    def __init__(self, v): self.v = v\\ndef f(x): return C(x * 2 + K)\\n")
    spec = importlib.util.spec_from_file_location("plugin", "hidden/plugin.py")
    plugin = importlib.util.module_from_spec(spec)
    sys.modules["plugin"] = plugin
    spec.loader.exec_module(plugin)
    made = types.ModuleType("made")
    exec("def g(x): return x + 1", vars(made))
    sys.modules["made"] = made
    with ChunkExecutor(1) as executor:
        print(executor.submit(plugin.f, 2).result().v, executor.submit(lambda: plugin.f(2).v).result())
        plugin.K = 3
        print(executor.submit(plugin.f, 2).result().v, executor.submit(lambda c: c.v, plugin.C(4)).result())
        print(type(executor.submit(plugin.f, 2).result()) is plugin.C, executor.submit(lambda: made.g(1)).result())
    """
    assert run(script, tmp_path, **joined) == ["5 5", "7 4", "True 2"]


@pytest.mark.parametrize("mode", ["importlib", "prepend"])
def test_tests_of_a_user(mode, joined, tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(
        "from thread_chunks import ChunkExecutor\n"
        "N = 1\n"
        "def work(x): return x + N\n"
        "def test():\n"
        "    with ChunkExecutor(1) as executor: assert list(executor.map(work, range(3))) == [1, 2, 3]\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", f"--import-mode={mode}", "-p", "no:cacheprovider", "tests"]
    environment = {**os.environ, **joined}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


def test_modules_that_are_edited_or_cannot_be_loaded_again(joined, tmp_path):
    script = """
    import importlib, logging
    from thread_chunks._wire import homes
    homes._REST = 0  # files are looked at all the time
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logging.getLogger("thread_chunks").addHandler(handler)
    def write(text):
        with open("edited.py", "w") as file:
            file.write(text)
        os.utime("edited.py", (0, next(times)))
        importlib.invalidate_caches()
    times = iter(range(10**9, 10**9 + 9))
    sys.path.insert(0, os.getcwd())
    sys.dont_write_bytecode = True
    write("def f(): return 1")
    import edited
    executor = ChunkExecutor(1, forward_logging=True)
    print(executor.submit(edited.f).result(), records)
    write("def f(): return 2")
    print(executor.submit(lambda: edited.f()).result(), len(records), "the file of the module edited" in records[0])
    executor.submit(lambda: edited.f()).result()
    print(len(records))
    importlib.reload(edited)
    print(executor.submit(lambda: edited.f()).result(), len(records))
    write(f"import os\\nif os.getpid() != {os.getpid()}: raise LookupError('not here')\\ndef f(): return 3")
    importlib.reload(edited)
    print(executor.submit(lambda: edited.f()).result(), len(records))
    print("reloaded the module edited" in records[1], "LookupError: not here" in records[1])
    executor.shutdown()
    """
    assert run(script, tmp_path, **joined) == ["1 []", "1 1 True", "1", "2 1", "2 2", "True True"]
