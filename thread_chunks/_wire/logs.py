"""Which log records the driver wants of its workers, and what takes them there."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .._system.forks import in_forked_children

_NEVER = sys.maxsize  # a level that no record has
_UNSET = (logging.NOTSET, _NEVER)


@dataclass(slots=True)
class Levels:
    """The levels of the driver's loggers and handlers.

    Attributes
    ----------
    disabled : int
        As for ``logging.disable``.
    loggers : dict
        By name, of each logger that sets anything: its own level, and the lowest one that a handler takes which its
        records reach. The root logger is among them.
    warnings : bool
        Whether warnings are logged, as by ``logging.captureWarnings``.
    """

    disabled: int
    loggers: dict[str, tuple[int, int]]
    warnings: bool

    @classmethod
    def here(cls) -> Levels:
        """Return the levels of this process."""
        manager = logging.root.manager
        loggers: list[logging.Logger] = [logging.root]
        loggers += [each for each in list(manager.loggerDict.values()) if isinstance(each, logging.Logger)]
        return cls(
            int(manager.disable),  # levels may be enums of the user's, which a worker need not know
            {each.name: (int(each.level), _lowest(each)) for each in loggers if _sets_anything(each)},
            getattr(warnings.showwarning, "__module__", "") == logging.__name__,
        )

    def take_over(self, before: Levels | None) -> None:
        """Let them be the levels of this process, as far as they have changed: the rest may be what a call has set."""
        old = {} if before is None else before.loggers
        for name in {*old, *self.loggers}:
            level, _ = self.loggers.get(name, _UNSET)
            if before is None or level != old.get(name, _UNSET)[0]:
                logging.getLogger(name).setLevel(level)
        if before is None or self.disabled != before.disabled:
            logging.disable(self.disabled)
        if before is None or self.warnings != before.warnings:
            logging.captureWarnings(self.warnings)

    def wants(self, record: logging.LogRecord) -> bool:
        """Return whether a handler of the driver takes a record."""
        name = record.name
        while name and name not in self.loggers:
            name = name.rpartition(".")[0]
        return not _is_rays(record.name) and record.levelno >= self.loggers[name or logging.root.name][1]


def _sets_anything(logger: logging.Logger) -> bool:
    if _is_rays(logger.name):
        return False
    return logger is logging.root or bool(logger.level or logger.handlers or logger.disabled or not logger.propagate)


def _is_rays(name: str) -> bool:
    return name == "ray" or name.startswith("ray.")


def _lowest(logger: logging.Logger) -> int:
    """Return the lowest level that a handler takes which a logger's records reach."""
    if logger.disabled:
        return _NEVER
    levels = [int(handler.level) for each in _passed(logger) for handler in each.handlers]
    last_resort = _NEVER if logging.lastResort is None else logging.lastResort.level
    return min(levels, default=last_resort)


def _passed(logger: logging.Logger) -> Iterator[logging.Logger]:
    each: logging.Logger | None = logger
    while each is not None:
        yield each
        each = each.parent if each.propagate else None


class Forwarder(logging.Handler):
    """Takes the records of a worker that the driver wants, at the root of its loggers.

    Attributes
    ----------
    take : callable or None
        Takes a record, for the executor whose call runs or ran last; None if that wants none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.take: Callable[[logging.LogRecord], None] | None = None
        self._levels: Levels | None = None
        in_forked_children(self.end)  # the channel is the worker's alone

    def begin(self, levels: Levels) -> None:
        """Take records from now on, or at other levels."""
        before, self._levels = self._levels, levels
        levels.take_over(before)
        logging.root.addHandler(self)

    def end(self) -> None:
        """Take no more."""
        logging.root.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on if the driver wants it."""
        if self.take is not None and self._levels is not None and self._levels.wants(record):
            try:
                self.take(record)
            except Exception:
                self.handleError(record)
