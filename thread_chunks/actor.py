"""`LabelledActor`, which users derive their actors from. Plain Python: nothing here knows Ray."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ._actor.entry import InOrder, OnlyInLoop, runner_of, users_class, users_method
from ._wire.images import Shipment
from ._wire.pickling import Packed
from ._wire.protocol import Ready, Reply, Request, Setup

__all__ = ["LabelledActor"]


class LabelledActor:
    """Hold a function, and run it on labelled arguments.

    Derive from it to make a worker of your own: `__init__` may load what all calls need, and `run` may be overridden.
    Decorate the class with ``ray.remote`` to pass handles as ``actors``, or pass the plain class to `ChunkExecutor` as
    ``actor_class``.

    Parameters
    ----------
    func : callable, optional
        The stored function. An executor that makes the actor itself passes None here, and sets
        the function with `set_func` before the first call.

    Examples
    --------
    >>> from thread_chunks import LabelledActor
    >>> class Logged(LabelledActor):
    ...     def run(self, label, *args):
    ...         print("running", label)
    ...         return super().run(label, *args)
    >>> Logged(pow).run(7, 2, 5)
    running 7
    (7, 32)
    """

    _func: Callable[..., Any] | None = None

    def __init__(self, func: Callable[..., Any] | None = None) -> None:
        self._func = func

    def run(self, label: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Run the stored function.

        Parameters
        ----------
        label : object
            Identifies the call; returned as it is.
        *args, **kwargs
            The function's arguments.

        Returns
        -------
        tuple
            The label, and what the function returned.
        """
        function = self.get_func() if _asks(users_class(self)) else LabelledActor.get_func(self)
        return label, function(*args, **kwargs)

    def set_func(self, func: Callable[..., Any]) -> None:
        """Replace the stored function."""
        self._func = func

    def get_func(self) -> Callable[..., Any]:
        """Return the stored function.

        Raises
        ------
        ValueError
            If there is no stored function.
        """
        if self._func is None:
            raise ValueError("this actor has no stored function: give it one, or pass a function with the call")
        return self._func

    # What the executor calls. All other names are the user's.

    thread_chunks_in_loop = OnlyInLoop()

    @InOrder
    async def thread_chunks_start(self, setup: Setup, shipment: Packed | Shipment | None) -> Ready:
        """Take over the driver's surroundings, store the function, run the initializer: once, before all else."""
        return await runner_of(self).start(_Holder(self), setup, shipment)

    @InOrder
    async def thread_chunks_attach(self, identity: bytes) -> tuple[int, bytes | Reply] | None:
        """Do what an executor sends by its channel; return the outcomes of a block if they are Ray's to carry."""
        return await runner_of(self).attach(_Holder(self), identity)

    @InOrder
    async def thread_chunks_run(
        self, identity: bytes, sealed: bytes | Request, shipment: Packed | Shipment | None = None
    ) -> Any:
        """Run a block of an executor, and return a `Reply`."""
        return await runner_of(self).run(_Holder(self), identity, sealed, shipment)

    @InOrder
    async def thread_chunks_store(self, shipment: Packed | Shipment) -> None:
        """Replace the stored function by one that is packed."""
        await runner_of(self).store(_Holder(self), shipment)

    @InOrder
    async def thread_chunks_end(self, identity: bytes) -> None:
        """Forget an executor, which stops using the actor."""
        runner_of(self).end(identity)

    def thread_chunks_identity(self) -> str:
        """Return what tells this class from others, for checkpoints."""
        return class_identity(users_class(self))


class _Holder:
    """The user's actor, as the runner sees it. One is made for each block."""

    __slots__ = ("_actor",)

    def __init__(self, actor: LabelledActor) -> None:
        self._actor = actor

    @property
    def set_func(self) -> Callable[..., Any]:
        return users_method(self._actor, "set_func")

    @property
    def run(self) -> Callable[..., Any]:
        return users_method(self._actor, "run")

    @property
    def function(self) -> Callable[..., Any] | None:
        return self._actor._func if _runs_plainly(users_class(self._actor)) else None  # noqa: SLF001 (it is ours)


def class_identity(cls: type[LabelledActor]) -> str:
    """Return a digest of what a class adds to `LabelledActor`; nothing if calls return what the function does."""
    if _runs_plainly(cls):
        return ""
    # Only here, for a worker imports this module, too.
    from ._checkpoints.identity import identify_class

    return identify_class(cls, LabelledActor)


def _runs_plainly(cls: type[LabelledActor]) -> bool:
    """Return whether the calls of the stored function need not go through `run`."""
    return not _asks(cls) and not _overrides(cls, "run")


def _asks(cls: type[LabelledActor]) -> bool:
    """Return whether `run` has the function from `get_func`. It cannot wait for one that is `async`."""
    return _overrides(cls, "get_func") and not inspect.iscoroutinefunction(cls.get_func)


def _overrides(cls: type[LabelledActor], name: str) -> bool:
    # By the classes, as a method may say of itself that it is another one, which it wraps.
    return next(base for base in cls.__mro__ if name in vars(base)) is not LabelledActor
