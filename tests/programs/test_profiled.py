"""Programs that a profiler, a debugger or a measurement of coverage looks at."""

from __future__ import annotations

from scripts import run


def test_a_profiler_that_starts_while_the_executor_lives(joined, tmp_path):
    script = """
    import cProfile
    def use(executor):
        return list(executor.map(abs, [-1, -2]))
    with ChunkExecutor(1) as executor:
        profile = cProfile.Profile()
        print(profile.runcall(use, executor))
        print("use" in {entry.code.co_name for entry in profile.getstats() if not isinstance(entry.code, str)})
    """
    assert run(script, tmp_path, **joined) == ["[1, 2]", "True"]


def test_a_tracer_of_threads(joined, tmp_path):
    script = """
    seen = set()
    def trace(frame, event, arg):
        seen.add((threading.current_thread().name, frame.f_code.co_name))
    def traced(): pass
    def look():
        thread = threading.Thread(target=traced, name="own")
        thread.start()
        thread.join()
    threading.settrace(trace)
    with ChunkExecutor(1) as executor:
        print(executor.submit(abs, -1).result())
        look()
    print(threading.gettrace() is trace, ("own", "traced") in seen)
    print([name for name, _ in seen if name == "ray_listen_error_messages"])
    print(any(name == "thread_chunks-dispatcher" for name, _ in seen))
    """
    assert run(script, tmp_path, **joined) == ["1", "True True", "[]", "True"]
