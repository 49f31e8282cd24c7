"""The globals that workers need, each in the version that was there when a call was submitted. In the driver.

A function of ``__main__`` travels by its name. With it goes a *view*: the globals that it uses, those that they use in
turn, and the *version* of each. A version lasts as long as the global is what it was; `Holdings` knows which versions a
worker holds, and what to send. So what the driver changes is seen by the calls that are submitted after it, and
what a worker has changed stays as long as the driver leaves it alone.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import count
from types import FunctionType
from typing import Any

from ..errors import PicklingFailed
from .homes import MAIN, MISSING, find_homes, is_by_name, is_home, names_of
from .pickling import PLAIN, Packed, describe, pack, pack_stream
from .reducing import Key, Reducer, key_of
from .states import Constant, is_constant, is_value, parts_of, state_of
from .views import PAUSE, Bundle, Version, View

# A global that no function names goes along if its pickle has no more bytes than this, and all of them take no more
# than so many bytes and seconds of CPU time. More, and programs with large data wait for what no call may ever use. The
# time does not count for functions that look up names which cannot be known before, as by `globals()`.
_SMALL = 2**18
_SMALL_IN_ALL = 2**22
_BRIEF_IN_ALL = 0.2

_OF_IPYTHON = re.compile("_+|_i*|_i?[0-9]+|_[oid]h|_exit_code|In|Out|exit|quit|get_ipython|open")
_OF_MODULES = re.compile("__[a-z]+__")  # which `describe_modules` sends, or every module has


class _Late(BaseException):
    """Signal that an object needs code which is not there yet."""

    def __init__(self, key: Key) -> None:
        super().__init__(key)
        self.key = key


class _Bundling(Reducer):
    """Pickle globals together, and find out which others belong with them."""

    def __init__(
        self,
        current: Callable[[Key], Version | None],
        keys: Iterable[Key],
        objects: dict[int, list[Key]],
        *,
        bare_loggers: bool,
    ) -> None:
        super().__init__(bare_loggers=bare_loggers)
        self._current = current
        self._objects = objects
        self._code: deque[Key] = deque()  # what others may need as they are rebuilt goes first
        self._data: deque[Key] = deque()
        self._used: dict[Key, set[Key]] = {}
        self.versions: dict[Key, Version] = {}
        self._mine: set[Key] = set()
        self._in_data = True  # whether the present global is no code
        for each in keys:
            self._put(each)
        self._key: Key = (MAIN, "")
        self._value: Any = MISSING
        self._owners: dict[int, Key] = {}  # of each part, the global that it was pickled with
        self._joined: set[Key] = set()  # the globals that have parts of the present one

    def is_apart(self, key: Key) -> bool:
        if key not in self._mine:
            if self._current(key) is not None:
                return True
            self._put(key)
            if self._in_data and key in self._code:
                raise _Late(key)
        if key != self._key:  # it may be pickled within this one
            self._used.setdefault(key, set()).add(self._key)
            self.uses.add(key)
        return False

    def global_of(self, obj: Any) -> Key | None:
        for key in self._objects.get(id(obj), ()):
            if key != self._key and self.is_apart(key):
                self.uses.add(key)
                version = self._current(key)
                assert version is not None
                self.versions[self._key].shares[key] = version
                return key
        if type(obj) not in PLAIN:
            # A pickle has a part once. Pickle keeps it as long, so that no other gets its identity.
            owner = self._owners.setdefault(id(obj), self._key)
            if owner != self._key and owner not in self._joined:
                self._meet(obj, owner)
        return None

    def _meet(self, obj: Any, owner: Key) -> None:
        """Note that the present global has something that was pickled with another."""
        kind = type(obj)
        if is_value(obj) or (issubclass(kind, type) and not is_home(obj.__module__)):
            return
        if not (kind is FunctionType or issubclass(kind, type)) or not is_by_name(obj):
            self._joined.add(owner)
        elif is_home(obj.__module__):
            self.uses.add(key_of(obj))

    def place_of(self, obj: Any) -> str:
        keys = self._objects.get(id(obj))
        return _place(keys[0]) if keys else self.where

    def renews(self, cls: type) -> str | None:
        return ":".join(self._key if cls is self._value else key_of(cls))

    def _put(self, key: Key) -> None:
        self._mine.add(key)
        value = names_of(key[0]).get(key[1], MISSING)
        if is_constant(value) or issubclass(type(value), (FunctionType, type)):
            self._code.append(key)
        elif self._in_data:
            self._data.append(key)
        else:
            self._data.appendleft(key)  # before what may be rebuilt by code that uses it

    def items(self) -> Iterator[tuple[str, str, Any]]:
        """Yield each global, for `pack_stream`."""
        while self._code or self._data:
            self._in_data = not self._code
            self._key = key = (self._code or self._data).popleft()
            module, name = key
            self._value = value = names_of(module).get(name, MISSING)
            if value is MISSING:
                self.versions[key] = Version(None, Constant(MISSING))
                continue
            self.where = _place(key)
            self.uses, self.any_name = self._used.setdefault(key, set()), False
            self._joined = set()
            version = self.versions[key] = Version(None, state_of(value), self.uses)
            yield module, name, value
            version.any_name = self.any_name
            for other in self._joined - {key}:
                version.join(key, self.versions[other], other)
            for used in list(self.uses):
                if used not in self._mine and self._current(used) is None:
                    self._put(used)


class _Holding(Reducer):
    """Pickle a function that may hold what is a global, too."""

    def __init__(self, where: str, objects: dict[int, list[Key]], *, bare_loggers: bool) -> None:
        super().__init__(where, bare_loggers=bare_loggers)
        self._globals = objects

    def global_of(self, obj: Any) -> Key | None:
        for key in self._globals.get(id(obj), ()):
            self.uses.add(key)
            self.objects.add(key)
            return key
        return None


def _place(key: Key) -> str:
    module, name = key
    return f"the global {name!r} of {module}"


def _holds_objects(function: FunctionType) -> bool:
    """Return whether a function holds something that may change."""
    return not all(map(is_constant, parts_of(function)))


class Ledger:
    """Make views, of one executor. Any thread may ask.

    Parameters
    ----------
    store : callable
        Takes the pickle of globals, and returns what is sent for it.
    bare_loggers : bool, default: False
        As for `Reducer`.
    """

    def __init__(self, store: Callable[[Packed], Any], *, bare_loggers: bool = False) -> None:
        self._store = store
        self._bare_loggers = bare_loggers
        self._lock = threading.RLock()
        self._versions: dict[Key, Version] = {}
        self._small: set[Key] = set()  # what goes along unasked
        self._rest: dict[Key, Version] = {}
        self._looked, self._seconds = -1e9, 0.0  # when `_rest` was found, and how long that took
        self._refused: dict[Key, int] = {}  # what is too large to go along unasked, by identity

    def ship(self, fn: Callable[..., Any], *, lasting: bool = False) -> tuple[Packed, View | None]:
        """Pickle a function, and return it with its view.

        What it holds may be a global, and is that in the worker, too; not so if the function is `lasting`: then it goes
        to workers that start later, when that global may be another object.

        Raises
        ------
        PicklingFailed
            If it cannot be.
        """
        where = f"what {fn.__qualname__} holds" if type(fn) is FunctionType else ""
        objects = find_objects() if not lasting and type(fn) is FunctionType and _holds_objects(fn) else {}
        objects.pop(id(fn), None)
        reducer = _Holding(where, objects, bare_loggers=self._bare_loggers)
        packed = pack(fn, reducer)
        if not packed.uses and not reducer.any_name:
            return packed, None
        uses, packed.uses = packed.uses, frozenset()
        return packed, self.view(uses, whole=reducer.any_name)

    def view(self, roots: Collection[Key], *, whole: bool = False, before: View | None = None) -> View:
        """Return the present view of some globals, and of all if `whole`; `before` if nothing has changed since."""
        with self._lock:
            capture = _Capture(self._versions, self._store, self._small, bare_loggers=self._bare_loggers)
            capture.bring(roots)
            whole = whole or any(version.any_name for version in capture.found.values())
            began = time.perf_counter()
            if whole or began - self._looked > PAUSE * self._seconds:
                self._rest = self._look(capture, whole=whole)
                self._looked = time.perf_counter()
                self._seconds = self._looked - began
            found, versions = capture.found, self._versions
            rest = {key: kept for key, kept in self._rest.items() if key not in found and versions.get(key) is kept}
            if whole:
                capture.bring({*rest, *self._versions}, asked=False)
            if before is not None and before.versions == capture.found and before.rest == rest:
                return before
            return View(frozenset(roots), capture.found, rest, whole)

    def _look(self, capture: _Capture, *, whole: bool) -> dict[Key, Version]:
        """Return what goes along of the globals that no function names."""
        left, until = _SMALL_IN_ALL, math.inf if whole else time.thread_time() + _BRIEF_IN_ALL
        rest: dict[Key, Version] = {}
        for key in _names():
            value = names_of(key[0]).get(key[1])
            if key in capture.found or self._refused.get(key) == id(value):
                continue
            if key not in self._small and key in self._versions:
                continue
            if capture.current(key) is None:
                if left <= 0 or time.thread_time() > until:
                    continue
                try:
                    size, together = capture.pack([key], min(_SMALL, left))
                except Exception:
                    self._refused[key] = id(value)
                    continue
                left -= size
                self._small.update(together)
            rest[key] = self._versions[key]
        return rest


class _Capture:
    """Bring versions up to date; each global is compared once."""

    def __init__(
        self, versions: dict[Key, Version], store: Callable[[Packed], Any], small: set[Key], *, bare_loggers: bool
    ) -> None:
        self.found: dict[Key, Version] = {}
        self._small = small
        self._asked = False  # whether code names what is brought
        self._bare_loggers = bare_loggers
        self._versions = versions
        self._store = store
        self._checked: dict[Key, bool] = {}
        self._objects: dict[int, list[Key]] | None = None

    def bring(self, roots: Iterable[Key], *, asked: bool = True) -> None:
        """Find the present versions of some globals, and of what they use; `asked` is whether code names them."""
        self._asked = asked
        todo = list(roots)
        while todo:
            stale: dict[Key, None] = {}  # which are packed together, as they may need each other
            while todo:
                key = todo.pop()
                if key in self.found or key in stale:
                    continue
                if (version := self.current(key)) is None:
                    stale[key] = None
                else:
                    self.found[key] = version
                    todo.extend(version.uses)
            if stale:
                self.pack(list(stale))
                todo.extend(stale)
        self._asked = False

    def current(self, key: Key) -> Version | None:
        """Return the version of a global, if that is still what it was."""
        version = self._versions.get(key)
        if self._asked and key in self._small:
            self._small.remove(key)
            if version is not None and not isinstance(version.state, Constant):
                self._checked[key] = False  # it went along by itself, and may share parts with what is asked for
        if key not in self._checked:
            self._checked[key] = True  # while it is compared
            module, name = key
            self._checked[key] = (
                version is not None
                and version.state.same(names_of(module).get(name, MISSING))
                and all(self.current(other) is shared for other, shared in version.shares.items())
            )
        return version if self._checked[key] else None

    def _with_partners(self, keys: list[Key]) -> list[Key]:
        """Return the globals with those that shared parts with them, and have changed as well."""
        found = dict.fromkeys(keys)
        todo = [version for key in keys if (version := self._versions.get(key)) is not None]
        while todo:
            version = todo.pop()
            partners = set(version.partners)
            if version.shares:
                partners |= {key for key, other in self._versions.items() if other.shares.keys() & version.shares}
            for key in partners.difference(found):
                if self.current(key) is None:
                    found[key] = None
                    todo.append(self._versions[key])
        return list(found)

    def pack(self, keys: list[Key], limit: int | None = None) -> tuple[int, Collection[Key]]:
        """Pickle globals with those that belong to them; return how many bytes they take, and which they are."""
        if self._objects is None:
            self._objects = find_objects()
        keys = self._with_partners(keys)
        bundling = _Bundling(self.current, keys, self._objects, bare_loggers=self._bare_loggers)
        try:
            packed = pack_stream(bundling.items(), bundling, limit)
        except OverflowError:
            raise
        except _Late as late:
            return self.pack([late.key, *keys], limit)
        except BaseException as error:
            raise PicklingFailed(f"{bundling.where} cannot be pickled: {describe(error)}") from error
        bundle = Bundle(next(_numbers), self._store(packed))
        for key, version in bundling.versions.items():
            if not (isinstance(version.state, Constant) and version.state.value is MISSING):
                version.bundle = bundle
            self._versions[key], self._checked[key] = version, True
        return packed.size, bundling.versions.keys()


_numbers = count()


def find_objects() -> dict[int, list[Key]]:
    """Return the globals that other globals may refer to, by the identity of what they are."""
    objects: dict[int, list[Key]] = {}
    for module in find_homes():
        for name, value in list(names_of(module).items()):
            kind = type(value)
            if not (is_constant(value) or issubclass(kind, type) or (kind is FunctionType and is_by_name(value))):
                objects.setdefault(id(value), []).append((module, name))
    return objects


def _names() -> Iterator[Key]:
    for module in list(find_homes()):
        for name in list(names_of(module)):
            if not (_OF_IPYTHON.fullmatch(name) or _OF_MODULES.fullmatch(name)):
                yield module, name
