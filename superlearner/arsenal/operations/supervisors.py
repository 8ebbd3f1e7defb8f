"""Supervisors: their trees and children, and how they decide from now on."""

from __future__ import annotations

from typing import Literal

from superlearner.arsenal.inside import Surveyed, look
from superlearner.arsenal.listing import Next, Page, Total, page
from superlearner.arsenal.operation import AwaitedCluster, Field, Result, operation
from superlearner.arsenal.process_rows import REACHED, OneSupervisor, ProcessRow, TreeNode
from superlearner.arsenal.rows import OneSandbox
from superlearner.core.childspec import Strategy
from superlearner.core.snapshots import ChildInfo, ProcessInfo
from superlearner.errors import (
    CallTimeout,
    InvalidSpec,
    NoProcess,
    NoSandbox,
    ProcessDied,
    UnknownNode,
    Unsupported,
)

ASKED = (*REACHED, Unsupported)

# -- Looking ----------------------------------------------------------------------------------------


class SupervisorQuery(Page):
    """Which supervisors are wanted."""

    node: str | None = Field(None, max_length=63, description="Only those on this node.")
    sandbox: str | None = Field(None, max_length=63, description="Only those of this sandbox.")
    paused: bool | None = Field(None, description="Only those that are paused, or that are not.")


class SupervisorList(Surveyed):
    """The supervisors in the sandboxes that have answered."""

    supervisors: list[ProcessRow]
    total: Total
    next: Next


@operation("GET", "/distributed/supervisors", access="read", timeout=5.0, errors=[UnknownNode, NoSandbox])
async def list_supervisors(cluster: AwaitedCluster, params: SupervisorQuery) -> SupervisorList:
    """List the supervisors in all sandboxes of all nodes, by sandbox and place in the tree.

    Every node and every sandbox is asked, all at once. Whoever does not answer within 3 s is named beside the others.
    """
    looked = await look(
        cluster, lambda sandbox: sandbox.processes(), node=params.node, sandbox=params.sandbox
    )
    found = [
        ProcessRow.of(sandbox, info, details=True)
        for sandbox, infos in looked.found
        for info in infos
        if info.type == "supervisor" and params.paused in {None, info.paused}
    ]
    shown, after, total = page(found, params, key=_place)
    return SupervisorList(supervisors=shown, total=total, next=after, **looked.told())


def _place(row: ProcessRow) -> str:
    path = "/".join((row.details.path if row.details else None) or ())
    return f"{row.sandbox} {path[:80]} {row.pid}"[:200]


class Tree(Result):
    """A supervision tree."""

    id: str
    total: int = Field(description="How many processes are in it, also those that do not run.")
    root: TreeNode


@operation("GET", "/distributed/sandboxes/{id}/tree", access="read", timeout=15.0, errors=REACHED)
async def get_supervision_tree(cluster: AwaitedCluster, params: OneSandbox) -> Tree:
    """Return the whole supervision tree of a sandbox, from its root down."""
    root = TreeNode.of(await cluster.sandbox(params.id).tree())
    return Tree(id=params.id, total=sum(1 for _ in root.walk()), root=root)


class SupervisorResult(Result):
    """One supervisor."""

    supervisor: ProcessRow


async def info_of(cluster: AwaitedCluster, params: OneSupervisor) -> ProcessInfo:
    """Return a supervisor; refuse what is none."""
    info: ProcessInfo = await cluster.sandbox(params.id).process(params.supervisor)
    if info.type != "supervisor":
        raise Unsupported(
            f"{params.supervisor!r} is a {info.behaviour}, not a supervisor: it has no children. "
            "list_supervisors tells which there are."
        )
    return info


async def _row(cluster: AwaitedCluster, params: OneSupervisor) -> SupervisorResult:
    info = await info_of(cluster, params)
    return SupervisorResult(
        supervisor=ProcessRow.of(await cluster.sandbox(params.id).info(), info, details=True)
    )


@operation(
    "GET",
    "/distributed/sandboxes/{id}/supervisors/{supervisor}",
    access="read",
    timeout=15.0,
    errors=ASKED,
)
async def get_supervisor(cluster: AwaitedCluster, params: OneSupervisor) -> SupervisorResult:
    """Tell about one supervisor: its strategy, its restart budget, whether it is paused."""
    return await _row(cluster, params)


class ChildRow(Result):
    """One child."""

    id: str
    pid: str | None = Field(description="Null while it does not run.")
    type: Literal["worker", "supervisor"]
    status: str

    @classmethod
    def of(cls, info: ChildInfo) -> ChildRow:
        """Return the row of a child."""
        return cls(id=str(info.id), pid=info.pid, type=info.type, status=info.status)


class Counts(Result):
    """How many there are."""

    specs: int = Field(description="All children, also those that do not run.")
    active: int = Field(description="Those that run.")
    supervisors: int
    workers: int


@operation(
    "GET",
    "/distributed/sandboxes/{id}/supervisors/{supervisor}/counts",
    access="read",
    timeout=15.0,
    errors=ASKED,
)
async def count_children(cluster: AwaitedCluster, params: OneSupervisor) -> Counts:
    """Count the children of a supervisor."""
    counts = await cluster.sandbox(params.id).count_children(params.supervisor)
    return Counts(**counts._asdict())


# -- How it decides ---------------------------------------------------------------------------------


class Options(OneSupervisor):
    """Other options of a supervisor; what is left out stays as it is."""

    strategy: Strategy | None = Field(None, description="Who is stopped and started with a child that ends.")
    max_restarts: int | None = Field(None, ge=0, le=10_000)
    max_seconds: float | None = Field(None, ge=0.1, le=31_536_000)


class Changed(Result):
    """A supervisor before and after."""

    before: ProcessRow
    after: ProcessRow


@operation(
    "PATCH",
    "/distributed/sandboxes/{id}/supervisors/{supervisor}",
    access="operate",
    timeout=30.0,
    idempotent=True,
    # A dynamic supervisor has one strategy only.
    errors={**dict.fromkeys(ASKED), InvalidSpec: 409},
)
async def change_supervisor(cluster: AwaitedCluster, params: Options) -> Changed:
    """Give a running supervisor another strategy or restart budget, from its next decision on.

    Checkpoints hold it: it is there again after a restart of the sandbox, a move and a fail-over, as far as the newest
    checkpoint has it. A supervisor that its own supervisor restarts begins with the options of its spec, and a
    reload brings those of the new version. Restarts that were spent stay spent.
    """
    before = await _row(cluster, params)
    await cluster.sandbox(params.id).change_supervisor(
        params.supervisor, params.strategy, params.max_restarts, params.max_seconds
    )
    return Changed(before=before.supervisor, after=(await _row(cluster, params)).supervisor)


@operation(
    "PUT",
    "/distributed/sandboxes/{id}/supervisors/{supervisor}/pause",
    access="operate",
    timeout=30.0,
    errors=ASKED,
)
async def pause_supervision(cluster: AwaitedCluster, params: OneSupervisor) -> SupervisorResult:
    """Let a supervisor start nobody again until it is resumed; children that end meanwhile stay down.

    It answers all the same, can be stopped, and does what is asked of it by hand. The pause is the running
    supervisor's own: whatever starts it again, a restart, a move or a fail-over, starts all its children and ends it.
    """
    await cluster.sandbox(params.id).pause_supervision(params.supervisor)
    return await _row(cluster, params)


class Resumed(Result):
    """A supervisor that decides again."""

    decides_on: list[str] = Field(description="The children that had ended meanwhile, in start order.")
    children: list[ChildRow] | None = Field(
        description="Its children after these decisions; null where it has given up over them, or is not done yet."
    )


@operation(
    "DELETE",
    "/distributed/sandboxes/{id}/supervisors/{supervisor}/pause",
    access="operate",
    timeout=60.0,
    errors=ASKED,
)
async def resume_supervision(cluster: AwaitedCluster, params: OneSupervisor) -> Resumed:
    """Let a paused supervisor decide again, first on the children that have ended meanwhile.

    Each of them is decided on by its restart type and the strategy, and counts against the restart budget now.
    """
    pid = (await info_of(cluster, params)).pid
    ended = await cluster.sandbox(params.id).resume_supervision(params.supervisor)
    return Resumed(decides_on=[str(id) for id in ended], children=await children_of(cluster, params.id, pid))


async def children_of(cluster: AwaitedCluster, id: str, supervisor: str | None) -> list[ChildRow] | None:
    """Return the children of a supervisor once it has decided on what it knows; None when it has ended, or is held."""
    try:
        return [ChildRow.of(child) for child in await cluster.sandbox(id).which_children(supervisor)]
    except (NoProcess, ProcessDied, CallTimeout):
        return None
