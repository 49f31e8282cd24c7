"""Starts Ray, or connects to a cluster, and says what is in the way."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from .. import config
from ..errors import ExecutorBroken
from .unstable import is_client

# Options of ``ray.init`` that it refuses when it connects to a cluster that runs already.
_OPTIONS_OF_NEW_CLUSTERS = frozenset(
    {"num_cpus", "num_gpus", "resources", "labels", "object_store_memory", "_system_config", "_node_name"}
    | {"_enable_object_reconstruction"}
)

# How long the other side may take to answer (s). Ray itself would try for minutes.
_PATIENCE = 10.0

_NO_CLIENT = (
    "Ray Client ('ray://') is not supported, as actors have no concurrency groups there: run the program on a "
    "node of the cluster, with the address 'auto', or send it there by `ray job submit`"
)
_NO_TOKEN = (
    "it wants a token that this process does not show. Set RAY_AUTH_MODE=token, and have the cluster's token in "
    "~/.ray/auth_token, in the file that RAY_AUTH_TOKEN_PATH names, or in RAY_AUTH_TOKEN"
)


def connect() -> bool:
    """Start Ray, or connect to the cluster of `config` or of ``RAY_ADDRESS``. Returns whether it was started.

    Raises
    ------
    ExecutorBroken
        If Ray cannot be started, or nobody answers at its address, for a reason of the system.
    ValueError
        If the address is none.
    """
    options = dict(config.ray_config)
    # Ray's own default is to connect to any cluster that was once started on this machine.
    address = options.get("address") or os.environ.get("RAY_ADDRESS") or "local"
    if address != "local":
        _check_address(address)
        options = {name: value for name, value in options.items() if name not in _OPTIONS_OF_NEW_CLUSTERS}
    # Ray takes SIGTERM for itself, to raise SystemExit, and a `with` block would then wait for all
    # that is pending. Without, it ends the program at once, as one with a `ProcessPoolExecutor`.
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with _ctrl_c_later():
            ray.init(**{**options, "address": address})
    except OSError as error:
        # Programs take an OSError for "no multiprocessing here", and go on with threads.
        failed = "started" if address == "local" else f"reached at {address}"
        reason = _NO_TOKEN if "AuthToken" in str(error.__cause__) else error
        raise ExecutorBroken(f"Ray cannot be {failed}: {reason}") from error
    except BaseException:  # as of Ctrl-C, when Ray is up
        with _ctrl_c_later():
            ray.shutdown()
        raise
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
    return bool(address == "local")


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Let Ctrl-C wait till the end of the block.

    In the middle of ``ray.init`` it would leave Ray so that the next ``ray.init`` ends the process.
    """
    interrupted: list[Any] = []
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    signal.signal(signal.SIGINT, lambda *of_signal: interrupted.append(of_signal))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if interrupted:
            handler(*interrupted[0])


def reach(address: str, patience: float) -> None:
    """Connect to ``host:port``, and leave; raise OSError if nobody answers within `patience` seconds."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), patience).close()


def check_connection() -> None:
    """Raise ValueError if what Ray is connected by, whoever did it, cannot be used."""
    if is_client():
        raise ValueError(_NO_CLIENT)


def _check_address(address: str) -> None:
    scheme, found, _ = address.partition("://")
    if found and scheme == "ray":
        raise ValueError(_NO_CLIENT)
    _, _, port = address.rpartition(":")
    if found or (address != "auto" and not port.isdecimal()):
        raise ValueError(
            f"the address of a Ray cluster is 'auto', or host:port of its head (port 6379 by default), not {address!r}"
        )
    if address != "auto":
        try:
            reach(address, _PATIENCE)
        except OSError as error:
            raise ExecutorBroken(
                f"nobody answers at {address}, where a Ray cluster should be (config.ray_config['address'], or "
                f"RAY_ADDRESS): {error}"
            ) from error
