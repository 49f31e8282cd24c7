"""What is left in the cluster for workers, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Resources whose amounts are bytes.
_BYTES = {"memory": "memory", "object_store_memory": "object store"}


@dataclass(slots=True, frozen=True)
class Resources:
    """How much there is of each resource, by Ray's names, and how much of it is free."""

    there: Mapping[str, float]
    free: Mapping[str, float]

    def lack(self, asked: Mapping[str, float]) -> dict[str, float]:
        """Return what of `asked`, which is what a worker needs, is not free."""
        return {name: amount for name, amount in asked.items() if self.free.get(name, 0.0) < amount}

    def may_have_placed(self, asked: Mapping[str, float], workers: int) -> bool:
        """Return whether so many workers may all have their place already, as so much of `asked` is in use."""
        used = {name: self.there.get(name, 0.0) - self.free.get(name, 0.0) for name in asked}
        return all(used[name] >= workers * amount for name, amount in asked.items())


def in_words(amounts: Mapping[str, float]) -> str:
    """Return amounts of resources as one says them: ``1 GPU and 2 GiB of memory``."""
    return " and ".join(_in_words(name, amount) for name, amount in amounts.items()) or "nothing"


def missing(lack: Mapping[str, float], free: Mapping[str, float]) -> str:
    """Return how much each worker needs of what is short, and how much is left: ``each needs 1 GPU; 0 are left``."""
    if len(lack) > 1:
        return f"each needs {in_words(lack)}; {in_words({name: free.get(name, 0.0) for name in lack})} are left"
    ((name, amount),) = lack.items()
    left = _number(name, free.get(name, 0.0))
    return f"each needs {_in_words(name, amount)}; {left} {'is' if left == '1' else 'are'} left"


def _in_words(name: str, amount: float) -> str:
    if name in _BYTES:
        return f"{_number(name, amount)} of {_BYTES[name]}"
    number = _number(name, amount)
    return f"{number} {name}{'s' if name in ('CPU', 'GPU') and number != '1' else ''}"


def _number(name: str, amount: float) -> str:
    if name not in _BYTES:
        return f"{amount:g}"
    return f"{amount / 2**30:.3g} GiB" if amount >= 2**30 or amount == 0 else f"{amount / 2**20:.3g} MiB"
