"""Start Ray, or connect to a cluster, and say what is in the way."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import ray

from .. import config
from ..errors import ExecutorBroken
from . import standing
from .keeper import Keeper, StartFailed, wait_for_others
from .remains import BUSY
from .surroundings import fit
from .unstable import is_client

# Options of ``ray.init`` that it refuses when it connects to a cluster that runs already.
_OPTIONS_OF_NEW_CLUSTERS = frozenset(
    {"num_cpus", "num_gpus", "resources", "labels", "object_store_memory", "_system_config", "_node_name"}
    | {"_enable_object_reconstruction"}
)

# How long the other side may take to answer (s). Ray itself would try for minutes.
_PATIENCE = 10.0

# What Ray says when another thread has called ``ray.init`` first.
_TWICE = "called ray.init twice"

_NO_CLIENT = (
    "Ray Client ('ray://') is not supported, as actors have no concurrency groups there: run the program on a "
    "node of the cluster, with the address 'auto', or send it there by `ray job submit`"
)
_NO_TOKEN = (
    "it wants a token that this process does not show. Set RAY_AUTH_MODE=token, and have the cluster's token in "
    "~/.ray/auth_token, in the file that RAY_AUTH_TOKEN_PATH names, or in RAY_AUTH_TOKEN"
)
_WRONG_TOKEN = (
    "it wants another token than this process shows, which is that of {}. Ray takes RAY_AUTH_TOKEN first, then the "
    "file that RAY_AUTH_TOKEN_PATH names, then ~/.ray/auth_token: have the cluster's token there"
)

_START = "`python -m thread_chunks up` starts one on this machine, and prints where it is"


@dataclass(slots=True, frozen=True)
class Connection:
    """How Ray came to be up.

    Attributes
    ----------
    keeper : Keeper or None
        The thread that Ray's processes live with; None if another thread of the program started them.
    ours : bool
        Whether ``ray.init`` was called here, and not by the user.
    local : bool
        Whether it started Ray here, and did not connect to a cluster.
    """

    keeper: Keeper | None
    ours: bool
    local: bool


def connect() -> Connection:
    """Start Ray, or connect to the cluster of `config` or of ``RAY_ADDRESS``.

    Raises
    ------
    ExecutorBroken
        If Ray cannot be started, or nothing answers at its address, for a reason of the system.
    ValueError
        If the address is not one of a Ray cluster.
    """
    options = dict(config.ray_config)
    # Ray's own default is to connect to any cluster that was once started on this machine.
    address = options["address"] = options.get("address") or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        options.setdefault("_node_name", f"thread_chunks-{uuid4().hex}")
    else:
        _check_address(address)
        options = {name: value for name, value in options.items() if name not in _OPTIONS_OF_NEW_CLUSTERS}
    connection = None
    try:
        if address == "local":
            fit(options)
        elif address == "auto":
            _look_for_standing(options)
        with _ctrl_c_later():
            connection = _init(options)
    except (TypeError, ValueError) as error:
        if not isinstance(error, UnicodeError):  # else an option of the user's is wrong
            raise
        raise _broken(address, error) from error
    except Exception as error:
        # An OSError among them: programs take one for "no multiprocessing here", and go on with threads.
        raise _broken(address, error) from error
    except BaseException:  # as of Ctrl-C
        if connection is not None and connection.ours:
            with _ctrl_c_later():
                ray.shutdown()
        raise
    return connection


def _look_for_standing(options: dict[str, Any]) -> None:
    """Where any Ray of this machine will do, have Ray take the one that stays up between programs, if it is up.

    The address is left to Ray to find, in the directory of that one: only then does it show the token of
    ``~/.ray/auth_token`` by itself, without ``RAY_AUTH_MODE``.
    """
    if os.environ.get("RAY_ADDRESS", "auto") == "auto" and (found := standing.find()) is not None:
        os.environ.update(found.token)
        options["_temp_dir"] = found.mark.directory


def _init(options: dict[str, Any]) -> Connection:
    """Call ``ray.init``, and find out what came of it.

    Another thread may begin one meanwhile: both start processes. The first one that comes to connect may connect to
    the processes of the other, and the second one fails.
    """
    name = options.get("_node_name")
    Keeper.check()
    wait_for_others()
    while not ray.is_initialized():
        keeper = Keeper(options)
        try:
            keeper.start()
        except StartFailed:
            raise
        except BaseException as error:
            wait_for_others()
            if name is not None and _is_up(name):
                return Connection(keeper, ours=False, local=True)
            keeper.end()
            if not ray.is_initialized() and _TWICE not in str(error):
                ray.shutdown()
                raise
        else:
            if name is None or _is_up(name):
                return Connection(keeper, ours=True, local=name is not None)
            wait_for_others()
            ray.shutdown()  # its processes would end with the thread of the other ``ray.init``, which has failed
            keeper.end()
    return Connection(None, ours=False, local=False)


def _is_up(name: str) -> bool:
    """Return whether Ray is connected to the node of that name."""
    with suppress(Exception):  # Ray's, if it goes down meanwhile
        nodes: list[dict[str, Any]] = ray.nodes() if ray.is_initialized() else []  # type: ignore[no-untyped-call]
        return any(node["NodeName"] == name for node in nodes)
    return False


def _broken(address: str, error: Exception) -> ExecutorBroken:
    failed = "started" if address == "local" else f"reached at {address}"
    reason: object = error
    if "AuthToken" in str(error.__cause__):
        shown = _shown_token()
        reason = _NO_TOKEN if shown is None else _WRONG_TOKEN.format(shown)
    elif "not find any running Ray" in str(error):
        reason = f"no Ray is up on this machine. {_START}"
    elif address == "local" and "timed out" in str(error) and not isinstance(error, StartFailed):
        reason = f"{error} {BUSY}"
    return ExecutorBroken(f"Ray cannot be {failed}: {reason}")


def _shown_token() -> str | None:
    """Return where the token comes from that this process shows to clusters; None if it shows none."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return None
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):  # as Ray looks for it
        if os.environ.get(name):
            return name
    return "~/.ray/auth_token" if os.path.exists(os.path.expanduser("~/.ray/auth_token")) else None


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
    """Connect to ``host:port``, and leave; raise OSError without an answer within `patience` seconds."""
    host, _, port = address.rpartition(":")
    # An IPv4 address in IPv6's form is reached without IPv6, too.
    socket.create_connection((host.strip("[]").removeprefix("::ffff:"), int(port)), patience).close()


def check_connection() -> None:
    """Raise ValueError if the present connection of Ray is of a kind that cannot be used."""
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
                f"no answer from {address}, where a Ray cluster should be (config.ray_config['address'], or "
                f"RAY_ADDRESS): {error}. {_START}"
            ) from error
