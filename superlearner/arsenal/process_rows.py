"""Processes as the operations tell them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from superlearner.arsenal.operation import Field, Result
from superlearner.arsenal.rows import OneSandbox
from superlearner.core.snapshots import ProcessInfo, SandboxInfo
from superlearner.errors import (
    CallTimeout,
    NoConnection,
    NoProcess,
    NoSandbox,
    ProcessDied,
    SandboxFailed,
    StaleEpoch,
)

#: What any request to a process may meet.
REACHED = (NoProcess, NoSandbox, SandboxFailed, NoConnection, StaleEpoch, CallTimeout, ProcessDied)

Process = Field(description="A registered name, or a pid.", min_length=1, max_length=300)
Supervisor = Field(
    description='The name of a supervisor ("root" for a root without one), or its pid.',
    min_length=1,
    max_length=300,
)


class OneProcess(OneSandbox):
    """One process of one sandbox."""

    process: str = Process


class OneSupervisor(OneSandbox):
    """One supervisor of one sandbox."""

    supervisor: str = Supervisor


class ProcessDetails(Result):
    """What else is known of a process."""

    path: list[str] | None = Field(
        description="Its place in the tree, as child ids from the root; null for one that a process has spawned."
    )
    current: str | None = Field(description="The handler it is in now.")
    links: list[str] = Field(description="The pids that it is linked to.")
    monitors: list[str] = Field(description="The pids that it monitors.")
    children: list[str] = Field(description="The ids of its children, for a supervisor.")


class ProcessRow(Result):
    """One process."""

    node: str | None
    sandbox: str
    epoch: int = Field(description="Of the sandbox.")
    pid: str | None = Field(description="Null for a child that does not run.")
    id: str = Field(description="Its child id.")
    name: str | None = Field(description="The name it is registered under.")
    type: str = Field(description='"worker", "supervisor" or "task".')
    status: str
    behaviour: str = Field(description="The class or function that it runs.")
    restarts: int = Field(description="How often its supervisor has started it again.")
    mailbox: int = Field(description="How many messages wait.")
    messages: int = Field(description="How many messages it has handled.")
    strategy: str | None = Field(description="Of a supervisor.")
    max_restarts: int | None = Field(description="Of a supervisor.")
    max_seconds: float | None = Field(description="Of a supervisor.")
    paused: bool | None = Field(description="Whether a supervisor decides on nothing now.")
    details: ProcessDetails | None = Field(description="Where they were asked for.")

    @classmethod
    def of(cls, sandbox: SandboxInfo, info: ProcessInfo, *, details: bool = False) -> ProcessRow:
        """Return the row of a process."""
        return cls(**fields_of(sandbox, info), details=details_of(info) if details else None)


def fields_of(sandbox: SandboxInfo, info: ProcessInfo) -> dict[str, Any]:
    """Return what every row has."""
    return {"node": sandbox.node, "sandbox": sandbox.id, "epoch": sandbox.epoch, **_facts(info)}


def _facts(info: ProcessInfo) -> dict[str, Any]:
    """Return what is told of a process wherever it is told of."""
    return {
        "pid": info.pid,
        "id": info.id,
        "name": info.name,
        "type": info.type,
        "status": info.status,
        "behaviour": info.behaviour,
        "restarts": info.restarts,
        "mailbox": info.mailbox,
        "messages": info.handled,
        "strategy": info.strategy,
        "max_restarts": info.max_restarts,
        "max_seconds": info.max_seconds,
        "paused": info.paused if info.type == "supervisor" else None,
    }


def details_of(info: ProcessInfo) -> ProcessDetails:
    """Return what else is known."""
    return ProcessDetails(
        path=None if info.path is None else list(info.path),
        current=info.current,
        links=list(info.links),
        monitors=list(info.monitors),
        children=[child.id for child in info.children],
    )


class TreeNode(Result):
    """One process with all below it."""

    id: str
    pid: str | None
    name: str | None
    type: str
    status: str
    behaviour: str
    restarts: int
    mailbox: int
    messages: int
    strategy: str | None
    max_restarts: int | None
    max_seconds: float | None
    paused: bool | None
    children: list[TreeNode]

    @classmethod
    def of(cls, info: ProcessInfo) -> TreeNode:
        """Return a tree."""
        return cls(**_facts(info), children=[cls.of(child) for child in info.children])

    def walk(self) -> Iterator[TreeNode]:
        """Yield this one and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()
