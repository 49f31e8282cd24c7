"""What a program has set in its interpreter, by options or by calls, holds in the workers, too."""

from __future__ import annotations

from scripts import end, run, start

OPTIONS = """
def options(*given):  # start the program anew with these, once
    if __name__ == "__main__" and "STARTED" not in os.environ:
        os.environ["STARTED"] = "1"
        os.execv(sys.executable, [sys.executable, *given, __file__])
"""


def test_warning_filters(joined, tmp_path):
    script = """
    import warnings
    class Mine(UserWarning): pass
    class Own(Mine): pass
    with open("noisy.py", "w") as file:
        file.write("import os, warnings\\nopen('loaded', 'a').write(f'{os.getpid()} ')\\n")
        file.write("class Noise(UserWarning): pass\\n")
        file.write("def f(): warnings.warn('noise', Noise); return __name__ in sys.modules\\nimport sys\\n")
        file.write("warnings.simplefilter('error', Noise)\\n")
    sys.path.insert(0, os.getcwd())
    import noisy
    def warn(*given):
        try:
            warnings.warn(*given)
        except Warning as warning:
            return type(warning)
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Mine)
    warnings.filterwarnings("error", "bad .*")
    warnings.filterwarnings("ignore", "bad but", module="__main__")
    def views():
        return [warn("bad thing"), warn("good thing"), warn("bad but so"), warn("x", Mine), warn("x", Own)]
    with ChunkExecutor(1) as executor:
        print(views() == executor.submit(views).result() == [UserWarning, None, None, Mine, Own])
        print(open("loaded").read() == f"{os.getpid()} ")
        print(executor.submit(noisy.f).result())  # ignored as here, though the worker loads the module later
        with ChunkExecutor(noisy.f, 1) as silent:
            print(silent.submit(None).result())
        warnings.simplefilter("error")
        def large(array):
            import numpy
            return numpy.zeros(300_000)
        with ChunkExecutor(1) as strict:  # neither the package nor Ray warns
            print(strict.submit(warn, "so").result().__name__, len(strict.submit(large, bytes(3_000_000)).result()))
            print(strict.submit(lambda: [os.system("true"), ray.get(ray.put(1))]).result())
    """
    assert run(script, tmp_path, **joined) == [
        *("True", "True", "True", "True"),
        *("UserWarning 300000", "[0, 1]"),
    ]


def test_warn_options_reach_workers_and_what_they_start(joined, tmp_path):
    script = """
    import multiprocessing, warnings
    options("-W", "error:loud:UserWarning", "-W", "ignore::BytesWarning")
    def warn():
        try:
            warnings.warn("loud")
        except UserWarning:
            return sys.warnoptions
    def start():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(warn)
    if __name__ == "__main__":
        with ChunkExecutor(1) as executor:
            print(executor.submit(warn).result())
            print(executor.submit(start).result())
    """
    expected = "['error:loud:UserWarning', 'ignore::BytesWarning']"
    assert run(OPTIONS + script.replace("\n    ", "\n"), tmp_path, **joined) == [expected] * 2


def test_limits_of_the_interpreter(joined, tmp_path):
    script = """
    def deep(n): return n and 1 + deep(n - 1)
    sys.setrecursionlimit(20_000)
    sys.set_int_max_str_digits(6000)
    with ChunkExecutor(1) as executor:
        print(executor.submit(deep, 5000).result(), executor.submit(len, str(10**5000)).result())
        print(executor.submit(lambda: len(str(10**5000))).result(), executor.submit(sys.getrecursionlimit).result())
    sys.setrecursionlimit(150)
    with ChunkExecutor(1) as executor:
        print(executor.submit(deep, 50).result(), type(executor.submit(deep, 500).exception()).__name__)
    """
    assert run(script, tmp_path, **joined) == ["5000 5001", "5001 20000", "50 RecursionError"]


def test_options_that_must_be_there_at_the_start(tmp_path):
    script = """
    options("-O", "-X", "utf8", "-X", "dev")
    def flags():
        assert False, "is not run with -O"
        return sys.flags.optimize, sys.flags.utf8_mode, sys.flags.dev_mode, __debug__
    if __name__ == "__main__":
        before = dict(os.environ)
        with ChunkExecutor(1) as executor:
            say(executor.submit(flags).result(), flags())
        say(dict(os.environ) == before)
    """
    environment = {"LC_ALL": "C.UTF-8", "PYTHONWARNINGS": "ignore"}
    end(start(OPTIONS + script.replace("\n    ", "\n"), tmp_path, **environment))
    flags = "(1, 1, True, False)"
    assert (tmp_path / "said").read_text().splitlines() == [f"{flags} {flags}", "True"]


def test_the_stack_of_a_crash_is_shown(joined, tmp_path):
    script = """
    import ctypes
    def crash(): ctypes.string_at(0)
    with ChunkExecutor(1) as executor:
        print(type(executor.submit(crash).exception()).__name__)
    """
    lines, err = end(start(script, tmp_path, **joined))
    assert lines == ["WorkerLost"]
    assert "Segmentation fault" in err
    assert "in crash" in err
