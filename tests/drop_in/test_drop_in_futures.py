"""Futures do what those of `ProcessPoolExecutor` do, with asyncio, too."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import logging

import pytest
from scenarios import SCENARIOS, agree, identity, raised, scenario, touch, touch_and_wait, wait_for


@scenario
def a_future_is_cancelled_until_it_runs(make, folder):
    executor = make(1)
    running = executor.submit(touch_and_wait, folder)
    wait_for(folder / "started")
    waiting = [executor.submit(identity, x) for x in range(5)]  # the process pool has taken in a few of them
    last = waiting[-1]
    seen = [running.running(), running.done(), running.cancel(), last.cancel(), last.cancelled(), last.running()]
    (folder / "go").touch()
    seen += [running.result(), running.done(), running.cancel(), raised(last.result), waiting[0].result()]
    return [*seen, cf.wait(waiting, timeout=60).not_done]


@scenario
def callbacks(make, folder):
    records, seen, chained = [], [], cf.Future()
    handler = logging.Handler()
    handler.emit = lambda record: records.append((record.name, record.levelname, record.getMessage()[:27]))
    logger = logging.getLogger("concurrent.futures")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        executor = make(1)
        blocker = executor.submit(touch_and_wait, folder)
        future = executor.submit(identity, 2)
        future.add_done_callback(lambda done: 1 / 0)
        future.add_done_callback(lambda done: seen.append(done is future))
        future.add_done_callback(lambda done: chained.set_result(executor.submit(identity, done.result() + 1)))
        (folder / "go").touch()
        blocker.result()
        last = chained.result(60).result(60)
        future.add_done_callback(lambda done: seen.append("at once"))
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    return records, seen, last


@scenario
def waiting_for_futures(make, folder):
    executor, seen = make(2), []
    slow = executor.submit(touch_and_wait, folder)
    wait_for(folder / "started")
    fast, bad = executor.submit(identity, 1), executor.submit(divmod, 1, 0)
    for until in (cf.FIRST_COMPLETED, cf.FIRST_EXCEPTION):
        done, not_done = cf.wait([slow, fast, bad], timeout=60, return_when=until)
        seen.append((slow in not_done, bool(done)))
    cf.wait([fast, bad])
    seen.append(len(cf.wait([slow, fast, fast, bad], timeout=0.05).done))
    seen.append(raised(list, cf.as_completed([slow, fast, fast], timeout=0.05)))
    (folder / "go").touch()
    seen.append(len(cf.wait([slow, fast, bad], return_when=cf.ALL_COMPLETED).done))
    seen.append(len(list(cf.as_completed([slow, slow, fast, bad]))))
    return seen


@scenario
def asyncio_gathers_a_thousand_calls(make, folder):
    executor = make(2)

    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, identity, x) for x in range(1000)))

    return asyncio.run(main()) == list(range(1000))


@scenario
def asyncio_cancels_a_call_that_waits(make, folder):
    executor = make(1)

    async def main():
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(executor, touch_and_wait, folder)
        while not (folder / "started").exists():
            await asyncio.sleep(0.005)
        waiting = [loop.run_in_executor(executor, touch, folder / str(x)) for x in range(5)]
        waiting[-1].cancel()
        outcomes = [raised_in(error) for error in await asyncio.gather(waiting[-1], return_exceptions=True)]
        (folder / "go").touch()
        return outcomes, await running

    def raised_in(error):
        return type(error).__name__

    outcome = asyncio.run(main())
    executor.shutdown()
    return outcome, (folder / "4").exists()


@pytest.mark.parametrize("function", SCENARIOS[__name__], ids=lambda function: function.__name__)
def test_scenario(function, make, on_process_pool, tmp_path):
    agree(function, make, on_process_pool, tmp_path)
