"""What refers to something in the cluster, for who pickles it."""

from __future__ import annotations

from typing import Any

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayTaskError

from .._wire.pickling import References


def _resolve(reference: ObjectRef[Any]) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from error


REFERENCES = References(ObjectRef, (ActorHandle,), _resolve)
