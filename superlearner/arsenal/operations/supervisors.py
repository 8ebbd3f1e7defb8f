"""Supervisors: their trees and children, what they have decided, and how they decide from now on.

A little long: looking, changing and the children of a supervisor share their parameters and errors.
"""

from __future__ import annotations

import time
from typing import Literal

from superlearner.arsenal.inside import Surveyed, look
from superlearner.arsenal.listing import Page, page
from superlearner.arsenal.operation import AwaitedCluster, Field, Params, Result, operation
from superlearner.arsenal.operations.processes import REACHED
from superlearner.arsenal.plain import in_one_line
from superlearner.arsenal.process_rows import OneSupervisor, ProcessRow, Sandbox, TreeNode
from superlearner.arsenal.restart_history import Failures, RestartRow, failures, restarts
from superlearner.core.childspec import Strategy
from superlearner.core.snapshots import ChildInfo, ProcessInfo
from superlearner.errors import (
    ChildNotFound,
    InvalidSpec,
    NoProcess,
    NoSandbox,
    NotEnded,
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
    total: int = Field(description="How many there are, on all pages.")
    next: str | None = Field(description="The cursor of the next page; null on the last one.")


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


class OneSandbox(Params):
    """One sandbox."""

    id: str = Sandbox


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


async def _info(cluster: AwaitedCluster, params: OneSupervisor) -> ProcessInfo:
    info: ProcessInfo = await cluster.sandbox(params.id).process(params.supervisor)
    if info.type != "supervisor":
        raise Unsupported(
            f"{params.supervisor!r} is a {info.behaviour}, not a supervisor: it has no children. "
            "list_supervisors tells which there are."
        )
    return info


async def _row(cluster: AwaitedCluster, params: OneSupervisor) -> SupervisorResult:
    info = await _info(cluster, params)
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


# -- What it has decided ----------------------------------------------------------------------------


class HistoryQuery(OneSupervisor):
    """Which restarts are wanted."""

    since: int = Field(
        0, ge=0, description="Only those after this event: `seq` of the last one that is known."
    )
    limit: int = Field(100, ge=1, le=1000, description="How many at most, the newest.")


class History(Result):
    """What a supervisor has started again, oldest first, as far as the cluster's event log reaches."""

    id: str
    supervisor: str
    restarts: list[RestartRow]
    total: int = Field(description="How many there are, also those that the limit leaves out.")


@operation(
    "GET",
    "/distributed/sandboxes/{id}/supervisors/{supervisor}/restarts",
    access="read",
    timeout=15.0,
    errors=ASKED,
)
async def list_restarts(cluster: AwaitedCluster, params: HistoryQuery) -> History:
    """List the restarts that a supervisor has decided on, with the true reasons and what became of them.

    It is known by its place in the tree: what it did before it was itself restarted, or moved, is told too.
    """
    info = await _info(cluster, params)
    found = restarts(await cluster.events(sandbox=params.id), info.path or ())
    found = [row for row in found if row.seq > params.since]
    return History(
        id=params.id, supervisor=params.supervisor, restarts=found[-params.limit :], total=len(found)
    )


class Window(OneSupervisor):
    """The time that is looked at."""

    window: float = Field(60.0, gt=0, le=86_400, description="So many seconds until now.")


class FailureRate(Failures):
    """How often the children of a supervisor have failed lately, as far as the cluster's event log reaches."""

    id: str
    supervisor: str
    window: float
    max_restarts: int
    max_seconds: float
    spent: int = Field(description="Its restarts in the last max_seconds: above max_restarts it gives up.")


@operation(
    "GET",
    "/distributed/sandboxes/{id}/supervisors/{supervisor}/failures",
    access="read",
    timeout=15.0,
    errors=ASKED,
)
async def get_failure_rate(cluster: AwaitedCluster, params: Window) -> FailureRate:
    """Count how often the children of a supervisor have failed, and how much of its restart budget that has spent."""
    info = await _info(cluster, params)
    events, now = await cluster.events(sandbox=params.id), time.time()
    place = info.path or ()
    found = failures(events, place, now - params.window, now)
    spent = failures(events, place, now - (info.max_seconds or 0.0), now).restarts
    return FailureRate(
        **found.model_dump(),
        id=params.id,
        supervisor=params.supervisor,
        window=params.window,
        max_restarts=info.max_restarts,
        max_seconds=info.max_seconds,
        spent=spent,
    )


# -- How it decides ---------------------------------------------------------------------------------


class Options(OneSupervisor):
    """Other options of a supervisor; what is left out stays as it is."""

    strategy: Strategy | None = Field(None, description="Who is stopped and started with a child that ends.")
    max_restarts: int | None = Field(None, ge=0, le=1_000_000)
    max_seconds: float | None = Field(None, gt=0, le=31_536_000)


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
    errors=[*ASKED, InvalidSpec],
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
        description="Its children after these decisions; null where it has given up over them."
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
    pid = (await _info(cluster, params)).pid
    ended = await cluster.sandbox(params.id).resume_supervision(params.supervisor)
    return Resumed(decides_on=[str(id) for id in ended], children=await _children(cluster, params.id, pid))


async def _children(cluster: AwaitedCluster, id: str, supervisor: str | None) -> list[ChildRow] | None:
    """Return the children of a supervisor once it has decided on what it knows; None when it has ended."""
    try:
        return [ChildRow.of(child) for child in await cluster.sandbox(id).which_children(supervisor)]
    except (NoProcess, ProcessDied):
        return None


# -- Failing on purpose -----------------------------------------------------------------------------


class Failing(OneSupervisor):
    """Who is to fail."""

    child: str | None = Field(
        None, max_length=300, description="The id of the child that fails; null: the supervisor itself."
    )
    reason: str = Field("crash", min_length=1, max_length=200, description="The exit reason.")
    timeout: float = Field(5.0, gt=0, le=30, description="Seconds until it must have ended.")


class Failed(Result):
    """What has failed, and what was made of it."""

    target: Literal["child", "supervisor"]
    failed: str = Field(description="The id of who has failed.")
    pid: str
    reason: str = Field(description="The reason with which it has ended.")
    timestamp: float = Field(description="When its end was known: Unix time in seconds.")
    children: list[ChildRow] | None = Field(
        description="The children of its supervisor, once that has decided; null where that has ended too, "
        "or where it was the root, after whose end the sandbox is started again."
    )


@operation(
    "POST",
    "/distributed/sandboxes/{id}/supervisors/{supervisor}/failures",
    access="operate",
    timeout=60.0,
    dangerous=True,
    errors=[*ASKED, ChildNotFound, NotEnded],
)
async def simulate_failure(cluster: AwaitedCluster, params: Failing) -> Failed:
    """Let a child, or the supervisor itself, fail as if its own code had raised the reason.

    It is a real end: its state is lost, links and monitors are told, and the supervisor above it decides what follows.
    Answered when that is decided.
    """
    sandbox = cluster.sandbox(params.id)
    info = await _info(cluster, params)
    if params.child is None:
        victim, decides = info, await _above(cluster, params.id, info)
    else:
        found = next((child for child in info.children if child.id == params.child), None)
        if found is None:
            raise ChildNotFound(params.child)
        if found.pid is None:
            raise NoProcess(params.child)
        victim, decides = found, info.pid
    reason = await sandbox.crash(victim.pid, params.reason, params.timeout)
    ended = time.time()
    return Failed(
        target="supervisor" if params.child is None else "child",
        failed=victim.id,
        pid=victim.pid,
        reason=in_one_line(reason),
        timestamp=ended,
        children=None if decides is None else await _children(cluster, params.id, decides),
    )


async def _above(cluster: AwaitedCluster, id: str, info: ProcessInfo) -> str | None:
    """Return the pid of the supervisor of a supervisor; None for the root."""
    if not info.path:
        return None
    processes: list[ProcessInfo] = await cluster.sandbox(id).processes()
    return next((one.pid for one in processes if one.path == info.path[:-1]), None)
