"""Nodes that are added while the cluster runs."""

from __future__ import annotations

import threading

import pytest
from cluster_kit import awaiting

import superlearner as sl


@pytest.mark.slow
def test_a_node_killed_in_the_moment_it_joins_is_started_again():
    """Then its nanny has not yet noticed that the worker runs, and Dask would give it up."""
    killers = []

    def kill(event: sl.Event) -> None:
        if event.node == "added" and not killers:
            killers.append(threading.Thread(target=cluster.chaos.kill_node, args=["added"]))
            killers[0].start()

    with sl.Cluster(nodes=["first"]) as cluster:
        stop = cluster.subscribe(kill, "node_joined")
        with (
            awaiting(cluster, "node_joined", node="added") as joined,
            awaiting(cluster, "node_lost", node="added") as lost,
        ):
            cluster.add_node("added")
            joined()
            lost()
            joined()
        stop()
        killers[0].join()
        assert cluster.status().nodes == ("added", "first")
