"""A Ray cluster whose nodes come and go at a word on standard input: `have 2`, `kill`; its address comes first.

In a process of its own: whoever has Ray's threads in it must not fork others in Python, as tests do that send signals.
"""

from __future__ import annotations

import os
import sys
from typing import Any

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


def main() -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    head = {**NODE, "num_cpus": 0, "include_dashboard": False}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    nodes: list[Any] = []
    print(cluster.address, flush=True)
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "kill":
            cluster.remove_node(nodes.pop(), allow_graceful=False)
        while word == "have" and len(nodes) < int(rest[0]):
            nodes.append(cluster.add_node(**NODE))
        print("done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
