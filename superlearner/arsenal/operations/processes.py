"""Processes: looking at them, holding and ending them, on whatever node they live."""

from __future__ import annotations

import time
from typing import Any, Literal

from superlearner.arsenal.inside import Surveyed, look
from superlearner.arsenal.listing import Page, Total, page
from superlearner.arsenal.operation import AwaitedCluster, Field, Params, Result, operation
from superlearner.arsenal.operations.nodes import find
from superlearner.arsenal.plain import in_one_line
from superlearner.arsenal.process_rows import REACHED, OneProcess, ProcessRow, details_of, fields_of
from superlearner.core.snapshots import SandboxInfo
from superlearner.errors import (
    CallTimeout,
    InvalidSpec,
    NoConnection,
    NodeNotAvailable,
    NoProcess,
    NoSandbox,
    NotEnded,
    ProcessNotFound,
    SandboxFailed,
    StaleEpoch,
    UnknownNode,
    Unsupported,
)
from superlearner.otp._pid import Pid

# -- Looking ----------------------------------------------------------------------------------------


class ProcessQuery(Page):
    """Which processes are wanted."""

    node: str | None = Field(None, max_length=63, description="Only those on this node.")
    sandbox: str | None = Field(None, max_length=63, description="Only those of this sandbox.")
    type: Literal["worker", "supervisor", "task"] | None = Field(None, description="Only those of this type.")
    sort: Literal["pid", "mailbox", "messages", "restarts"] = Field(
        "pid", description="By sandbox and pid, or those with the most first."
    )
    details: bool = Field(False, description="Whether paths, links, monitors and children are told.")


class ProcessList(Surveyed):
    """The processes that live in the sandboxes that have answered."""

    processes: list[ProcessRow]
    total: Total
    next: str | None = Field(
        description="The cursor of the next page; null on the last one. Who moves in the order between two pages "
        "may be told twice, or not at all."
    )


@operation("GET", "/distributed/processes", access="read", timeout=5.0, errors=[UnknownNode, NoSandbox])
async def list_processes(cluster: AwaitedCluster, params: ProcessQuery) -> ProcessList:
    """List the processes in all sandboxes of all nodes.

    Every node and every sandbox is asked, all at once. Whoever does not answer within 3 s is named beside the others.
    """
    looked = await look(
        cluster, lambda sandbox: sandbox.processes(), node=params.node, sandbox=params.sandbox
    )
    found = [
        ProcessRow.of(sandbox, info, details=params.details)
        for sandbox, infos in looked.found
        for info in infos
        if params.type in {None, info.type}
    ]
    shown, after, total = page(found, params, key=lambda row: _order(row, params.sort))
    return ProcessList(processes=shown, total=total, next=after, **looked.told())


def _order(row: ProcessRow, sort: str) -> str:
    serial = 0 if row.pid is None else Pid(row.pid).serial
    place = f"{row.sandbox} {serial:012d}"
    return place if sort == "pid" else f"{10**15 - getattr(row, sort):016d} {place}"


Key = Literal[
    "node",
    "sandbox",
    "epoch",
    "pid",
    "id",
    "name",
    "type",
    "status",
    "behaviour",
    "restarts",
    "mailbox",
    "messages",
    "strategy",
    "max_restarts",
    "max_seconds",
    "paused",
    "path",
    "current",
    "links",
    "monitors",
    "children",
]


class ProcessKeys(OneProcess):
    """Which process, and what is wanted of it."""

    keys: list[Key] = Field(
        default_factory=list, max_length=50, description="What is told; none: everything."
    )


class ProcessFacts(Result):
    """What is known of one process."""

    process: dict[str, Any] = Field(description="By key, as in the list of processes and its details.")


@operation(
    "GET",
    "/distributed/sandboxes/{id}/processes/{process}",
    access="read",
    timeout=15.0,
    errors=REACHED,
)
async def get_process(cluster: AwaitedCluster, params: ProcessKeys) -> ProcessFacts:
    """Tell about one process, by its name or pid."""
    sandbox = cluster.sandbox(params.id)
    info = await sandbox.process(params.process)
    told = fields_of(await sandbox.info(), info) | details_of(info).model_dump()
    return ProcessFacts(process={key: told[key] for key in params.keys or told})


# -- Ending -----------------------------------------------------------------------------------------


class Termination(Params):
    """Which process is to end, and why."""

    node: str = Field(max_length=63, description="The node on which its sandbox is.")
    pid: str = Field(
        max_length=300, description="Its pid, such as <alpha.shop.3>; the brackets may be left out."
    )
    reason: str = Field(
        "kill",
        min_length=1,
        max_length=200,
        description='The exit reason that it gets. "kill" cannot be trapped, and others see it as "killed".',
    )
    timeout: float = Field(5.0, ge=0.01, le=30, description="Seconds that it has to end.")


class Terminated(Result):
    """A process that is dead."""

    terminated: bool
    pid: str
    node: str
    reason: str = Field(description="The reason with which it has ended, as its supervisor sees it.")
    timestamp: float = Field(description="When its death was known: Unix time in seconds.")


@operation(
    "DELETE",
    "/distributed/processes/{node}/{pid}",
    access="operate",
    timeout=45.0,
    dangerous=True,
    errors=[UnknownNode, NodeNotAvailable, ProcessNotFound, NotEnded, CallTimeout, NoConnection, StaleEpoch],
)
async def terminate_process(cluster: AwaitedCluster, params: Termination) -> Terminated:
    """End one process; answered when it is dead. What follows is its supervisor's to decide."""
    text = params.pid if params.pid.startswith("<") else f"<{params.pid}>"
    try:
        pid = Pid(text)
    except InvalidSpec:
        raise ProcessNotFound(params.pid, params.node) from None
    node = await find(cluster, params.node)
    if not node.heard_of:
        raise NodeNotAvailable(node.name, f"it is {node.status}")
    try:
        where: SandboxInfo = await cluster.sandbox(pid.sandbox).info()
        if where.node != params.node:
            raise ProcessNotFound(text, params.node)
        reason = await cluster.sandbox(pid.sandbox).terminate(text, params.reason, params.timeout)
    except (NoProcess, SandboxFailed):
        raise ProcessNotFound(text, params.node) from None
    return Terminated(
        terminated=True, pid=text, node=params.node, reason=in_one_line(reason), timestamp=time.time()
    )


# -- Holding ----------------------------------------------------------------------------------------


class Held(Result):
    """Whether a process handles messages."""

    process: str
    pid: str
    suspended: bool
    mailbox: int = Field(description="How many messages wait.")


@operation(
    "PUT",
    "/distributed/sandboxes/{id}/processes/{process}/suspension",
    access="operate",
    timeout=30.0,
    errors=[*REACHED, Unsupported],
)
async def suspend_process(cluster: AwaitedCluster, params: OneProcess) -> Held:
    """Let a process handle no message until it is resumed; they wait in its mailbox.

    The pid that is held is told: a restart of it is a new process, which is not held.
    """
    await cluster.sandbox(params.id).suspend(params.process)
    return await _held(cluster, params)


@operation(
    "DELETE",
    "/distributed/sandboxes/{id}/processes/{process}/suspension",
    access="operate",
    timeout=30.0,
    errors=[*REACHED, Unsupported],
)
async def resume_process(cluster: AwaitedCluster, params: OneProcess) -> Held:
    """Let a suspended process go on; harmless when it does."""
    await cluster.sandbox(params.id).resume(params.process)
    return await _held(cluster, params)


async def _held(cluster: AwaitedCluster, params: OneProcess) -> Held:
    info = await cluster.sandbox(params.id).process(params.process)
    return Held(
        process=params.process, pid=info.pid, suspended=info.status == "suspended", mailbox=info.mailbox
    )
