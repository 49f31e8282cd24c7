"""How a process of this machine ended that is no child of ours."""

from __future__ import annotations

import os
import select
import signal
import struct
import threading
from contextlib import suppress

# Of `struct pidfd_info` of Linux: the request for it, the flag that asks for the exit status, and its size (bytes).
_INFO_EXIT = 1 << 3
_SIZE = 64
_GET_INFO = 3 << 30 | _SIZE << 16 | 0xFF << 8 | 11
_MASK = struct.Struct("=Q")
_STATUS = struct.Struct("=i")


class Watch:
    """Hold a process of this machine, to tell how it ended.

    Only a parent can wait for a process, and Ray, which is the parent of workers, does not say what it heard. Linux
    tells others from 6.15 on, by a descriptor of the process. Without that, what Ray says is all that is known:
    SIGSEGV, SIGKILL and ``os._exit`` then read alike.

    Parameters
    ----------
    pid : int
        The process, which lives.
    """

    def __init__(self, pid: int) -> None:
        self._lock = threading.Lock()  # one thread may close it while another asks
        self._descriptor: int | None = None
        if hasattr(os, "pidfd_open"):  # Linux only
            with suppress(OSError):  # it has ended, or no descriptor is left
                self._descriptor = os.pidfd_open(pid)

    def close(self) -> None:
        """Hold on to it no longer."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)

    __del__ = close

    @property
    def is_held(self) -> bool:
        """Whether its end can be seen."""
        with self._lock:
            return self._descriptor is not None

    def status(self, patience: float = 0.0) -> int | None:
        """Return how it ended, as `os.waitstatus_to_exitcode` has it; None if that is not known.

        It may take so many seconds to end.
        """
        with self._lock, suppress(OSError, ImportError):
            if self._descriptor is None:
                return None
            import fcntl  # which only systems have that have such descriptors

            ended = select.poll()
            ended.register(self._descriptor, select.POLLIN)
            if ended.poll(1000 * patience):
                info = bytearray(_SIZE)
                _MASK.pack_into(info, 0, _INFO_EXIT)
                fcntl.ioctl(self._descriptor, _GET_INFO, info)
                if _MASK.unpack_from(info)[0] & _INFO_EXIT:
                    return os.waitstatus_to_exitcode(_STATUS.unpack_from(info, _SIZE - _STATUS.size)[0] & ~0x80)
        return None


def exit_name(status: int) -> str:
    """Return how a process ended, in words: by the name of a signal, or its exit status."""
    if status >= 0:
        return f"with exit status {status}"
    try:
        return f"of {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal has no name
        return f"of signal {-status}"
