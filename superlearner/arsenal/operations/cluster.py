"""The cluster as a whole: what it is made of, what happens in it, and where things belong."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from superlearner.arsenal.listing import MOST, PATIENCE, Next, Page, page
from superlearner.arsenal.operation import AwaitedCluster, Field, Params, Result, operation
from superlearner.arsenal.operations.batches import ItemFailure, each
from superlearner.arsenal.operations.nodes import known_node
from superlearner.arsenal.operations.sandboxes import NAME, Labels, ResourceParams
from superlearner.arsenal.plain import event_json
from superlearner.core.faults import CLIENT, SCHEDULER
from superlearner.core.quorum import needed
from superlearner.core.snapshots import (
    ClusterStatus,
    LeaseInfo,
    Migration,
    NodeStatus,
    Partition,
    PlacementRow,
    ProcessInfo,
    SandboxInfo,
    SandboxStatus,
)
from superlearner.core.spec import PlacementStrategy, Resources
from superlearner.errors import InvalidSpec, NoConnection, UnknownNode

#: Faults under which nothing passes.
CUTS = frozenset({"cut", "partition", "flap"})


class NoParams(Params):
    """Nothing is asked."""


# -- At a glance ------------------------------------------------------------------------------------


class Status(Result):
    """The cluster at a glance."""

    cluster: ClusterStatus


@operation("GET", "/distributed/cluster/status", access="read", timeout=10.0)
async def cluster_status(cluster: AwaitedCluster, params: NoParams) -> Status:
    """Tell how the cluster is."""
    return Status(cluster=await cluster.status())


class Quorum(Result):
    """Whether enough nodes are heard of to decide safely."""

    quorum: bool
    reachable: int = Field(description="Nodes that are heard of.")
    known: int = Field(description="Nodes that belong to the cluster, down or not.")
    needed: int = Field(description="More than half of those known.")
    partition: Partition = Field(description="What happens without a quorum.")
    lease: float | None = Field(description="Seconds of silence after which a node is replaced.")
    unreachable: list[str] = Field(description="Nodes that are down, or suspected because they are silent.")


@operation("GET", "/distributed/cluster/quorum", access="read", timeout=10.0)
async def cluster_quorum(cluster: AwaitedCluster, params: NoParams) -> Quorum:
    """Tell whether more than half of the known nodes are heard of.

    Without that, what creates, moves or replaces sandboxes is refused, unless the cluster was told to prefer
    ``availability``.
    """
    status: ClusterStatus = await cluster.status()
    nodes = await cluster.nodes()
    return Quorum(
        quorum=status.quorum,
        reachable=status.reachable_nodes,
        known=status.total_nodes,
        needed=needed(status.total_nodes),
        partition=status.partition,
        lease=status.lease,
        unreachable=[node.name for node in nodes if not node.heard_of],
    )


class Place(Result):
    """One end of the cluster's links."""

    name: str
    address: str
    status: NodeStatus
    labels: dict[str, str]
    sandboxes: list[str]


class Copies(Result):
    """Sandboxes of one node whose newest checkpoint another one holds: they survive the loss of the first."""

    source: str
    target: str
    sandboxes: list[str]


class Cut(Result):
    """A link that is cut on purpose now, in one direction."""

    source: str
    target: str
    fault: str = Field(description="The id of the fault.")


class Topology(Result):
    """What the cluster is made of."""

    scheduler: str = Field(description="Its address; every node is connected to it.")
    nodes: list[Place]
    copies: list[Copies]
    cuts: list[Cut]
    ends: list[str] = Field(description="The names that links can be broken between.")


@operation("GET", "/distributed/cluster/topology", access="read", timeout=10.0)
async def cluster_topology(cluster: AwaitedCluster, params: NoParams) -> Topology:
    """Tell which nodes there are, what lives on them, who holds copies for whom, and which links are cut."""
    status, nodes, boxes, faults = await asyncio.gather(
        cluster.status(), cluster.nodes(), cluster.sandboxes(), cluster.chaos.faults()
    )
    copies: dict[tuple[str, str], list[str]] = {}
    for box in boxes:
        holders = box.checkpoint.nodes if box.checkpoint is not None else ()
        for holder in sorted(set(holders) - {box.node}):
            if box.node is not None:
                copies.setdefault((box.node, holder), []).append(box.id)
    return Topology(
        scheduler=status.address,
        nodes=[
            Place(
                name=node.name,
                address=node.address,
                status=node.status,
                labels=dict(node.labels),
                sandboxes=list(node.sandboxes),
            )
            for node in nodes
        ],
        copies=[
            Copies(source=source, target=target, sandboxes=ids)
            for (source, target), ids in sorted(copies.items())
        ],
        cuts=[
            Cut(source=source, target=target, fault=fault.id)
            for fault in faults
            if fault.kind in CUTS
            for source, target in fault.detail["links"]
        ],
        ends=[*(node.name for node in nodes), SCHEDULER, CLIENT],
    )


# -- Trees --------------------------------------------------------------------------------------------


class TreeQuery(Page):
    """Which trees are wanted."""

    node: str | None = Field(None, max_length=63, description="Only those on this node.")


class Tree(Result):
    """The supervision tree of one sandbox."""

    id: str
    node: str
    epoch: int
    tree: ProcessInfo


class Trees(Result):
    """Supervision trees by sandbox, and the sandboxes that did not show theirs."""

    trees: list[Tree]
    failed: list[ItemFailure]
    not_running: list[str] = Field(description="Sandboxes of this page that have no processes now.")
    total: int = Field(description="How many sandboxes there are, on all pages.")
    next: Next


@operation("GET", "/distributed/cluster/trees", access="read", timeout=30.0, errors=[UnknownNode])
async def cluster_trees(cluster: AwaitedCluster, params: TreeQuery) -> Trees:
    """Show the supervision trees of the sandboxes on all nodes; each is asked itself, all at once.

    One that does not answer within 3 s is named under ``failed``.
    """
    await known_node(cluster, params.node)
    shown, after, total = page(await cluster.sandboxes(params.node), params, key=lambda info: info.id)

    async def look(info: SandboxInfo) -> Tree:
        try:
            async with asyncio.timeout(PATIENCE):
                tree = await cluster.sandbox(info.id).tree()
        except TimeoutError:
            raise NoConnection(info.id, f"it has not answered within {PATIENCE:g} s") from None
        return Tree(id=info.id, node=str(info.node), epoch=info.epoch, tree=tree)

    running = [info for info in shown if info.status == "running"]
    trees, failed = await each(running, lambda info: info.id, look, "cluster_trees")
    return Trees(
        trees=trees,
        failed=failed,
        not_running=[info.id for info in shown if info.status != "running"],
        total=total,
        next=after,
    )


# -- The registry -------------------------------------------------------------------------------------


class RegistryQuery(Page):
    """Which entries are wanted."""

    node: str | None = Field(None, max_length=63, description="Only those on this node.")
    status: SandboxStatus | None = Field(None, description="Only those of this status.")


class Entry(Result):
    """What the registry holds of one sandbox."""

    id: str
    node: str | None
    epoch: int = Field(description="Grows with every move and fail-over; it never goes down.")
    pid: int | None
    status: SandboxStatus
    group: str | None
    lease: LeaseInfo | None


class RegistryPage(Result):
    """The registry by id."""

    entries: list[Entry]
    total: int
    next: Next


@operation("GET", "/distributed/registry", access="read", timeout=10.0, errors=[UnknownNode])
async def list_registry(cluster: AwaitedCluster, params: RegistryQuery) -> RegistryPage:
    """List what the registry holds: id, node, epoch, status and lease of each sandbox."""
    await known_node(cluster, params.node)
    shown, after, total = page(
        await cluster.sandboxes(params.node, params.status), params, key=lambda info: info.id
    )
    names = Entry.model_fields
    return RegistryPage(
        entries=[Entry(**{name: getattr(info, name) for name in names}) for info in shown],
        total=total,
        next=after,
    )


class Name(Params):
    """A name."""

    target: str = Field(
        min_length=1, max_length=200, description='"sandbox", or "sandbox/process" by its registered name.'
    )


class Where(Result):
    """Where a name lives."""

    target: str
    found: bool
    node: str | None
    epoch: int | None
    pid: str | None = Field(description="A process's pid, or the OS process of a sandbox.")


@operation("GET", "/distributed/registry/{target}", access="read", timeout=15.0)
async def whereis(cluster: AwaitedCluster, params: Name) -> Where:
    """Tell where a sandbox, or a named process in it, lives now; ``found`` is false where it does not."""
    location = await cluster.whereis(params.target)
    if location is None:
        return Where(target=params.target, found=False, node=None, epoch=None, pid=None)
    pid = None if location.pid is None else str(location.pid)
    return Where(target=params.target, found=True, node=location.node, epoch=location.epoch, pid=pid)


# -- Placement ----------------------------------------------------------------------------------------


class PlacementQuestion(Params):
    """A sandbox that is not made."""

    node: str = Field("auto", max_length=63, pattern=NAME, description='"auto", or the name of a node.')
    placement: PlacementStrategy = "least_loaded"
    resources: ResourceParams = Field(default_factory=ResourceParams)
    labels: Labels = Field(default_factory=dict)
    node_selector: Labels = Field(default_factory=dict)
    anti_affinity: Labels = Field(default_factory=dict)


class PlacementTable(Result):
    """How each node would be judged, the best first."""

    rows: list[PlacementRow]
    chosen: str | None = Field(description="Where it would be placed; null where no node can take it.")


@operation(
    "POST",
    "/distributed/cluster/placement",
    access="read",
    timeout=10.0,
    idempotent=True,
    errors=[InvalidSpec],
)
async def explain_placement(cluster: AwaitedCluster, params: PlacementQuestion) -> PlacementTable:
    """Explain where such a sandbox would be placed now, and why not elsewhere; nothing is made."""
    options: dict[str, Any] = params.model_dump(exclude={"resources"})
    rows = await cluster.explain_placement(Resources(**params.resources.model_dump()), **options)
    return PlacementTable(rows=rows, chosen=next((row.node for row in rows if row.chosen), None))


class Move(Result):
    """One move of a plan."""

    sandbox: str
    source: str
    target: str
    reason: str


class Plan(Result):
    """What would move, in order."""

    plan: str = Field(description="Names exactly these moves; `rebalance` carries out no others.")
    moves: list[Move]


@operation("GET", "/distributed/cluster/rebalance", access="read", timeout=10.0)
async def plan_rebalance(cluster: AwaitedCluster, params: NoParams) -> Plan:
    """Tell which sandboxes should move so that the nodes carry equal shares; nothing moves."""
    moves = [
        Move(sandbox=one.sandbox, source=one.source, target=one.target, reason=one.reason)
        for one in await cluster.rebalance(dry_run=True)
    ]
    text = "\n".join(f"{move.sandbox} {move.source} {move.target}" for move in moves)
    return Plan(plan=hashlib.sha256(text.encode()).hexdigest()[:12], moves=moves)


class SeenPlan(Params):
    """A plan that somebody has looked at."""

    plan: str = Field(max_length=20, description="`plan` of the answer of `plan_rebalance`.")


class Rebalanced(Result):
    """The moves that were made, and those that failed."""

    moved: list[Migration]
    failed: list[ItemFailure]


@operation(
    "POST", "/distributed/cluster/rebalance", access="operate", timeout=600.0, errors={InvalidSpec: 409}
)
async def rebalance(cluster: AwaitedCluster, params: SeenPlan) -> Rebalanced:
    """Move the sandboxes of a plan, one after the other; refused where the plan is not that of now."""
    planned = await plan_rebalance.execute(cluster, NoParams())
    if planned.plan != params.plan:
        raise InvalidSpec(
            f"The plan {params.plan!r} is not that of now; nothing was moved. Look at plan_rebalance again."
        )
    moved, failed = [], []
    for move in planned.moves:
        done, wrong = await each(
            [move],
            lambda move: move.sandbox,
            lambda move: cluster.migrate_sandbox(move.sandbox, node=move.target),
            "rebalance",
        )
        moved += done
        failed += wrong
    return Rebalanced(moved=moved, failed=failed)


# -- What happened --------------------------------------------------------------------------------------


class EventQuery(Params):
    """Which events are wanted."""

    since: int = Field(0, ge=0, description="Only those after this number: `last` of the answer before.")
    kind: str | None = Field(None, max_length=100, description='One kind, such as "node_lost".')
    sandbox: str | None = Field(None, max_length=63, description="Only those of this sandbox.")
    node: str | None = Field(None, max_length=63, description="Only those of this node.")
    limit: int = Field(100, ge=1, le=MOST, description="How many at most, the oldest first.")


class EventRow(Result):
    """One thing that happened."""

    seq: int
    at: float = Field(description="Unix time in seconds.")
    kind: str
    sandbox: str | None
    node: str | None
    epoch: int | None
    pid: str | None
    name: str | None
    reason: Any
    cause: str | None
    detail: dict[str, Any]


class EventPage(Result):
    """Events, oldest first."""

    events: list[EventRow]
    last: int = Field(description="Give it as `since` to get what comes after these.")
    more: bool = Field(description="Whether there are more now.")
    forgotten: bool = Field(description="Whether events after `since` are kept in memory no longer.")


@operation("GET", "/distributed/events", access="read", timeout=10.0)
async def list_events(cluster: AwaitedCluster, params: EventQuery) -> EventPage:
    """List what happened, from the cluster's event log, oldest first.

    To follow live, read ``events/stream`` instead.
    """
    only = params.model_dump(exclude={"since", "limit"})
    found, oldest = await asyncio.gather(
        cluster.events(params.since, **only, limit=params.limit + 1), cluster.events(limit=1)
    )
    shown = found[: params.limit]
    return EventPage(
        events=[EventRow(**event_json(event)) for event in shown],
        last=shown[-1].seq if shown else params.since,
        more=len(found) > len(shown),
        forgotten=bool(oldest) and oldest[0].seq > params.since + 1,
    )
