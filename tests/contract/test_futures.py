"""Futures are those of `concurrent.futures`; nothing refers to what is resolved."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import gc
import threading
import time
import traceback
import weakref

import pytest
from functions import note_and_wait, square, wait_for
from insides import with_thread


def test_wait_and_as_completed(make):
    executor = make(2)
    futures = {executor.submit(square, x) for x in range(5)}
    done, pending = cf.wait(futures, timeout=60)
    assert (done, pending) == (futures, set())
    assert {future.result() for future in cf.as_completed(futures)} == {0, 1, 4, 9, 16}


def test_asyncio(make):
    executor = make(2)

    async def main():
        loop = asyncio.get_running_loop()
        wrapped = asyncio.wrap_future(executor.submit(square, 3))
        return await asyncio.gather(wrapped, *(loop.run_in_executor(executor, square, x) for x in range(10)))

    assert asyncio.run(main()) == [9, *(x * x for x in range(10))]


def test_cancel_until_started(make, tmp_path):
    executor = make(1)
    running = executor.submit(note_and_wait, tmp_path, "started", "go")
    wait_for(tmp_path / "started")
    waiting = executor.submit(square, 3)
    assert running.running()
    assert not running.cancel()
    assert waiting.cancel()
    (tmp_path / "go").touch()
    assert running.result() == "started"
    with pytest.raises(cf.CancelledError):
        waiting.result()
    assert cf.wait([waiting], timeout=60).done == {waiting}


def test_callbacks(make, caplog, tmp_path):
    executor, later, broken = make(1), cf.Future(), threading.Event()

    def fail(_):
        broken.set()
        raise SystemExit

    blocker = executor.submit(note_and_wait, tmp_path, "started", "go")  # so that the callbacks run in their thread
    executor.submit(square, 2).add_done_callback(fail)
    executor.submit(square, 2).add_done_callback(lambda _: later.set_result(executor.submit(square, 5)))
    (tmp_path / "go").touch()
    assert blocker.result() == "started"
    assert later.result(60).result(60) == 25
    assert broken.is_set()


def test_callback_that_exits_when_it_is_cancelled(make, tmp_path):
    def fail(_):
        raise SystemExit

    executor = make.fresh(1)
    running = executor.submit(note_and_wait, tmp_path, "started", "go")
    waiting = [executor.submit(square, x) for x in range(3)]
    waiting[0].add_done_callback(fail)
    wait_for(tmp_path / "started")
    executor.shutdown(wait=False, cancel_futures=True)
    assert cf.wait(waiting, timeout=60).not_done == set()
    (tmp_path / "go").touch()
    assert running.result(60) == "started"


def test_callback_that_waits_for_the_end_is_refused(make, tmp_path):
    executor, error = make(1), cf.Future()

    def end(_):
        try:
            executor.shutdown(wait=True)
        except RuntimeError as raised:
            error.set_result(str(raised))

    executor.submit(note_and_wait, tmp_path, "started", "go").add_done_callback(end)
    (tmp_path / "go").touch()
    assert "shutdown(wait=False)" in error.result(60)


def test_nothing_refers_to_what_is_resolved(make, tmp_path, request):
    executor = make(1)
    gc.collect()
    request.addfinalizer(gc.enable)
    gc.disable()

    class Thing:
        pass

    class Boom(Exception):
        pass

    def boom(thing):
        raise Boom(thing)

    def gone(reference):  # without a garbage collection, until which gigabytes might pile up
        deadline = time.monotonic() + 20
        while reference() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        return reference() is None

    argument = Thing()
    reference = weakref.ref(argument)
    value = executor.submit(lambda thing: Thing(), argument).result()
    assert type(value) is Thing
    del argument
    assert gone(reference)
    reference = weakref.ref(value)
    del value
    assert gone(reference)
    value = next(executor.map(lambda x: Thing(), [1]))
    reference = weakref.ref(value)
    del value
    assert gone(reference)
    error = executor.submit(boom, Thing()).exception()
    reference = weakref.ref(error)
    del error
    assert gone(reference)
    # A cancelled call lets its arguments go, though it still stands in the queue.
    blocker = executor.submit(note_and_wait, tmp_path, "started", "go")
    argument = Thing()
    reference = weakref.ref(argument)
    executor.submit(square, argument).cancel()
    del argument
    assert gone(reference)
    (tmp_path / "go").touch()
    assert blocker.result() == "started"


@pytest.mark.parametrize("overridden", [False, True])
@pytest.mark.parametrize("how", ["error", "time-out", "input"])
def test_an_error_of_map_that_is_kept_keeps_nothing_else(executor_class, request, tmp_path, how, overridden):
    class Thing:
        pass

    class Overriding(executor_class):
        def submit(self, fn, /, *args, **kwargs):
            return super().submit(fn, *args, **kwargs)

    def f(x):
        if x == 0 and how == "error":
            wait_for(tmp_path / "2")
            raise LookupError
        if x == 0 and how == "time-out":
            wait_for(tmp_path / "go")
        (tmp_path / str(x)).touch()
        return Thing()

    def source():
        yield from range(4)
        if how == "input":
            raise LookupError

    gc.collect()
    request.addfinalizer(gc.enable)
    gc.disable()
    executor, thread = with_thread(Overriding if overridden else executor_class, 2)
    values = executor.map(f, source(), buffersize=4, timeout=0.5 if how == "time-out" else None)
    seen = []
    with pytest.raises((LookupError, cf.TimeoutError)) as caught:
        seen.extend(weakref.ref(value) for value in values)
    (tmp_path / "go").touch()
    del executor, values
    thread.join(60)  # the executor ends, which was dropped
    assert not thread.is_alive()
    frames = [frame.f_locals for frame, _ in traceback.walk_tb(caught.tb)]
    assert not [name for names in frames for name, value in names.items() if isinstance(value, Thing)]
    assert all(reference() is None for reference in seen)


def test_values_of_map_are_not_kept(make):
    class Thing:
        pass

    for value in make(2).map(lambda x: Thing(), range(10)):
        reference = weakref.ref(value)
        del value
        assert reference() is None
