"""Log records to messages, and back."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from ..errors import PicklingFailed, UnpicklingFailed
from .pickling import PLAIN, Packed, describe, pack, pack_error, unpack, unpack_error
from .protocol import LARGEST_BY_CHANNEL, Logged

_formatter = logging.Formatter()


def pack_record(record: logging.LogRecord) -> Logged:
    """Return a record as it travels; never fails. What cannot be pickled of it becomes text."""
    attributes = {**vars(record), "levelno": int(record.levelno)}  # which may be an enum of the user's
    logged = Logged({name: value for name, value in attributes.items() if _is_plain(value)})
    others = {name: value for name, value in attributes.items() if name not in logged.fields}
    info = others.pop("exc_info", None)
    if info is not None:
        logged.fields["exc_text"] = record.exc_text or _formatter.formatException(info)
        error = pack_error(info[1])
        logged.error = None if error.references else error
    if "msg" in others or "args" in others:
        others = {name: value for name, value in others.items() if name not in ("msg", "args")}
        logged.message = _packed((record.msg, record.args))
        logged.fields |= {"msg": _text(record), "args": None}
    for name, value in others.items():
        packed = _packed(value)
        if packed is None:
            logged.fields[name] = _shown(value)
        else:
            logged.extras[name] = packed
    return logged


def unpack_record(logged: Logged) -> logging.LogRecord:
    """Rebuild a record; what cannot be rebuilt of it is text."""
    record = logging.makeLogRecord(logged.fields)
    if logged.message is not None:
        with suppress(UnpicklingFailed):
            record.msg, record.args = unpack(logged.message)
    for name, packed in logged.extras.items():
        try:
            setattr(record, name, unpack(packed))
        except UnpicklingFailed as failure:
            setattr(record, name, str(failure))
    if logged.error is not None:
        error = unpack_error(logged.error)
        record.exc_info = type(error), error, error.__traceback__
    return record


def _is_plain(value: Any) -> bool:
    return type(value) in PLAIN or (type(value) is tuple and PLAIN.issuperset(map(type, value)))


def _packed(value: Any) -> Packed | None:
    """Return what travels by the channel; None if it cannot."""
    try:
        packed = pack(value, by_file=False)
    except PicklingFailed:
        return None
    return None if packed.references or packed.size > LARGEST_BY_CHANNEL else packed


def _text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # the arguments do not fit the message
        return f"{_shown(record.msg)} {_shown(record.args)}"


def _shown(value: Any) -> str:
    try:
        return value if isinstance(value, str) else repr(value)
    except Exception as error:
        return f"a {type(value).__qualname__}, whose repr fails ({describe(error)})"
