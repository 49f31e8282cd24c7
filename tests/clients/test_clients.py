"""Libraries that take an executor or a map function, each used as in its documentation."""

from __future__ import annotations

import asyncio
import compileall
import concurrent.futures
import importlib
import multiprocessing
import operator
import os

import pytest

from thread_chunks import ChunkExecutor
from thread_chunks._calls.calls import Call
from thread_chunks._calls.series import Series
from thread_chunks._dispatch.inbox import Inbox

pytestmark = [
    pytest.mark.filterwarnings("default"),  # theirs are not ours to mend
    pytest.mark.usefixtures("ray_up"),
]


_seen = []  # the objects that the present test gave to an executor


@pytest.fixture(autouse=True)
def _work_is_done_by_workers(monkeypatch):
    """See to it that the library did not go on without the executor."""
    _seen.clear()
    admit = Inbox.admit
    monkeypatch.setattr(Inbox, "admit", lambda self, work: _seen.append(type(work)) or admit(self, work))
    yield
    assert {Call, Series, "skipped"}.intersection(_seen)


def library(name):
    """Import a library; where all must be there (in CI), a missing one is an error."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if "THREAD_CHUNKS_CLIENTS" in os.environ:
            raise
        _seen.append("skipped")
        pytest.skip(f"{name} is not installed")


@pytest.fixture
def executor(ray_up):
    with ChunkExecutor(2) as executor:
        yield executor


def square(x):
    return x * x


def bowl(x):
    return float(sum((v - 1) ** 2 for v in x))


def log_gauss(x):
    return -0.5 * float(sum(v * v for v in x))


def test_asyncio(executor):
    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, square, x) for x in range(20)))

    assert asyncio.run(main()) == [x * x for x in range(20)]


def test_tqdm(monkeypatch, capsys):
    concurrent_tqdm = library("tqdm.contrib.concurrent")
    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", ChunkExecutor)
    tqdm = concurrent_tqdm.tqdm_auto
    with multiprocessing.get_context("spawn").Manager() as manager:
        own = tqdm.get_lock()
        tqdm.set_lock(manager.RLock())  # its own is one that only child processes can inherit
        try:
            values = concurrent_tqdm.process_map(square, range(20), max_workers=2, chunksize=5)
        finally:
            tqdm.set_lock(own)
    assert values == [x * x for x in range(20)]
    assert "20/20" in capsys.readouterr().err


def test_compileall(tmp_path, monkeypatch):
    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", ChunkExecutor)
    for name in "abc":
        (tmp_path / f"{name}.py").write_text(f"{name} = 1\n")
    assert compileall.compile_dir(tmp_path, workers=2, quiet=1)
    assert len(list((tmp_path / "__pycache__").iterdir())) == 3


@pytest.mark.parametrize("scheduler", ["processes", "threads"])
def test_dask(executor, scheduler):
    dask = library("dask")
    total = dask.delayed(sum)([dask.delayed(square)(x) for x in range(10)])
    with dask.config.set(pool=executor, scheduler=scheduler):
        assert total.compute() == 285


def test_scipy(executor):
    optimize = library("scipy.optimize")
    integrate = library("scipy.integrate")
    found = optimize.differential_evolution(
        bowl, [(-3, 3)] * 2, workers=executor.map, updating="deferred", maxiter=20, rng=1
    )
    assert found.fun < 0.1
    assert optimize.brute(bowl, [(0, 2)], Ns=5, workers=executor.map, finish=None) == 1
    value, _ = integrate.quad_vec(square, 0, 1, workers=executor.map)
    assert value == pytest.approx(1 / 3)


def test_emcee(executor):
    emcee = library("emcee")
    numpy = library("numpy")
    sampler = emcee.EnsembleSampler(8, 2, log_gauss, pool=executor)
    sampler.run_mcmc(numpy.random.default_rng(1).normal(size=(8, 2)), 20)
    assert sampler.get_chain().shape == (20, 8, 2)


def test_dynesty(executor):
    dynesty = library("dynesty")
    sampler = dynesty.NestedSampler(log_gauss, scale, 2, nlive=30, pool=executor, queue_size=2)
    sampler.run_nested(maxiter=60, print_progress=False)
    assert len(sampler.results.logl) >= 60


def scale(u):
    return 4 * u - 2


def test_adaptive(executor):
    adaptive = library("adaptive")
    learner = adaptive.Learner1D(square, bounds=(-1, 1))
    adaptive.BlockingRunner(learner, npoints_goal=20, executor=executor, ntasks=2)
    assert learner.npoints >= 20


def test_nevergrad(executor):
    nevergrad = library("nevergrad")
    optimizer = nevergrad.optimizers.OnePlusOne(parametrization=2, budget=40, num_workers=2)
    assert len(optimizer.minimize(bowl, executor=executor, batch_mode=False).value) == 2


def test_pymoo(executor):
    library("pymoo")
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.optimize import minimize
    from pymoo.parallelization import StarmapParallelization

    class Bowl(ElementwiseProblem):
        def __init__(self, **kwargs):
            super().__init__(n_var=2, n_obj=1, xl=-2, xu=2, **kwargs)

        def _evaluate(self, x, out, *args, **kwargs):
            out["F"] = bowl(x)

    problem = Bowl(elementwise_runner=StarmapParallelization(executor.starmap))
    assert minimize(problem, GA(pop_size=10), ("n_gen", 5), seed=1).F[0] < 2


def test_more_executors(executor):
    executors = library("more_executors").Executors
    with executors.with_map(executor, operator.neg).with_retry() as wrapped:
        assert [future.result() for future in [wrapped.submit(square, x) for x in range(5)]] == [0, -1, -4, -9, -16]


def test_streamable(executor):
    streamable = library("streamable")
    assert list(streamable.stream(range(20)).map(square, concurrency=executor)) == [x * x for x in range(20)]
