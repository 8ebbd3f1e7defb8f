"""The children of supervisors: listing them, adding some, stopping and starting them by hand."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from superlearner.arsenal.operation import AwaitedCluster, Field, Result, operation
from superlearner.arsenal.operations.supervisors import ASKED, ChildRow
from superlearner.arsenal.process_rows import OneSupervisor
from superlearner.arsenal.spelling import SPELLING, meant
from superlearner.core.restart import Restart
from superlearner.core.snapshots import ChildInfo
from superlearner.errors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRunning,
    InvalidSpec,
    MaxChildren,
    NameTaken,
    StartFailed,
)
from superlearner.otp.application import ChildByPath

_STARTS = (*ASKED, InvalidSpec, StartFailed, AlreadyStarted, NameTaken)


class ChildList(Result):
    """The children of a supervisor, in start order."""

    id: str
    supervisor: str
    children: list[ChildRow]


@operation(
    "GET",
    "/distributed/sandboxes/{id}/supervisors/{supervisor}/children",
    access="read",
    timeout=15.0,
    errors=ASKED,
)
async def list_children(cluster: AwaitedCluster, params: OneSupervisor) -> ChildList:
    """List the children of a supervisor, also those that do not run."""
    found = await cluster.sandbox(params.id).which_children(params.supervisor)
    return ChildList(
        id=params.id, supervisor=params.supervisor, children=[ChildRow.of(child) for child in found]
    )


class OneChild(OneSupervisor):
    """One child of one supervisor."""

    child: str = Field(description="Its id.", min_length=1, max_length=300)


class ChildResult(Result):
    """One child."""

    id: str
    supervisor: str
    child: str
    row: ChildRow


async def _found(cluster: AwaitedCluster, params: OneChild) -> ChildInfo:
    """Return a child by its id as text: the children of a partition supervisor have numbers."""
    children: list[ChildInfo] = await cluster.sandbox(params.id).which_children(params.supervisor)
    for child in children:
        if str(child.id) == params.child:
            return child
    raise ChildNotFound(params.child)


async def _row(cluster: AwaitedCluster, params: OneChild) -> ChildResult:
    row = ChildRow.of(await _found(cluster, params))
    return ChildResult(id=params.id, supervisor=params.supervisor, child=row.id, row=row)


@operation(
    "GET",
    "/distributed/sandboxes/{id}/supervisors/{supervisor}/children/{child}",
    access="read",
    timeout=15.0,
    errors=[*ASKED, ChildNotFound],
)
async def get_child(cluster: AwaitedCluster, params: OneChild) -> ChildResult:
    """Tell about one child of a supervisor."""
    return await _row(cluster, params)


class NewChild(OneSupervisor):
    """A child to be started: what it runs by name, no code travels in a request."""

    start: str = Field(
        max_length=500,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$",
        description='Where it is imported from in the sandbox, such as "package.module:name": a GenServer or '
        "Supervisor class, or a child or supervisor spec.",
    )
    arguments: list[Any] = Field(
        default_factory=list, max_length=100, description=f"For the init of a class, by position. {SPELLING}"
    )
    child: str | None = Field(
        None, min_length=1, max_length=200, description="Its id; null: that of the spec, or the class's name."
    )
    name: str | None = Field(None, min_length=1, max_length=200, description="What it is registered under.")
    restart: Restart | None = Field(None, description='Null: that of the spec, or "permanent".')
    shutdown: Annotated[float, Field(ge=0, le=60)] | Literal["brutal_kill", "infinity"] | None = Field(
        None, description="Seconds that it has to stop by itself; null: that of the spec, or OTP's."
    )
    significant: bool | None = Field(None, description="Null: that of the spec, or false.")


class StartedChild(Result):
    """A child that was started."""

    id: str
    supervisor: str
    child: str = Field(description="Its id; a dynamic supervisor may have made it another one.")
    pid: str | None = Field(description="Null: it chose not to run.")


@operation(
    "POST",
    "/distributed/sandboxes/{id}/supervisors/{supervisor}/children",
    access="operate",
    timeout=90.0,
    # What it names may not be there on the node, or not suit the supervisor: it reads well all the same.
    errors={**dict.fromkeys([*_STARTS, AlreadyPresent, MaxChildren]), InvalidSpec: 409},
    creates="/distributed/sandboxes/{id}/supervisors/{supervisor}/children/{child}",
)
async def start_child(cluster: AwaitedCluster, params: NewChild) -> StartedChild:
    """Add a child to a running supervisor and start it; answered when it runs.

    Checkpoints hold it: it is there again after a restart of the sandbox, a move and a fail-over. A supervisor that
    its own supervisor restarts begins without it.
    """
    sandbox = cluster.sandbox(params.id)
    options = {
        name: value
        for name in ("name", "restart", "shutdown", "significant")
        if (value := getattr(params, name)) is not None
    }
    if params.child is not None:
        options["id"] = params.child
    arguments = tuple(meant(argument) for argument in params.arguments)
    pid = await sandbox.start_child(params.supervisor, ChildByPath(params.start, arguments, options))
    children = await sandbox.which_children(params.supervisor) if pid is not None else []
    named = params.child or params.start.rpartition(":")[2].rpartition(".")[2]
    id = next((str(child.id) for child in children if child.pid == pid), named)
    return StartedChild(
        id=params.id, supervisor=params.supervisor, child=id, pid=None if pid is None else str(pid)
    )


@operation(
    "POST",
    "/distributed/sandboxes/{id}/supervisors/{supervisor}/children/{child}/terminations",
    access="operate",
    timeout=90.0,
    dangerous=True,
    errors=[*ASKED, ChildNotFound],
)
async def terminate_child(cluster: AwaitedCluster, params: OneChild) -> ChildResult:
    """Stop a child as its spec's shutdown says, and leave it down; answered when it has ended.

    It stays known, for `restart_child`, save a temporary one and those of a dynamic supervisor, which are forgotten.
    """
    found = await _found(cluster, params)
    await cluster.sandbox(params.id).terminate_child(params.supervisor, found.id)
    try:
        return await _row(cluster, params)
    except ChildNotFound:
        gone = ChildRow(id=params.child, pid=None, type=found.type, status="exited")
        return ChildResult(id=params.id, supervisor=params.supervisor, child=params.child, row=gone)


@operation(
    "POST",
    "/distributed/sandboxes/{id}/supervisors/{supervisor}/children/{child}/restarts",
    access="operate",
    timeout=90.0,
    errors=[*_STARTS, ChildNotFound, ChildRunning],
)
async def restart_child(cluster: AwaitedCluster, params: OneChild) -> ChildResult:
    """Start a child again that was terminated, or has ended and was left down; answered when it runs."""
    found = await _found(cluster, params)
    await cluster.sandbox(params.id).restart_child(params.supervisor, found.id)
    return await _row(cluster, params)


@operation(
    "DELETE",
    "/distributed/sandboxes/{id}/supervisors/{supervisor}/children/{child}",
    access="operate",
    timeout=30.0,
    dangerous=True,
    errors=[*ASKED, ChildNotFound, ChildRunning],
)
async def delete_child(cluster: AwaitedCluster, params: OneChild) -> None:
    """Forget a child that does not run."""
    found = await _found(cluster, params)
    await cluster.sandbox(params.id).delete_child(params.supervisor, found.id)
