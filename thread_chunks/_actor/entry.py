"""How messages arrive in a worker: methods of the actor that Ray calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import wraps
from types import MethodType
from typing import Any

from .runner import Runner

# Where an actor keeps its runner. All other attributes are the user's.
_ATTRIBUTE = "_thread_chunks_runner"


def runner_of(actor: Any) -> Runner:
    """Return an actor's runner, which is made when it is first asked for: the user's `__init__` need not do so.

    Whatever the user's class does with attributes, it does not concern this one.
    """
    attributes: dict[str, Any] = object.__getattribute__(actor, "__dict__")
    runner: Runner | None = attributes.get(_ATTRIBUTE)
    # Two threads may ask at the same time.
    return attributes.setdefault(_ATTRIBUTE, Runner(in_loop=is_async(type(actor)))) if runner is None else runner


def users_class(actor: Any) -> type[Any]:
    """Return the class of an actor as its author wrote it. Ray makes a subclass of it, and wraps all its methods."""
    cls: type[Any] = type(actor)
    # Without this name, which is Ray's, calls go through the wrappers.
    return getattr(cls, "__ray_actor_class__", cls)


def users_method(actor: Any, name: str) -> Callable[..., Any]:
    """Return a method as the class has it, whatever the actor itself has by that name: so does Ray."""
    cls = users_class(actor)
    method: Callable[..., Any] = inspect.getattr_static(cls, name).__get__(actor, cls)
    return method


class InOrder:
    """A method of an actor, one call of which begins when the last one is over.

    Ray calls the methods of most actors one after the other. Of an actor with an `async` method it runs all in an
    event loop, and there this one is a coroutine function, which awaits its turn.
    """

    def __init__(self, method: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        @wraps(method)
        def at_once(actor: Any, *args: Any) -> Any:
            return _run(method(actor, *args))

        @wraps(method)
        async def in_loop(actor: Any, *args: Any) -> Any:
            async with runner_of(actor).turn:
                return await method(actor, *args)

        self.__doc__ = method.__doc__
        self._at_once, self._in_loop = at_once, in_loop

    def __get__(self, actor: Any, owner: type) -> Callable[..., Any]:
        method = self._in_loop if is_async(owner) else self._at_once
        return method if actor is None else MethodType(method, actor)


class OnlyInLoop:
    """A method that only those actors have that Ray runs in an event loop, by which the driver tells them."""

    def __get__(self, actor: Any, owner: type) -> Callable[..., Any]:
        if is_async(owner):
            return _in_loop
        raise AttributeError("Ray does not run this actor in an event loop")


def _in_loop(actor: Any) -> None:
    pass


def is_async(cls: type) -> bool:
    """Return whether Ray runs the actors of a class in an event loop: one of the user's methods is `async`."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        found.update(vars(base))
    methods = (
        getattr(cls, name, None) for name, value in found.items() if not isinstance(value, (InOrder, OnlyInLoop))
    )
    return any(inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method) for method in methods)


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("a call of a worker without an event loop awaited something")
