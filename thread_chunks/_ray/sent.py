"""What was sent of a block, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray import ObjectRef

from .._calls.calls import Outcomes
from .._wire.pickling import unpack, unpack_error
from .._wire.protocol import Reply, Token
from ..errors import PicklingFailed, UnpicklingFailed


@dataclass(slots=True, eq=False)
class Sent:
    """A block that was sent: what of it could not be, and the reference to its value if that stays in the cluster."""

    token: Token
    failures: dict[int, PicklingFailed]
    kept: ObjectRef[Any] | None = None


def outcomes(reply: Reply, sent: Sent, seconds: float, writable: bool) -> Outcomes:
    """Rebuild outcomes; it took `seconds` to find out that some calls could not be sent."""
    values = reply.values if sent.kept is None else [sent.kept] * len(reply.values)
    errors: dict[int, BaseException] = {index: unpack_error(packed) for index, packed in reply.errors.items()}
    for index, packed in reply.packed.items():
        try:
            values[index] = unpack(packed, writable=writable)
        except UnpicklingFailed as error:
            errors[index] = error
    for index, failure in sent.failures.items():
        if 0 <= index - reply.offset < len(values):
            errors[index - reply.offset] = failure
    return Outcomes(
        values,
        errors,
        reply.offset,
        seconds + reply.seconds,
        reply.packed,
        reply.running,
        reply.short,
        reply.long,
    )
