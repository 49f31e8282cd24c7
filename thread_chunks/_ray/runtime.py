"""All that is asked of Ray itself, except by handles of actors. The tests have a runtime that needs no Ray."""

from __future__ import annotations

import operator
from contextlib import suppress
from typing import Any, TypeVar

import ray
from ray import ObjectRef
from ray.actor import ActorHandle

from .. import config
from .._dispatch.cluster import GONE
from . import session
from .channels import Channels
from .node_here import node_here
from .nodes import Nodes, on
from .options import remote_class
from .room import Resources
from .surroundings import check_room_for_worker

_T = TypeVar("_T")


class RayRuntime:
    """Ray, within a session that is joined and left. It belongs to one cluster.

    Attributes
    ----------
    nodes : Nodes
        From `join` on.
    node : callable
        Returns the node of the process that calls it.
    """

    nodes: Nodes
    node = staticmethod(node_here)
    _session: session.Session

    def actor_class(self, cls: type[Any], options: dict[str, Any]) -> Any:
        """Return what `make_actor` makes actors from. Ray need not be up.

        Raises
        ------
        ValueError
            If Ray refuses the options.
        """
        remote = remote_class(cls)
        remote.options(**options)
        return remote

    def join(self, *, persistent: bool) -> None:
        """Start Ray, or connect to it, unless it is up; see `session.join`."""
        self._session = session.join(persistent=persistent)
        try:
            self.nodes = Nodes()
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Use Ray no more."""
        self._session.leave()

    @property
    def alive(self) -> bool:
        """Whether Ray is up, and still the same."""
        return self._session.alive

    def reachable(self) -> bool:
        """Return whether Ray answers. It may take seconds."""
        return self._session.reachable()

    @property
    def default_size(self) -> int:
        """How many workers there are where the user does not say."""
        if self._session.local or config.default_chunk_size != config.usable_cpus:
            return operator.index(config.default_chunk_size)
        return self.nodes.cpus

    @property
    def is_alone(self) -> bool:
        """Whether no node will join this one: the package has started Ray."""
        return self._session.local

    @property
    def streams(self) -> str | None:
        """Where a worker asks for this process's standard output and error."""
        return None if self._session.outlet is None else self._session.outlet.address

    @property
    def channels(self) -> Channels | None:
        """Where workers connect; None if there are no channels, and Ray carries all."""
        return self._session.channels

    def resources(self) -> Resources | None:
        """Return what Ray has for actors; None if it does not answer."""
        with suppress(Exception):  # Ray's, while it goes down
            if self.reachable():  # else Ray would wait for its head
                there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
                free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
                return Resources(there, free)
        return None

    def make_actor(self, actor_class: Any, options: dict[str, Any], place: str, starting: int) -> ActorHandle[Any]:
        """Begin to make an actor, on a node if `place` names one, while so many others are starting.

        Raises
        ------
        OSError
            If there are too few threads left on this machine, where the package has started Ray.
        RuntimeError
            If Ray is gone.
        """
        if not self.alive:
            raise RuntimeError(GONE)
        if self.is_alone:
            check_room_for_worker(starting)
        options = {**options, "scheduling_strategy": on(place)} if place else options
        handle: ActorHandle[Any] = actor_class.options(**options).remote(None)
        return handle

    def put(self, obj: _T) -> ObjectRef[_T]:
        """Put a packed object, or a buffer, into the object store."""
        if not self.alive:
            raise RuntimeError(GONE)
        return ray.put(obj)

    def get(self, reference: ObjectRef[_T]) -> _T:
        """Return what was put there; buffers are views of the store."""
        if not self.alive:  # else Ray would start itself, in its own way
            raise RuntimeError(GONE)
        return ray.get(reference)

    def kill(self, handle: ActorHandle[Any]) -> None:
        """End an actor at once."""
        if self.alive:
            ray.kill(handle)
