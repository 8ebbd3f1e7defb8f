"""How well the cluster is: what was measured, what that says, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Literal

from superlearner.arsenal.listing import Next, Page, Total, page
from superlearner.arsenal.operation import AwaitedCluster, Field, Params, Result, operation
from superlearner.arsenal.operations.cluster import NoParams
from superlearner.arsenal.operations.nodes import known_node
from superlearner.core.alerts import Alert, AlertState, Rule, Severity
from superlearner.core.anomalies import NEEDED, anomalies
from superlearner.core.bottlenecks import Resource
from superlearner.core.scores import Score
from superlearner.errors import NoAlert, UnknownNode

# -- What was measured --------------------------------------------------------------------------------


class NodeSample(Result):
    """What was measured of a node at one time; null is not measured."""

    at: float = Field(description="Unix time in seconds.")
    cpu: float | None = Field(description="Percent of the machine's processors.")
    memory: int = Field(description="Bytes used by the node and its sandboxes.")
    memory_used: int = Field(description="Bytes in use on its machine.")
    memory_total: int = Field(description="Bytes that its machine has.")
    network: float | None = Field(description="Bytes per second of its machine, in and out.")
    uptime: float = Field(description="Seconds.")
    processes: int = Field(description="Processes in all its sandboxes.")
    sandboxes: int = Field(description="How many were measured.")

    @classmethod
    def of(cls, sample: dict[str, Any]) -> NodeSample:
        """Return the row of a sample."""
        plain = {name: sample[name] for name in cls.model_fields}
        return cls(**plain | {"sandboxes": len(sample["sandboxes"])})


class NodeQuery(Params):
    """Which nodes are wanted."""

    node: str | None = Field(None, max_length=63, description="Only this one.")


class Newest(Result):
    """The newest sample of each node."""

    nodes: dict[str, NodeSample]
    not_measured: list[str] = Field(description="Nodes without a sample yet.")


@operation("GET", "/distributed/metrics", access="read", timeout=10.0, errors=[UnknownNode])
async def cluster_metrics(cluster: AwaitedCluster, params: NodeQuery) -> Newest:
    """Return the newest sample of each node; every node is measured every 2 s."""
    await known_node(cluster, params.node)
    found = await cluster.metrics()
    wanted = {name: samples for name, samples in found.items() if params.node in {None, name}}
    return Newest(
        nodes={name: NodeSample.of(samples[-1]) for name, samples in sorted(wanted.items()) if samples},
        not_measured=sorted(name for name, samples in wanted.items() if not samples),
    )


class HistoryQuery(NodeQuery):
    """Which samples are wanted."""

    since: float = Field(
        0.0, ge=0, description="Only those after this Unix time, for clients that ask again."
    )
    limit: int = Field(100, ge=1, le=1000, description="How many of each node at most, the newest.")


class History(Result):
    """The samples of each node, oldest first."""

    nodes: dict[str, list[NodeSample]]


@operation("GET", "/distributed/metrics/history", access="read", timeout=10.0, errors=[UnknownNode])
async def metrics_history(cluster: AwaitedCluster, params: HistoryQuery) -> History:
    """Return the samples of each node that are kept: the newest 100, unless the settings say otherwise."""
    await known_node(cluster, params.node)
    return History(
        nodes={
            name: [NodeSample.of(sample) for sample in samples if sample["at"] > params.since][
                -params.limit :
            ]
            for name, samples in sorted((await cluster.metrics()).items())
            if params.node in {None, name}
        }
    )


# -- What that says -----------------------------------------------------------------------------------


class Health(Result):
    """Scores from 0 to 100, with their reasons and what to do."""

    health: Literal["healthy", "degraded", "critical"]
    score: int | None = Field(description="Of the cluster; null where nothing has been measured.")
    why: str = Field(description="How that score came about.")
    nodes: list[Score]
    sandboxes: list[Score] = Field(description="Those below 100, the worst first, 100 at most.")
    sandboxes_well: int = Field(description="How many score 100.")
    sandboxes_unknown: int = Field(description="How many have no score, because they were not measured yet.")
    advice: list[str] = Field(description="What to do, the 100 most pressing at most.")


@operation("GET", "/distributed/cluster/health", access="read", timeout=10.0)
async def cluster_health(cluster: AwaitedCluster, params: NoParams) -> Health:
    """Score how well the cluster is, from 0 to 100.

    A figure scores 100 up to half of its limit, 50 at its limit and 0 where it is full; a node or a sandbox is as
    well as its worst figure, the cluster as the mean of its nodes, or of its sandboxes where that is less; it scores
    0 without a quorum. Processor use counts by the median of 5 samples; where there are fewer it has no score.
    """
    scored = await cluster.health()
    known = [one for one in scored.sandboxes if one.score is not None]
    return Health(
        health=(await cluster.status()).cluster_health,
        score=scored.score,
        why=scored.why,
        nodes=list(scored.nodes),
        sandboxes=sorted((one for one in known if one.score < 100), key=lambda one: (one.score, one.name))[
            :100
        ],
        sandboxes_well=sum(one.score == 100 for one in known),
        sandboxes_unknown=len(scored.sandboxes) - len(known),
        advice=list(scored.advice)[:100],
    )


class BottleneckList(Result):
    """Resources that hold others up, the worst first."""

    bottlenecks: list[Resource]
    judged: int = Field(description="How many resources could be judged.")
    unjudged: int = Field(
        description="How many could not: for want of 5 samples, or because they have no limit."
    )


@operation("GET", "/distributed/cluster/bottlenecks", access="read", timeout=10.0)
async def find_bottlenecks(cluster: AwaitedCluster, params: NoParams) -> BottleneckList:
    """Find resources that are more than 70 % in use, or that work queues for.

    Of nodes: processors, and memory and network of their machines (1 Gbit/s counts as full). Of sandboxes: the one
    core that each can use, its memory limit, and its mailboxes. Use is the median of the newest 5 samples; a queue is
    what has waited in each of them.
    """
    found = await cluster.bottlenecks()
    return BottleneckList(bottlenecks=list(found.found), judged=found.judged, unjudged=found.unjudged)


class AnomalyRow(Result):
    """A figure that is unlike before."""

    of: Literal["node", "sandbox"]
    name: str
    figure: str
    kind: Literal["jump", "drift"]
    at: float = Field(description="Unix time in seconds.")
    value: float
    expected: float = Field(description="What it was before.")
    score: float = Field(description="How far away that is, in the units of its rule.")
    limit: float = Field(description="From where on it counts.")


class AnomalyList(Result):
    """Figures that are unlike before."""

    anomalies: list[AnomalyRow]
    judged: int = Field(description="How many figures had enough samples.")
    too_few: list[str] = Field(
        description="Nodes, then sandboxes, with a figure that has not, 100 of them at most."
    )
    too_few_total: int = Field(description="How many of these there are.")
    needed: int = Field(description="How many samples a figure needs; one comes every 2 s.")


#: By how much each figure must change to be worth telling.
OF_NODES = {"cpu": 10.0, "memory": 16e6, "network": 1e6, "processes": 10.0}
OF_SANDBOXES = {"cpu": 0.1, "memory": 8e6, "mailbox": 10.0}
Series = dict[tuple[Literal["node", "sandbox"], str, str], list[tuple[float, float]]]


def series_of(metrics: dict[str, list[dict[str, Any]]], where: dict[str, str | None]) -> Series:
    """Return the figures of nodes, and of sandboxes on the nodes where they are now, over time."""
    found: Series = {}

    def add(
        of: Literal["node", "sandbox"], name: str, at: float, sample: dict[str, Any], names: Iterable[str]
    ) -> None:
        for figure in names:
            points = found.setdefault((of, name, figure), [])
            if sample.get(figure) is not None:
                points.append((at, float(sample[figure])))

    for node, samples in metrics.items():
        for sample in samples:
            add("node", node, sample["at"], sample, OF_NODES)
            for id, figures in sample["sandboxes"].items():
                if where.get(id) == node:
                    add("sandbox", id, sample["at"], figures, OF_SANDBOXES)
    return found


@operation("GET", "/distributed/cluster/anomalies", access="read", timeout=20.0)
async def find_anomalies(cluster: AwaitedCluster, params: NoParams) -> AnomalyList:
    """Find figures that have jumped, or drift away, against their own samples.

    A jump: one of the newest 5 samples has a modified z-score above 3.5 against those before it (Iglewicz and Hoaglin,
    1993). A drift: the exponentially weighted moving average of the newer half leaves the 3-sigma limits of the older
    half (Roberts, 1959). A figure with fewer than 40 samples is not judged.
    """
    where = {info.id: info.node for info in await cluster.sandboxes(status="running")}
    metrics = await cluster.metrics()
    series = series_of(metrics, where)
    rows, judged = [], 0
    too_few = {*metrics, *where} - {name for _, name, _ in series}
    for (of, name, figure), points in sorted(series.items()):
        found = anomalies(points, (OF_NODES if of == "node" else OF_SANDBOXES)[figure])
        if found is None:
            too_few.add(name)
            continue
        judged += 1
        rows += [AnomalyRow(of=of, name=name, figure=figure, **asdict(one)) for one in found]
    nodes_first = sorted(too_few, key=lambda name: (name not in metrics, name))
    return AnomalyList(
        anomalies=rows,
        judged=judged,
        too_few=nodes_first[:100],
        too_few_total=len(nodes_first),
        needed=NEEDED,
    )


# -- What is wrong --------------------------------------------------------------------------------------


class AlertQuery(Page):
    """Which alerts are wanted."""

    state: AlertState | None = None
    rule: Rule | None = None
    severity: Severity | None = None
    node: str | None = Field(None, max_length=63, description="Only those of this node.")
    sandbox: str | None = Field(None, max_length=63, description="Only those of this sandbox.")


class AlertList(Result):
    """Alerts by the time since when their cause has held."""

    alerts: list[Alert]
    total: Total
    next: Next
    firing: int = Field(description="How many of all alerts are firing.")


@operation("GET", "/distributed/alerts", access="read", timeout=10.0)
async def list_alerts(cluster: AwaitedCluster, params: AlertQuery) -> AlertList:
    """List what is wrong now, and the newest of what was.

    Rules: ``node_failure``, ``resource_exhaustion``, ``sandbox_failure``, ``flapping``. An alert is pending until its
    cause has held for as long as its rule waits, then firing, then resolved when its cause is gone. Judged at once
    when something happens, and every 30 s. To be told live, read ``events/stream?kind=alert_firing``.
    """
    known: list[Alert] = await cluster.alerts()
    only = params.model_dump(include={"state", "rule", "severity", "node", "sandbox"}, exclude_none=True)
    wanted = [alert for alert in known if all(getattr(alert, name) == value for name, value in only.items())]
    shown, after, total = page(wanted, params, key=lambda alert: f"{alert.since:017.6f} {alert.id}")
    firing = sum(alert.state == "firing" for alert in known)
    return AlertList(alerts=shown, total=total, next=after, firing=firing)


class Acknowledgement(Params):
    """Somebody who knows."""

    id: str = Field(min_length=1, max_length=100, description="The id of the alert.")
    by: str = Field(min_length=1, max_length=100, description="Who knows of it.")
    note: str | None = Field(None, max_length=500, description="What is being done.")


class AlertResult(Result):
    """One alert."""

    alert: Alert


@operation(
    "POST",
    "/distributed/alerts/{id}/acknowledgements",
    access="operate",
    timeout=10.0,
    idempotent=True,
    errors=[NoAlert],
)
async def acknowledge_alert(cluster: AwaitedCluster, params: Acknowledgement) -> AlertResult:
    """Say that somebody knows of an alert that is pending or firing; it goes on while its cause lasts."""
    return AlertResult(alert=await cluster.acknowledge_alert(params.id, params.by, params.note))
