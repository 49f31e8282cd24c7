"""The options of actors: defaults, and those that are refused."""

from __future__ import annotations

from typing import Any

import ray

# Options of actors that decide where Ray places them.
PLACING = (
    *("num_cpus", "num_gpus", "memory", "resources", "accelerator_type", "label_selector", "fallback_strategy"),
    *("scheduling_strategy", "placement_group"),
)

# Ray's own would reserve a CPU to place an actor, and so refuse more of them; and would report each block to the head,
# which takes a twentieth of the time of a call that is waited for.
DEFAULTS: dict[str, Any] = {"num_cpus": 0, "enable_task_events": False}

# Options of Ray's that the executor cannot let actors have, and why.
REFUSED = {
    "max_restarts": "Ray must not restart actors; the executor does",
    "max_task_retries": "Ray must not run calls again; the executor does, see max_retries",
    "max_concurrency": "a worker runs one call at a time",
    "concurrency_groups": "a worker runs one call at a time",
    "allow_out_of_order_execution": "the executor relies on the order",
    "max_pending_calls": "the executor knows how many there may be",
    "name": "there are many workers",
    "namespace": "workers have no name",
    "get_if_exists": "workers have no name",
    "lifetime": "workers end with the executor",
    "object_store_memory": "Ray 2.60 loses the node when such an actor ends",
}


def resources_asked(options: dict[str, Any]) -> dict[str, float]:
    """Return how much of which resource, by Ray's names, an actor with these options takes of a node."""
    names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
    amounts = {resource: options.get(name) for name, resource in names.items()} | (options.get("resources") or {})
    return {name: amount for name, amount in amounts.items() if amount}


def remote_class(actor_class: type[Any]) -> Any:
    """Return the actor class to make workers from."""
    return ray.remote(actor_class)
