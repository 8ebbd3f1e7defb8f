"""A Dask preload that lets the links of a cluster be broken that somebody else starts.

``dask scheduler --protocol faulty+tls --preload superlearner.cluster.preload ...``, and the same for each
``dask worker``: it makes the transport known and tells each process its name among the links' ends.
"""

from __future__ import annotations

from distributed import Scheduler, Worker

from superlearner.cluster import faulty
from superlearner.cluster.agent import node_name
from superlearner.cluster.lanes import HERE
from superlearner.core.faults import SCHEDULER


def dask_setup(server: Scheduler | Worker) -> None:
    """Name this process, before its server talks to any other."""
    faulty.register()
    HERE.name = SCHEDULER if isinstance(server, Scheduler) else node_name(server.name)
