"""The cluster as a whole."""

from __future__ import annotations

from superlearner.arsenal.operation import AwaitedCluster, Params, Result, operation
from superlearner.core.snapshots import ClusterStatus


class NoParams(Params):
    """Nothing is asked."""


class Status(Result):
    """The cluster at a glance."""

    cluster: ClusterStatus


@operation("GET", "/distributed/cluster/status", access="read", timeout=10.0)
async def cluster_status(cluster: AwaitedCluster, params: NoParams) -> Status:
    """Tell how the cluster is."""
    return Status(cluster=await cluster.status())
