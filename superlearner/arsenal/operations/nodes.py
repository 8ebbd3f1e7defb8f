"""Nodes: looking, adding, emptying, removing."""

from __future__ import annotations

from superlearner.arsenal.listing import Next, Page, Total, page
from superlearner.arsenal.operation import AwaitedCluster, Field, Params, Result, operation
from superlearner.arsenal.operations.sandboxes import NAME, Labels
from superlearner.arsenal.rows import NodeRow
from superlearner.core.snapshots import Health, NodeInfo, NodeStatus
from superlearner.errors import DrainFailed, InvalidSpec, NoQuorum, StartFailed, UnknownNode, Unsupported

Name = Field(description="The node's name.", min_length=1, max_length=63)


class OneNode(Params):
    """One node."""

    name: str = Name


class NodeResult(Result):
    """One node."""

    node: NodeRow


class NodeQuery(Page):
    """Which nodes are wanted."""

    status: NodeStatus | None = Field(None, description="Only those of this status.")
    health: Health | None = Field(None, description="Only those of this health.")


class NodeList(Result):
    """Nodes by name, also those that are down."""

    nodes: list[NodeRow]
    total: Total
    next: Next


@operation("GET", "/distributed/nodes", access="read", timeout=10.0)
async def list_nodes(cluster: AwaitedCluster, params: NodeQuery) -> NodeList:
    """List the nodes, also those that are down."""
    wanted = [
        node
        for node in await cluster.nodes()
        if params.status in {None, node.status} and params.health in {None, node.health}
    ]
    shown, after, total = page(wanted, params, key=lambda node: node.name)
    return NodeList(nodes=[NodeRow.of(node) for node in shown], total=total, next=after)


@operation("GET", "/distributed/nodes/{name}", access="read", timeout=10.0, errors=[UnknownNode])
async def get_node(cluster: AwaitedCluster, params: OneNode) -> NodeResult:
    """Tell about one node."""
    return NodeResult(node=NodeRow.of(await find(cluster, params.name)))


async def find(cluster: AwaitedCluster, name: str) -> NodeInfo:
    """Return a node; raise `UnknownNode` where there is none."""
    nodes: dict[str, NodeInfo] = {node.name: node for node in await cluster.nodes()}
    if name not in nodes:
        raise UnknownNode(name, tuple(nodes))
    return nodes[name]


async def known_node(cluster: AwaitedCluster, name: str | None) -> None:
    """Refuse a node that does not exist; None is no node in particular."""
    if name is not None:
        await find(cluster, name)


class NewNode(OneNode):
    """A node to be started."""

    name: str = Field(description="Its name in the cluster.", min_length=1, max_length=63, pattern=NAME)
    labels: Labels = Field(
        default_factory=dict, description="What it says of itself, for the node_selector of sandboxes."
    )


class AddedNode(NodeResult):
    """A node that was started."""

    name: str


@operation(
    "POST",
    "/distributed/nodes",
    access="admin",
    timeout=120.0,
    creates="/distributed/nodes/{name}",
    # A name that reads well may be taken.
    errors={InvalidSpec: 409, StartFailed: None, Unsupported: None},
)
async def add_node(cluster: AwaitedCluster, params: NewNode) -> AddedNode:
    """Start another node of a local cluster; answered when it has joined.

    Where somebody else starts the nodes, such as Kubernetes or a job queue, it is refused: add them there.
    """
    info = await cluster.add_node(params.name, params.labels)
    return AddedNode(name=info.name, node=NodeRow.of(info))


class Drained(Result):
    """What was moved off a node that is gone now."""

    name: str
    moved: list[str] = Field(description="The ids of its sandboxes, which live elsewhere now.")


@operation(
    "POST",
    "/distributed/nodes/{name}/drains",
    access="admin",
    timeout=300.0,
    dangerous=True,
    errors=[UnknownNode, NoQuorum, DrainFailed],
)
async def drain_node(cluster: AwaitedCluster, params: OneNode) -> Drained:
    """Move everything off a node with its state, then stop the node for good."""
    return Drained(name=params.name, moved=await cluster.drain(params.name))


@operation(
    "DELETE",
    "/distributed/nodes/{name}",
    access="admin",
    timeout=60.0,
    dangerous=True,
    errors=[UnknownNode, Unsupported],
)
async def remove_node(cluster: AwaitedCluster, params: OneNode) -> None:
    """Stop a node of a local cluster for good, without emptying it first.

    Its sandboxes go on elsewhere from their checkpoints; what is newer than those is lost. `drain_node` loses nothing.
    """
    await cluster.remove_node(params.name)
