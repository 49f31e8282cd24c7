"""Log records of calls, handled by the driver's loggers."""

from __future__ import annotations

import enum
import logging
import os
import threading
import time
import warnings

import pytest
from fake_cluster import FakeExecutor

from thread_chunks import WorkerLost, config
from thread_chunks._ray.logs import Logs
from thread_chunks._ray.runtime import RayRuntime
from thread_chunks.errors import ExecutorBroken

log = logging.getLogger("calls")


def say(level, *message, **more):
    logging.getLogger("calls.inner").log(level, *message, **more)
    return os.getpid()


def messages(caplog):
    return [record.getMessage() for record in caplog.records if record.name.startswith("calls")]


@pytest.fixture
def forwarding(make):
    return make(1, forward_logging=True)


@pytest.fixture
def on_ray(executor_on_ray):
    return executor_on_ray(1, forward_logging=True)


@pytest.fixture(autouse=True)
def _levels(caplog):
    with caplog.at_level(logging.INFO, "calls"):
        yield


def test_records_are_handled_once_the_outcome_is_there(forwarding, caplog):
    for number in range(50):
        forwarding.submit(say, logging.INFO, "record %d", number).result()
        assert messages(caplog) == [f"record {each}" for each in range(number + 1)]


def test_records_of_a_series_come_in_order_and_have_their_attributes(forwarding, caplog):
    def f(number):
        log.warning("number %s of %s", number, "all", extra={"number": number, "squares": [number**2]})
        return os.getpid()

    pids = set(forwarding.map(f, range(100)))
    assert messages(caplog) == [f"number {number} of all" for number in range(100)]
    last = caplog.records[-1]
    assert (last.number, last.squares, last.args, last.msg) == (99, [9801], (99, "all"), "number %s of %s")
    assert (last.process, last.funcName, last.levelname) == (*pids, "f", "WARNING")


class Unpicklable:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return f"<{self.text}>"

    def __reduce__(self):
        raise TypeError("it stays where it is")


class Unreadable:
    def __repr__(self):
        return "<unreadable>"

    def __reduce__(self):
        return _fail, ()


def _fail():
    raise LookupError("it cannot be rebuilt")


def test_what_cannot_be_pickled_arrives_as_text(forwarding, caplog):
    def f():
        log.info("%s and %r", threading.Lock(), Unpicklable("that"), extra={"more": Unpicklable("more")})
        log.info("%s", Unreadable())
        log.info("%(key)s", {"key": Unpicklable("key")})
        log.info(Unpicklable("alone"))
        log.info("%d numbers: %s", 3, [1, 2, 3])

    forwarding.submit(f).result()
    first, *rest = messages(caplog)
    assert first.startswith("<unlocked _thread.lock object")
    assert first.endswith("> and <that>")
    assert rest == ["<unreadable>", "<key>", "<alone>", "3 numbers: [1, 2, 3]"]
    assert repr(caplog.records[0].more).strip("'") == "<more>"
    assert caplog.records[-1].args == (3, [1, 2, 3])


def test_exceptions(forwarding, caplog):
    class Mine(Exception):
        def __init__(self, lock):
            super().__init__("mine")
            self.lock = lock

    def f(error):
        try:
            raise Mine(threading.Lock()) if error is None else error
        except Exception:
            log.exception("failed", stack_info=True)

    forwarding.submit(f, KeyError("k")).result()
    forwarding.submit(f, None).result()
    known, unknown = caplog.records
    assert known.exc_info[0] is KeyError
    assert known.exc_info[1].args == ("k",)
    assert "in f" in known.stack_info
    for record, last in ((known, "KeyError: 'k'"), (unknown, "Mine: mine")):
        text = logging.Formatter().format(record)
        assert text.startswith("failed\nTraceback")
        assert last in text.split("Stack (most recent call last)")[0].splitlines()[-1]


def test_the_initializer(make, caplog):
    executor = make(1, initializer=say, initargs=(logging.INFO, "initialized"), forward_logging=True)
    executor.submit(say, logging.INFO, "called").result()
    assert messages(caplog) == ["initialized", "called"]

    def fail():
        log.info("about to fail")
        raise LookupError

    broken = make(1, initializer=fail, forward_logging=True)
    with pytest.raises(ExecutorBroken):
        broken.submit(int).result()
    assert messages(caplog)[2:] == ["about to fail"]


def test_levels_are_those_of_the_driver_at_any_time(forwarding, caplog):
    def views():
        names = [None, "calls", "calls.inner", "calls.other", "elsewhere"]
        return [(logging.getLogger(name).isEnabledFor(10), logging.getLogger(name).isEnabledFor(20)) for name in names]

    def here():
        return forwarding.submit(views).result() == views()

    assert here()
    with caplog.at_level(logging.DEBUG, "calls.other"), caplog.at_level(logging.ERROR, "calls"):
        assert here()
    assert here()
    with caplog.at_level(logging.DEBUG):
        assert here()
    logging.disable(logging.CRITICAL)
    assert here()
    logging.disable(logging.NOTSET)
    assert here()
    assert forwarding.submit(logging.getLogger("calls.other").setLevel, logging.ERROR).result() is None
    forwarding.submit(logging.getLogger("calls.other").warning, "hidden").result()
    assert forwarding.submit(lambda: logging.getLogger("calls.other").level).result() == logging.ERROR
    logging.getLogger("calls.other").setLevel(logging.NOTSET)
    assert messages(caplog) == []


def test_filters_and_handlers_are_those_of_the_driver(forwarding, caplog, tmp_path):
    logger = logging.getLogger("calls.filed")
    handler = logging.FileHandler(tmp_path / "log")
    handler.setFormatter(logging.Formatter("%(levelname)s %(process)d %(message)s"))
    logger.addHandler(handler)
    logger.addFilter(lambda record: "secret" not in record.getMessage())
    logger.propagate = False

    def f():
        for text in ("open", "secret"):
            logging.getLogger("calls.filed").info(text)
        return os.getpid()

    try:
        pid = forwarding.submit(f).result()
    finally:
        logger.handlers.clear()
        logger.filters.clear()
        logger.propagate = True
        handler.close()
    assert (tmp_path / "log").read_text() == f"INFO {pid} open\n"
    assert messages(caplog) == []


def test_a_filter_that_fails_costs_its_record_alone(forwarding, caplog, capsys):
    def fail(record):
        if record.getMessage() == "bad":
            raise LookupError
        return True

    logger = logging.getLogger("calls.inner")
    logger.addFilter(fail)
    try:
        future = forwarding.submit(say, logging.INFO, "bad")
        if isinstance(forwarding, FakeExecutor):  # there the filter is the call's
            assert isinstance(future.exception(), LookupError)
        else:
            assert future.result()
            assert "Logging error" in capsys.readouterr().err
        forwarding.submit(say, logging.INFO, "good").result()
    finally:
        logger.removeFilter(fail)
    assert messages(caplog) == ["good"]


def test_a_factory_of_records_that_fails_costs_no_outcome(on_ray, capsys):
    def fail(*args, **kwargs):
        raise SystemExit

    factory = logging.getLogRecordFactory()
    logging.setLogRecordFactory(fail)
    try:
        assert on_ray.submit(say, logging.INFO, "lost").result(60)
    finally:
        logging.setLogRecordFactory(factory)
    assert "Logging error" in capsys.readouterr().err


def test_a_handler_may_use_the_executor(forwarding, caplog):
    class Submitting(logging.Handler):
        def emit(self, record):
            futures.append(forwarding.submit(abs, -1))

    futures = []
    handler = Submitting()
    log.addHandler(handler)
    try:
        forwarding.submit(say, logging.INFO, "record").result()
    finally:
        log.removeHandler(handler)
    assert [future.result() for future in futures] == [1]


def test_a_handler_may_wait_for_the_executor(on_ray):
    class Waiting(logging.Handler):
        def emit(self, record):
            values.append(on_ray.submit(abs, -1).result(60))

    values = []
    handler = Waiting()
    log.addHandler(handler)
    try:
        assert on_ray.submit(say, logging.INFO, "record").result(60)
        while not values:
            time.sleep(0.01)
    finally:
        log.removeHandler(handler)
    assert values == [1]


class Level(enum.IntEnum):
    """Levels that a library of the user's may define; a worker cannot import this one from `__main__`."""

    NOTICE = 25


def test_levels_that_are_enums(on_ray, caplog, capsys):
    def fail(record):
        raise LookupError

    def notice():
        logging.getLogger("calls.inner").log(Level.NOTICE, "noticed")

    assert on_ray.submit(abs, -1).result(60) == 1  # the worker is up before the levels change
    inner = logging.getLogger("calls.inner")
    inner.setLevel(Level.NOTICE)
    try:
        on_ray.submit(notice).result(60)
        assert messages(caplog) == ["noticed"]
        inner.addFilter(fail)
        on_ray.submit(notice).result(60)
    finally:
        inner.removeFilter(fail)
        inner.setLevel(logging.NOTSET)
    assert "Logging error" in capsys.readouterr().err


def test_nothing_is_forwarded_unless_asked_for(make, executor_class, caplog):
    make(1).submit(say, logging.WARNING, "unseen" if executor_class is not FakeExecutor else "").result()
    assert "unseen" not in caplog.text


def test_the_default_is_that_of_the_configuration(make, monkeypatch, caplog):
    monkeypatch.setattr(config, "forward_logging", True)
    make.fresh(1).submit(say, logging.INFO, "seen").result()
    make.fresh(1, forward_logging=False).submit(len, "").result()
    assert messages(caplog) == ["seen"]


# What follows needs processes.


def test_without_a_channel_records_come_with_the_outcomes(executor_on_ray, monkeypatch, caplog):
    monkeypatch.setattr(RayRuntime, "channels", None)
    executor = executor_on_ray(1, initializer=say, initargs=(logging.INFO, "initialized"), forward_logging=True)
    executor.submit(say, logging.INFO, "%s", ["called"]).result()
    assert messages(caplog) == ["initialized", "['called']"]
    assert len(set(executor.map(lambda x: say(logging.INFO, "%d", x), range(5)))) == 1
    assert messages(caplog)[2:] == ["0", "1", "2", "3", "4"]


def test_a_worker_that_dies_has_sent_its_records(on_ray, caplog):
    def die():
        for number in range(100):
            log.info("record %d", number)
        os._exit(1)

    with pytest.raises(WorkerLost):
        on_ray.submit(die).result()
    assert messages(caplog) == [f"record {number}" for number in range(100)]
    on_ray.submit(say, logging.INFO, "another worker").result()
    assert messages(caplog)[-1] == "another worker"


def test_large_arguments_and_values(on_ray, caplog):
    def f(data):
        log.info("got %d bytes", len(data))
        log.info("%s", data)
        return data

    assert len(on_ray.submit(f, bytes(5_000_000)).result()) == 5_000_000
    assert messages(caplog)[0] == "got 5000000 bytes"
    assert len(messages(caplog)) == 2


def test_records_that_no_handler_wants_are_not_sent(on_ray, monkeypatch, caplog):
    came = []
    take = Logs.take
    monkeypatch.setattr(Logs, "take", lambda logs, logged: came.append(logged.fields["msg"]) or take(logs, logged))
    logger = logging.getLogger("calls.deaf")
    handler = logging.NullHandler(logging.ERROR)
    logger.addHandler(handler)
    logger.propagate = False

    def f():
        log.debug("below the logger's level")
        logging.getLogger("calls.deaf").info("below the handler's level")
        logging.getLogger("calls.deaf").error("taken")
        logging.getLogger("ray").error("Ray's own")

    try:
        on_ray.submit(f).result()
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    assert came == ["taken"]


def test_a_signal_handler_that_logs_in_the_middle_of_another_record(on_ray, caplog):
    def f():
        import signal

        signal.signal(signal.SIGALRM, lambda *_: log.info("alarm"))
        signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
        for _ in range(2000):
            log.info("record")
        signal.setitimer(signal.ITIMER_REAL, 0)

    on_ray.submit(f).result()
    assert messages(caplog).count("record") == 2000
    assert messages(caplog).count("alarm") > 0


def test_a_forked_child_of_a_call_forwards_nothing_and_breaks_nothing(on_ray, caplog):
    def f():
        if (pid := os.fork()) == 0:
            log.warning("in a child")
            os._exit(0)
        return os.waitpid(pid, 0)[1]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert on_ray.submit(f).result() == 0
    on_ray.submit(say, logging.INFO, "after it").result()
    assert messages(caplog) == ["after it"]


def test_warnings_are_logged_as_in_the_driver(executor_on_ray, caplog):
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            executor = executor_on_ray.fresh(1, forward_logging=True)
            executor.submit(warnings.warn, "look").result()
    finally:
        logging.captureWarnings(False)
    assert [record.name for record in caplog.records if "look" in record.getMessage()] == ["py.warnings"]


def test_a_thread_of_the_call_logs_too(on_ray, caplog):
    def f():
        thread = threading.Thread(target=log.info, args=("in a thread",))
        thread.start()
        thread.join()

    on_ray.submit(f).result()
    assert messages(caplog) == ["in a thread"]


def test_slow_handlers_hold_up_no_other_executor(on_ray, executor_on_ray, caplog):
    class Slow(logging.Handler):
        def emit(self, record):
            go_on.wait(60)

    go_on, handler = threading.Event(), Slow()
    log.addHandler(handler)
    try:
        waiting = on_ray.submit(say, logging.INFO, "slow")
        assert executor_on_ray(1).submit(abs, -1).result(60) == 1
        assert not waiting.done()
    finally:
        go_on.set()
        log.removeHandler(handler)
    assert waiting.result()
