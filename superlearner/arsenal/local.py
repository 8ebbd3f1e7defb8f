"""The way to the local cluster that runs now; none is started."""

from __future__ import annotations

from superlearner.cluster.cluster import Cluster
from superlearner.cluster.local import Connection, find_connection
from superlearner.cluster.session import Session
from superlearner.errors import ClusterNotFound


async def connect() -> Cluster:
    """Return the local cluster, open, with methods that are awaited; raise `ClusterNotFound` where there is none."""

    async def find() -> Connection:
        found = find_connection()
        if found is None:
            raise ClusterNotFound("No local cluster is running.")
        return found

    cluster = Cluster.of(Session(find, asynchronous=True))
    try:
        await cluster
    except BaseException:
        await cluster.close()
        raise
    return cluster
