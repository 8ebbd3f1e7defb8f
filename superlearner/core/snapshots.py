"""What can be seen of a running system: frozen values that cross wires and are drawn by the views."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from superlearner.core.childspec import Strategy

ProcessStatus = Literal["starting", "waiting", "running", "suspended", "restarting", "stopping", "exited"]
SandboxStatus = Literal[
    "starting", "running", "suspended", "migrating", "restarting", "stopped", "failed", "lost"
]
NodeStatus = Literal["joining", "up", "suspected", "draining", "down"]
Health = Literal["healthy", "warning", "critical"]
#: What happens without a majority of the known nodes: see `superlearner.core.control_records.ControlPolicy`.
Partition = Literal["quorum", "availability"]


class ChildInfo(NamedTuple):
    """One row of `which_children`."""

    id: Any
    pid: str | None
    type: Literal["worker", "supervisor"]
    status: str


class ChildCounts(NamedTuple):
    """What `count_children` tells, as in OTP."""

    specs: int
    active: int
    supervisors: int
    workers: int


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One process, with its children when it is a supervisor."""

    id: str
    pid: str | None
    name: str | None
    #: ``worker``, ``supervisor`` or ``task``.
    type: str
    status: str
    #: How often its supervisor has started it again.
    restarts: int = 0
    #: How many messages wait.
    mailbox: int = 0
    children: tuple[ProcessInfo, ...] = ()
    #: How many messages have been handled.
    handled: int = 0
    #: The class or function it runs.
    behaviour: str = ""
    #: The handler it is in now, if any.
    current: str | None = None
    links: tuple[str, ...] = ()
    monitors: tuple[str, ...] = ()
    #: For a supervisor: its strategy and restart budget.
    strategy: str | None = None
    max_restarts: int | None = None
    max_seconds: float | None = None
    #: For a supervisor: whether it decides on nothing until `resume_supervision`.
    paused: bool = False
    #: Its place in the tree, as child ids from the root; None for one that a process has spawned.
    path: tuple[str, ...] | None = None

    def walk(self) -> Iterator[ProcessInfo]:
        """Yield this process and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """The newest checkpoint of a sandbox."""

    epoch: int
    seq: int
    #: Bytes.
    size: int
    #: Unix time in seconds.
    at: float
    #: The nodes that hold a copy.
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of a sandbox that its nodes hold."""

    #: Newest first.
    found: tuple[CheckpointInfo, ...] = ()
    #: The nodes that did not answer, with the reason: they may hold more.
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ApplicationVersion:
    """One version of a sandbox's application."""

    #: 1 for the first that is known.
    number: int
    #: Of its code: two versions with the same digest are the same.
    digest: str
    #: Bytes.
    size: int
    #: Since when it has been known: Unix time in seconds.
    at: float
    #: Whether it is the one that runs.
    current: bool = False


@dataclass(frozen=True, slots=True)
class NodeSurvey:
    """What one node says runs on it."""

    #: Each sandbox with the epoch of its instance there.
    sandboxes: Mapping[str, int] = field(default_factory=dict)
    #: Why it did not answer; None when it did.
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class LeaseInfo:
    """A node's right to answer, which is that of every sandbox on it, as the control plane reckons it."""

    #: When the node last joined or asked for it: Unix time in seconds.
    heard_at: float
    #: When it has surely ended, unless the node is heard of before: Unix time in seconds.
    ends_at: float
    #: Whether the node has been silent for half of it.
    suspected: bool = False


@dataclass(frozen=True, slots=True)
class MoveInfo:
    """A planned move under way; `Migration` tells how one went."""

    source: str
    target: str
    #: ``quiesce``: the old instance comes to rest and stores its state; ``start``: the state is copied, and the
    #: new instance starts from it. With the end of that the registry names the new one, and calls go there.
    phase: Literal["quiesce", "start"]
    #: When this phase began: Unix time in seconds.
    since: float
    #: Bytes of state; None until they are known.
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Migration:
    """How a planned move went."""

    sandbox: str
    source: str
    target: str
    epoch: int
    #: Seconds spent in each phase, in order.
    phases: Mapping[str, float]
    #: Bytes of state that were moved.
    bytes: int
    #: Seconds in which callers had to wait.
    pause: float
    #: Requests that came to the old instance while it was at rest, and went on to the new one. None: not told yet.
    buffered: int | None = None

    def as_detail(self) -> dict[str, Any]:
        """Return what an event tells of it beside its own sandbox and epoch."""
        return {
            "source": self.source,
            "target": self.target,
            "phases": dict(self.phases),
            "bytes": self.bytes,
            "pause": self.pause,
            "buffered": self.buffered,
        }


@dataclass(frozen=True, slots=True)
class SandboxInfo:
    """One sandbox, as the registry and the last telemetry know it."""

    id: str
    status: SandboxStatus
    node: str | None = None
    #: The OS process that hosts it.
    pid: int | None = None
    epoch: int = 0
    #: Unix time in seconds.
    created_at: float = 0.0
    #: Restarts of the OS process and of the sandbox, not of the processes in it.
    restarts: int = 0
    #: Bytes, None until measured.
    memory: int | None = None
    #: Share of one core, None until measured.
    cpu: float | None = None
    checkpoint: CheckpointInfo | None = None
    #: Why it is not running, where it is not.
    reason: Any = None
    #: The group it is a member of.
    group: str | None = None
    #: Whether its OS process answered when its node last looked; None until it has looked.
    responsive: bool | None = None
    #: Its node's right to answer; None without an instance, and where nodes need none.
    lease: LeaseInfo | None = None
    #: The planned move that is under way.
    move: MoveInfo | None = None
    #: How its last planned move went.
    moved: Migration | None = None


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """One group of sandboxes."""

    id: str
    strategy: Strategy
    max_restarts: int
    max_seconds: float
    #: ``failed`` once it has given up, until `restart_group`.
    status: Literal["running", "failed"]
    #: The ids of its sandboxes, in start order.
    members: tuple[str, ...] = ()
    #: How often it has restarted members.
    restarts: int = 0
    #: Why it has failed, where it has.
    reason: Any = None


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One node, as its own last report and the scheduler know it."""

    name: str
    address: str
    pid: int | None
    status: NodeStatus
    health: Health
    #: Percent of the machine's processors, 0 to 100; None until measured.
    cpu: float | None = None
    #: Bytes used by the node's processes; None until measured.
    memory: int | None = None
    #: Bytes per second, in and out together; None until measured.
    network: float | None = None
    #: Seconds.
    uptime: float = 0.0
    #: The ids of the sandboxes on it.
    sandboxes: tuple[str, ...] = ()
    #: Unix time in seconds.
    last_seen: float = 0.0
    #: Bytes that the machine has.
    memory_limit: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Its right to answer; None for one that is down, and where nodes need none.
    lease: LeaseInfo | None = None
    #: Why it is down, where it is and the log still tells.
    reason: Any = None

    @property
    def heard_of(self) -> bool:
        """Whether it is neither down nor suspected.

        >>> [NodeInfo("alpha", "", 1, status, "healthy").heard_of for status in ("up", "suspected", "down")]
        [True, False, False]
        """
        return self.status not in {"down", "suspected"}


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """The cluster at a glance."""

    nodes: tuple[str, ...]
    total_nodes: int
    healthy_nodes: int
    cluster_health: Literal["healthy", "degraded", "critical"]
    #: Whether more than half of the known nodes are heard of.
    quorum: bool
    #: ``running`` while the control plane answers.
    control_plane: str
    sandboxes: int = 0
    #: The scheduler's address.
    address: str = ""
    #: How many of the known nodes are heard of: neither down nor suspected.
    reachable_nodes: int = 0
    #: What happens without a quorum.
    partition: Partition = "quorum"
    #: Seconds of silence after which a node is replaced; None: only a death that was seen counts.
    lease: float | None = None


class Location(NamedTuple):
    """Where a sandbox or a named process lives."""

    node: str
    epoch: int
    #: A process's pid as text, or for a sandbox the OS process id.
    pid: str | int | None


@dataclass(frozen=True, slots=True)
class PlacementRow:
    """One node's line in the placement table; the higher the total, the better."""

    node: str
    #: Each share of what is free is 1 at most, and below 0 where more is reserved than there is; None where the
    #: strategy does not look at it.
    memory: float | None
    cpu: float | None
    network: float | None
    total: float
    #: Why it was chosen, ranked lower, or refused.
    reason: str
    chosen: bool = False
