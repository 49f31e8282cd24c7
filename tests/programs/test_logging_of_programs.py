"""Log records of calls reach the handlers that a program has set up."""

from __future__ import annotations

from scripts import end, run, start


def test_a_script_with_files_and_streams(joined, tmp_path):
    script = """
    import logging, logging.handlers, multiprocessing
    logging.basicConfig(filename="all", filemode="w", level=10, format="%(levelname)s %(name)s %(message)s")
    logger = logging.getLogger(__name__)  # with handlers that no worker can have
    file = logging.FileHandler("mine")
    file.setLevel(logging.INFO)
    stream = logging.StreamHandler()
    stream.setLevel(logging.ERROR)
    logger.addHandler(file)
    logger.addHandler(stream)
    logger.addHandler(logging.handlers.QueueHandler(multiprocessing.Queue()))
    logger.handlers[-1].queue.cancel_join_thread()
    def f(x):
        logging.basicConfig(level=logging.DEBUG)  # as some library does: it is set up already
        logger.debug("debug %d", x)
        logger.info("info %d", x)
        logger.error("error %d", x)
        return x
    def nested():
        with ChunkExecutor(1, forward_logging=True) as inner:
            return inner.submit(f, 7).result()
    config.forward_logging = True
    print(chunk(f, [[0], [1]]))
    with ChunkExecutor(1) as executor:
        print(executor.submit(nested).result())
    """
    lines, err = end(start(script, tmp_path, **joined))
    assert lines == ["[0, 1]", "7"]
    assert sorted(err.splitlines()) == [f"error {x}" for x in (0, 1, 7)]
    assert sorted((tmp_path / "mine").read_text().splitlines()) == sorted(
        f"{level} {x}" for x in (0, 1, 7) for level in ("info", "error")
    )
    records = [line for line in (tmp_path / "all").read_text().splitlines() if "__main__" in line]
    assert sorted(records) == sorted(
        f"{level.upper()} __main__ {level} {x}" for x in (0, 1, 7) for level in ("debug", "info", "error")
    )


def test_actors_of_the_user(joined, tmp_path):
    script = """
    import logging
    logging.basicConfig(filename="all", level=logging.INFO, format="%(message)s")
    ray.init(**QUIET)
    actors = [RemoteLabelledActor.remote(None)]
    with ChunkExecutor(logging.info, actors=actors, forward_logging=True) as executor:
        with ChunkExecutor(logging.info, actors=actors) as other:
            executor.submit(None, "asked for").result()
            other.submit(None, "not asked for").result()
            executor.submit(None, "asked for, too").result()
    with ChunkExecutor(logging.warning, actors=actors) as executor:
        executor.submit(None, "on the actor's own").result()
    """
    assert run(script, tmp_path, **joined) == []
    assert (tmp_path / "all").read_text().splitlines() == ["asked for", "asked for, too"]
