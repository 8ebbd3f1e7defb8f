"""A group of sandboxes as the machine knows it: its supervisor, and what that has decided and not done yet."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from superlearner.core.childspec import ChildSpec, SupervisorSpec
from superlearner.core.control_instructions import StartInstance
from superlearner.core.control_kept import KeptGroup
from superlearner.core.snapshots import GroupInfo
from superlearner.core.spec import GroupSpec, SandboxSpec
from superlearner.core.strategy import SupervisorState
from superlearner.core.strategy_events import SupervisorEvent
from superlearner.core.strategy_instructions import Instruction as Decision


class Remove(NamedTuple):
    """Destroy a member, and wait until nothing of it is left; beside the decisions of the supervisor."""

    key: str


class Heard(NamedTuple):
    """An event for the supervisor, in the order of their coming."""

    event: SupervisorEvent
    #: For an exit, which start of the member has ended: by its turn it may have been started again.
    start: int | None = None


Step: TypeAlias = Decision | Remove


@dataclass(slots=True)
class Group:
    """One group. A supervisor does one thing at a time: what it hears meanwhile waits in its inbox."""

    spec: GroupSpec
    sup: SupervisorState
    #: The ids of its sandboxes, in start order.
    members: dict[str, None] = field(default_factory=dict)
    #: What was decided, in order.
    todo: deque[Step] = field(default_factory=deque)
    inbox: deque[Heard] = field(default_factory=deque)
    #: The members whose instance is starting.
    starts: dict[str, None] = field(default_factory=dict)
    #: The member of which nothing may be left before the next step.
    ending: str | None = None
    #: Numbers the starts.
    serial: int = 0
    #: What led to the steps that are being done.
    cause: str = ""
    status: Literal["running", "failed"] = "running"
    reason: Any = None
    restarts: int = 0
    #: It stops all members to start them again, as somebody asked.
    stopping: bool = False
    #: It starts all members, as somebody asked: one that cannot start ends it.
    starting: bool = False
    #: It is being destroyed.
    dying: bool = False
    #: Who waits for a restart, and who for the end.
    restarters: list[str] = field(default_factory=list)
    destroyers: list[str] = field(default_factory=list)

    @property
    def in_order(self) -> bool:
        """Whether each member starts before the next: one_for_one alone knows no order once all have started."""
        return self.starting or self.spec.strategy != "one_for_one"

    @property
    def kept(self) -> KeptGroup:
        """What the next run is to know of it."""
        return KeptGroup(self.spec, tuple(self.members), self.status == "failed", self.reason)

    @property
    def info(self) -> GroupInfo:
        """The group as everybody may see it."""
        spec = self.spec
        return GroupInfo(
            spec.id,
            spec.strategy,
            spec.max_restarts,
            spec.max_seconds,
            self.status,
            tuple(self.members),
            self.restarts,
            self.reason,
        )


def supervisor_of(spec: GroupSpec, children: tuple[ChildSpec, ...] = ()) -> SupervisorState:
    """Return the supervisor of a group that is about to begin, with the members that ran before."""
    return SupervisorState(
        SupervisorSpec(
            children,
            id=spec.id,
            strategy=spec.strategy,
            max_restarts=spec.max_restarts,
            max_seconds=spec.max_seconds,
        )
    )


def child_of(spec: SandboxSpec) -> ChildSpec:
    """Return a sandbox as its group's supervisor knows it."""
    return ChildSpec(spec.id, StartInstance, restart=spec.restart)
