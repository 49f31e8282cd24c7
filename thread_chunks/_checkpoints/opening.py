"""Open a checkpoint file, to write to it or only to read it."""

from __future__ import annotations

import os
from contextlib import suppress

from .connection import FROZEN, NOTHING, READING
from .probe import look_at, real_path
from .store import Store


def open_store(path: str | os.PathLike[str]) -> Store:
    """Open a checkpoint file, and make it if it is not there.

    Raises
    ------
    CheckpointRefused
        If the file is not a checkpoint, or is damaged. It is left as it is.
    OSError
        If it cannot be opened or made.
    """
    path = real_path(path)  # the working directory, and where a link leads, may change
    if not os.path.isdir(os.path.dirname(path)):
        raise FileNotFoundError(f"there is no directory {os.path.dirname(path)}, where the checkpoint should be")
    is_new = look_at(path)
    try:
        return _prepared(Store(path), create=is_new)
    except OSError:
        if is_new:
            raise
        return Store(path, FROZEN)  # the disk is full, or cannot be written to


def read_store(path: str | os.PathLike[str]) -> Store:
    """Open a checkpoint file to read it, and leave it as it is. In one that is empty there is nothing yet.

    Raises
    ------
    CheckpointRefused
        If the file is not a checkpoint, or is damaged.
    OSError
        If it is not there, or cannot be opened.
    """
    path = real_path(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no checkpoint {path}")
    if look_at(path):
        return _prepared(Store(path, NOTHING), create=True)
    if os.path.exists(f"{path}-wal"):
        with suppress(OSError):
            return _prepared(Store(path, READING), create=False)
    return Store(path, FROZEN)


def _prepared(store: Store, *, create: bool) -> Store:
    try:
        store.prepare(create=create)
    except BaseException:
        store.close()
        raise
    return store
