"""Clusters of several nodes on this machine, each node a set of Ray's processes.

They are started by a process of their own, as Ray changes the environment of the one that it is in.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass

# Milliseconds after which Ray asks a node again whether it lives. It is dead after five questions without an answer.
# Lower: a node of a busy machine is taken for dead. Higher: the tests wait longer for the news of each killed node.
HEALTH = {"health_check_period_ms": 500}
NODE = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 300 * 2**20}


@dataclass
class Node:
    id: str
    raylet: int  # the process that makes it a node


class LocalCluster:
    """A node with a CPU, where programs run, and one with three CPUs and two of "two"."""

    def __init__(self):
        # A directory of its own, short enough for Ray's sockets. In the usual one, Ray notes the cluster's address,
        # and a program that asks for no address joins the cluster.
        self._directory = tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": self._directory.name},
        )
        self.address, self.head = self._answer(), Node(*self._answer())
        self.second = None
        self._nodes = {}  # those beside the head, by identifier
        self.restore()

    @property
    def environment(self):
        """The environment with which a program finds the cluster."""
        return {"RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "disabled"}

    def add(self, **options):
        """Add a node."""
        node = Node(*self._ask("add", options))
        self._nodes[node.id] = node
        return node

    def remove(self, node):
        """Kill a node."""
        self._ask("kill", self._nodes.pop(node.id).id)

    def restore(self):
        """Give the cluster exactly one node beside the head, which no test has used."""
        for node in [node for node in self._nodes.values() if node is not self.second]:
            self._ask("end", self._nodes.pop(node.id).id)
        if self.second is None or self.second.id not in self._nodes:
            self.second = self.add(num_cpus=3, resources={"two": 2}, object_store_memory=300 * 2**20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._directory.cleanup()

    def _ask(self, *command):
        print(json.dumps(command), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self):
        for line in self._process.stdout:
            if line.startswith("answer "):  # Ray prints, too
                return json.loads(line.removeprefix("answer "))
        raise RuntimeError("the cluster is gone")


def main():
    """Start a cluster, carry out the lines of the standard input, and stop the cluster when they end."""
    from ray.cluster_utils import Cluster

    def answer(value):
        print("answer", json.dumps(value), flush=True)

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": HEALTH})
    try:
        nodes = {cluster.head_node.node_id: cluster.head_node}
        answer(cluster.address)
        answer([cluster.head_node.node_id, cluster.head_node.all_processes["raylet"][0].process.pid])
        for line in sys.stdin:
            command, argument = json.loads(line)
            if command == "add":
                node = cluster.add_node(**argument)
                nodes[node.node_id] = node
                answer([node.node_id, node.all_processes["raylet"][0].process.pid])
            else:
                cluster.remove_node(nodes.pop(argument), allow_graceful=command == "end")
                cluster.wait_for_nodes()  # else later drivers get the news of its death
                answer(None)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
