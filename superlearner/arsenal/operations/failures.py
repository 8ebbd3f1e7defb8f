"""Failures below supervisors: what was started again and why, how often that happens, and failures on purpose."""

from __future__ import annotations

import time
from typing import Literal

from superlearner.arsenal.operation import AwaitedCluster, Field, Result, operation
from superlearner.arsenal.operations.supervisors import ASKED, ChildRow, children_of, info_of
from superlearner.arsenal.plain import in_one_line
from superlearner.arsenal.process_rows import OneSupervisor
from superlearner.arsenal.restart_history import Failures, RestartRow, failures, restarts
from superlearner.core.snapshots import ProcessInfo
from superlearner.errors import ChildNotFound, NoProcess, NotEnded

# -- What has happened ------------------------------------------------------------------------------


class HistoryQuery(OneSupervisor):
    """Which restarts are wanted."""

    since: int = Field(
        0, ge=0, le=2**53, description="Only those after this event: `seq` of the last one that is known."
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
    info = await info_of(cluster, params)
    found = restarts(await cluster.events(sandbox=params.id), info.path or ())
    found = [row for row in found if row.seq > params.since]
    return History(
        id=params.id, supervisor=params.supervisor, restarts=found[-params.limit :], total=len(found)
    )


class Window(OneSupervisor):
    """The time that is looked at."""

    window: float = Field(60.0, ge=0.1, le=86_400, description="So many seconds until now.")


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
    info = await info_of(cluster, params)
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


# -- Failing on purpose -----------------------------------------------------------------------------


class Failing(OneSupervisor):
    """Who is to fail."""

    child: str | None = Field(
        None, max_length=300, description="The id of the child that fails; null: the supervisor itself."
    )
    reason: str = Field("crash", min_length=1, max_length=200, description="The exit reason.")
    timeout: float = Field(5.0, ge=0.01, le=30, description="Seconds until it must have ended.")


class Failed(Result):
    """What has failed, and what was made of it."""

    target: Literal["child", "supervisor"]
    failed: str = Field(description="The id of who has failed.")
    pid: str
    reason: str = Field(description="The reason with which it has ended.")
    timestamp: float = Field(description="When its end was known: Unix time in seconds.")
    children: list[ChildRow] | None = Field(
        description="The children of its supervisor, once that has decided; null where that has ended too, is "
        "suspended, or where it was the root, after whose end the sandbox is started again."
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
    info = await info_of(cluster, params)
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
        children=None if decides is None else await children_of(cluster, params.id, decides),
    )


async def _above(cluster: AwaitedCluster, id: str, info: ProcessInfo) -> str | None:
    """Return the pid of the supervisor of a supervisor; None for the root."""
    if not info.path:
        return None
    processes: list[ProcessInfo] = await cluster.sandbox(id).processes()
    return next((one.pid for one in processes if one.path == info.path[:-1]), None)
