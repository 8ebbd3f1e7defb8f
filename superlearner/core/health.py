"""How well a node and the cluster are, judged from samples against thresholds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from superlearner.core.quorum import has_quorum
from superlearner.core.snapshots import Health

ClusterHealth = Literal["healthy", "degraded", "critical"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Above which figures a node earns a warning."""

    #: Processes in all its sandboxes together.
    processes: int = 100_000
    #: Bytes used by the node and its sandboxes.
    memory: int = 2_000_000_000
    #: Share of a machine's memory in use at which it is short, and at which it is full. Dask's workers pause at the
    #: first and are ended at the second (``distributed.worker.memory.pause`` and ``.terminate``).
    machine_short: float = 0.80
    machine_full: float = 0.95
    #: Share of a limit of its own, which is enforced, at which a sandbox is near it.
    nearly: float = 0.90
    #: Share of processors in use above which work begins to wait for them: a node's cores, or the one core that a
    #: sandbox can use (B. Gregg, the USE method: above 70 % a resource can be a bottleneck).
    busy: float = 0.70


class NodeHealth(NamedTuple):
    """A verdict with its reasons."""

    health: Health
    reasons: tuple[str, ...] = ()


def node_health(
    *,
    reachable: bool,
    suspected: bool = False,
    processes: int | None = None,
    memory: int | None = None,
    thresholds: Thresholds | None = None,
) -> NodeHealth:
    """Judge one node: critical if it cannot be reached, a warning if it is silent or above a threshold.

    None is not measured.

    >>> node_health(reachable=True, processes=12, memory=3_000_000_000)
    NodeHealth(health='warning', reasons=('it uses 3,000,000,000 bytes, more than 2,000,000,000',))
    """
    limits = thresholds or Thresholds()
    if not reachable:
        return NodeHealth("critical", ("it cannot be reached",))
    reasons = ["it has been silent for half of its lease"] if suspected else []
    if processes is not None and processes > limits.processes:
        reasons.append(f"it runs {processes:,} processes, more than {limits.processes:,}")
    if memory is not None and memory > limits.memory:
        reasons.append(f"it uses {memory:,} bytes, more than {limits.memory:,}")
    return NodeHealth("warning" if reasons else "healthy", tuple(reasons))


def cluster_health(nodes: Iterable[Health], failed_sandboxes: int = 0) -> ClusterHealth:
    """Judge the cluster from the health of all its known nodes and how many sandboxes were given up or are lost.

    ``critical``: half of the nodes or more cannot be reached, or there is none; ``degraded``: anything else is
    not as it should be.

    >>> cluster_health(["healthy", "healthy", "critical"]), cluster_health(["healthy", "critical"])
    ('degraded', 'critical')
    """
    verdicts = list(nodes)
    if not has_quorum(sum(verdict != "critical" for verdict in verdicts), len(verdicts)):
        return "critical"
    return (
        "healthy"
        if not failed_sandboxes and all(verdict == "healthy" for verdict in verdicts)
        else "degraded"
    )
