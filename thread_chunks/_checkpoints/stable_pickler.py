"""Digests of values that are the same in every process, whatever `PYTHONHASHSEED`.

`joblib.hash` pickles a value and hashes the pickle. It sorts the items of sets and dicts, but not those of
frozensets, and not those that have no total order. Here the pickler itself puts them in order, at any depth.
Where the digest of `joblib.hash` does not depend on the process, it stays as it is, because files are full of them.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from hashlib import md5
from itertools import pairwise
from operator import attrgetter, itemgetter
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any, ClassVar

from joblib.hashing import Hasher, NumpyHasher

from .._wire.pickling import references
from .members import original

_CONTAINERS = (frozenset, tuple, list, dict)

_CODE = (FunctionType, type, ModuleType, type(lru_cache(abs)))

# What calls can be sent, and pickle does not know: each as something that it knows.
_REPLACED: dict[type, Callable[[Any], Any]] = {
    MappingProxyType: dict,
    ModuleType: attrgetter("__name__"),
    type({}.keys()): list,
    type({}.values()): list,
    type({}.items()): list,
    type(iter(set())): lambda iterator: set(iterator.__reduce__()[1][0]),
}
_SINGLETONS = {type(None): None, type(...): ..., type(NotImplemented): NotImplemented}

# Values whose pickle is the same from any pickler, except that joblib's does not memorise strings.
_PLAIN = frozenset({int, float, bool, str, bytes, type(None)})
_SHORT_TUPLES = {1: pickle.TUPLE1, 2: pickle.TUPLE2, 3: pickle.TUPLE3}

# Gets each function, class and module of a value, and each reference to the cluster. Returns what stands for it, or
# None if its name does.
Meet = Callable[[Any], "str | None"]


def stable_hash(obj: Any, meet: Meet | None = None) -> str:
    """Return a hash of an object, in hexadecimal. What pickling it raises is raised."""
    if type(obj) is tuple and obj and _PLAIN.issuperset(map(type, obj)):
        return md5(_pickle_of_plain(obj), usedforsecurity=False).hexdigest()
    with suppress(_HoldsItself):  # the pickler remembers what it has seen
        obj = _without_frozensets(obj)
    digest: str = _hasher(meet).hash(obj)
    return digest


def _pickle_of_plain(items: tuple[Any, ...]) -> bytes:
    """Return what joblib's pickler makes of such a tuple, a fifth as fast as this: strings are not memorised."""
    pickles = [pickle.dumps(item, 3) for item in items]
    parts = [
        data[2 : -3 if type(item) in (str, bytes) else -1]  # without protocol, memo, and stop
        for item, data in zip(items, pickles, strict=True)
    ]
    start, end = (b"", _SHORT_TUPLES[len(items)]) if len(items) in _SHORT_TUPLES else (pickle.MARK, pickle.TUPLE)
    return b"".join((b"\x80\x03", start, *parts, end, b"q\0."))


def _hasher(meet: Meet | None) -> Any:
    hasher = _NumpyHasher() if "numpy" in sys.modules else _Hasher()
    if meet is not None:
        hasher.meet = meet
        hasher.kinds = (*_CODE, references().of_values, *references().others)
    return hasher


def _without_frozensets(obj: Any, within: tuple[int, ...] = ()) -> Any:
    """Return an object with a set for each frozenset that it is, or that stands in its tuples, lists and dicts.

    The pickler needs no such help, but the digests in existing files were made like this. `within` has the ids of what
    the object stands in: raises `_HoldsItself` if that is the object.
    """
    if type(obj) is frozenset:
        return "frozenset", set(obj)
    if type(obj) is tuple and len(obj) == 2 and type(obj[0]) is str and obj[0] == "frozenset" and type(obj[1]) is set:
        return _Replaced("tuple", *obj)  # no frozenset, but as one looks by now
    if type(obj) not in (tuple, list, dict):
        return obj
    items = obj.values() if type(obj) is dict else obj
    if not any(type(item) in _CONTAINERS for item in items):
        return obj
    if id(obj) in within:
        raise _HoldsItself
    replaced = [_without_frozensets(item, (*within, id(obj))) for item in items]
    return dict(zip(obj, replaced, strict=True)) if type(obj) is dict else type(obj)(replaced)


class _HoldsItself(Exception):
    """A list, or a dict, is in itself: it cannot be made anew from its items."""


class _Replaced:
    """Stand in a pickle for what must look like nothing of the user's."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts


class _Stable:
    """What is added to joblib's picklers."""

    meet: Meet | None = None
    kinds: tuple[type, ...] = ()  # what it gets

    def save(self, obj: Any) -> None:
        """Save an object. A builtin that was replaced counts as the original."""
        super().save(original(obj))  # type: ignore[misc]

    def reducer_override(self, obj: Any) -> Any:
        """Return what `pickle.Pickler.reducer_override` returns."""
        if isinstance(obj, (frozenset, set)) and type(obj) is not set:
            return self._reduce_set(obj)
        if self.meet is not None and isinstance(obj, self.kinds):
            digest = self.meet(obj)
            if digest is not None:
                return _Replaced, ("code", digest)
        if type(obj) in _REPLACED:
            return _Replaced, (type(obj).__name__, _REPLACED[type(obj)](obj))
        if type(obj) is type and obj in _SINGLETONS:
            return type, (_SINGLETONS[obj],)
        return NotImplemented

    def _reduce_set(self, obj: Any) -> Any:
        items = self._in_order(obj)
        if type(obj) is frozenset:
            return frozenset, (items,)
        reduced = obj.__reduce_ex__(3)
        if isinstance(reduced, str):
            return reduced
        make, args, *state = reduced
        return make, tuple(items if _holds_all(arg, obj) else arg for arg in args), *state

    def _in_order(self, items: Iterable[Any]) -> list[Any]:
        ordered = _sorted(items)
        if ordered is None:
            ordered = self._sorted_by_digest(items)
        # The pickle of such a set is the same in each process, and in files: it is in the order of the hashes.
        return list(frozenset(ordered)) if all(map(_has_fixed_hash, ordered)) else ordered

    def save_set(self, obj: set[Any]) -> None:
        """Save an exact set."""
        items: Any = _sorted(obj)
        if items is None and all(map(_has_fixed_hash, obj)):
            items = set(self._sorted_by_digest(obj))
            try:
                sorted(items)  # as joblib does
            except TypeError:
                items = None
        if items is None:
            items = list(map(self._digest, obj))  # as joblib does where items cannot be sorted
        super().save_set(items)  # type: ignore[misc]

    dispatch: ClassVar[dict[type, Callable[..., None]]] = {**Hasher.dispatch, set: save_set}

    def _batch_setitems(self, items: Iterable[tuple[Any, Any]], *args: Any) -> None:
        pairs = list(items)
        ordered: Any = _sorted(pairs, key=itemgetter(0))
        if ordered is None:
            digests = [(self._digest(key), value) for key, value in pairs]
            ordered = _sorted(digests, key=itemgetter(0))
        if ordered is None:  # some keys are alike
            ordered = sorted(digests, key=lambda pair: (pair[0], self._digest(pair[1])))
        super(Hasher, self)._batch_setitems(iter(ordered), *args)  # type: ignore[misc]

    def _sorted_by_digest(self, items: Iterable[Any]) -> list[Any]:
        return sorted(items, key=self._digest)

    def _digest(self, obj: Any) -> str:
        digest: str = _hasher(self.meet).hash(obj)
        return digest


class _Hasher(_Stable, Hasher):  # type: ignore[misc]
    pass


class _NumpyHasher(_Stable, NumpyHasher):  # type: ignore[misc]
    def save(self, obj: Any) -> None:
        """Save an object. An array that brings more than its items, as a mask or a unit, counts with that."""
        if isinstance(obj, self.np.ndarray) and any(
            getattr(type(obj), name) is not getattr(self.np.ndarray, name) for name in ("__reduce__", "__reduce_ex__")
        ):
            Hasher.save(self, obj)
        else:
            super().save(obj)


def _sorted(items: Iterable[Any], key: Callable[[Any], Any] | None = None) -> list[Any] | None:
    """Return items in their order if they have only one: of any two, one is less. None otherwise."""
    try:
        ordered = sorted(items, key=key)
        keys = ordered if key is None else list(map(key, ordered))
        return ordered if all(one < other for one, other in pairwise(keys)) else None
    except Exception:  # whatever a class makes of `<`
        return None


def _has_fixed_hash(obj: Any) -> bool:
    """Return whether `hash` of an object is the same in each process."""
    if type(obj) in (tuple, frozenset):
        return all(map(_has_fixed_hash, obj))
    return type(obj) in (bool, int, float, complex) and obj == obj  # that of NaN is its address


def _holds_all(arg: Any, items: Any) -> bool:
    """Return whether an argument is a list of the items of a set."""
    if type(arg) not in (list, tuple) or len(arg) != len(items):
        return False
    try:
        return all(item in items for item in arg)
    except TypeError:  # it has no hash
        return False
