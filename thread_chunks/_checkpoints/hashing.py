"""The hash of a value, by which it is found again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .stable_pickler import Meet


def hash_of(obj: Any, meet: Meet | None = None) -> str:
    """Return a hash of an object, in hexadecimal, that is the same in each process.

    Parameters
    ----------
    obj : object
        It counts by value. Functions and classes in it count by name.
    meet : callable, optional
        Gets each function, class and module in it, and may return what is to count instead of the name. Gets each
        reference to an object of the cluster, too.

    Raises
    ------
    TypeError
        If it has none, for whatever reason, with the reason as its cause.
    """
    from .stable_pickler import stable_hash  # late: joblib takes a while, and only checkpoints need it

    try:
        return stable_hash(obj, meet)
    except Exception as error:
        kind = type(obj).__qualname__
        hint = ". Pass its `func`, which has no cache of joblib.Memory" if kind.endswith("MemorizedFunc") else ""
        raise TypeError(f"an object of type {kind!r} cannot be hashed: {error}{hint}") from error
