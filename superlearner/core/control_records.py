"""What the registry holds: frozen records for everybody, and the work under way for the machine itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from superlearner.core.checkpoints import CheckpointVersion
from superlearner.core.control_events import ControlEvent
from superlearner.core.control_instructions import Addresses
from superlearner.core.loads import NodeLoad
from superlearner.core.restart import Backoff, Intensity
from superlearner.core.snapshots import CheckpointInfo, Migration, Partition, SandboxInfo, SandboxStatus
from superlearner.core.spec import SandboxSpec


@dataclass(frozen=True, slots=True)
class SandboxRecord:
    """One sandbox in the registry."""

    id: str
    spec: SandboxSpec
    status: SandboxStatus
    #: Where its owner lives or starts; None while it has no instance.
    node: str | None
    address: str | None
    #: The epoch of its owner, or of the last one.
    epoch: int
    #: The OS process that hosts it.
    pid: int | None = None
    #: Restarts of its OS process, in place or elsewhere; planned moves do not count.
    restarts: int = 0
    #: Unix time in seconds.
    created_at: float = 0.0
    #: The newest checkpoint that a living node holds.
    checkpoint: CheckpointInfo | None = None
    #: Why it is not running, where it is not.
    reason: Any = None
    #: How its last planned move went.
    moved: Migration | None = None

    def info(self, **measured: Any) -> SandboxInfo:
        """Return what is told of it; `measured` are the fields that the registry does not know.

        >>> SandboxRecord("shop", SandboxSpec("shop"), "running", "alpha", "", 2).info(memory=1_000_000).memory
        1000000
        """
        return SandboxInfo(
            id=self.id,
            status=self.status,
            node=self.node,
            pid=self.pid,
            epoch=self.epoch,
            created_at=self.created_at,
            restarts=self.restarts,
            checkpoint=self.checkpoint,
            reason=self.reason,
            group=self.spec.group,
            moved=self.moved,
            **measured,
        )


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One living node in the registry."""

    name: str
    address: str
    #: What placement knows of it.
    load: NodeLoad
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Unix time in seconds.
    joined_at: float = 0.0
    #: Unix time in seconds of its last own measurement; None until the first.
    sampled_at: float | None = None
    #: Which life of its worker this is.
    incarnation: int = 1
    #: Unix time in seconds when it last joined or asked for its lease.
    heard_at: float = 0.0

    @property
    def suspected(self) -> bool:
        """Whether it has been silent for half of its lease."""
        return self.load.suspected


#: What is under way with a sandbox; the comment says what it waits for.
Phase = Literal[
    "starting",  # its instance to start; it has never served when ``Work.fresh``
    "running",  # nothing
    "rebooting",  # its instance to start its OS process again, as it was told
    "quiescing",  # its instance to come to rest, before a move
    "moving",  # a second instance to start on the move's target
    "waiting",  # the back-off timer before the next start
    "held",  # its turn in what its group does
    "lost",  # a node that can take it
    "stopped",  # nothing: it ended and is not to be restarted
    "failed",  # nothing: it was given up
    "destroying",  # its instances to be gone
]
#: In these phases one instance owns the sandbox, and its node carries it.
OWNED = frozenset({"starting", "running", "rebooting", "quiescing", "moving"})

_STATUS: dict[Phase, SandboxStatus] = {
    "starting": "restarting",
    "running": "running",
    "rebooting": "restarting",
    "quiescing": "migrating",
    "moving": "migrating",
    "waiting": "restarting",
    "held": "restarting",
    "lost": "lost",
    "stopped": "stopped",
    "failed": "failed",
    "destroying": "stopped",
}


@dataclass(frozen=True, slots=True)
class ControlPolicy:
    """The cluster's patience. A node's own restarts of a sandbox are bounded by its spec before these count."""

    #: How often a sandbox that ends or cannot start is started again within `max_seconds`; the loss of a node
    #: is not its fault and does not count.
    max_restarts: int = 5
    max_seconds: float = 60.0
    backoff: Backoff = field(default_factory=Backoff)
    #: Seconds after which a silent node has surely stopped and is replaced. None: only a death that was seen counts.
    lease: float | None = None
    #: What happens without a majority of the known nodes: ``"quorum"`` creates, moves and starts nothing until it
    #: is back; ``"availability"`` goes on, on either side of a cut, at the price of two owners.
    partition: Partition = "availability"
    #: Of how many destroyed sandboxes the last epoch is remembered one by one.
    tombstones: int = 100_000
    #: How many of the last events are kept for `ControlState.story`.
    story: int = 1_000


class Waiter(NamedTuple):
    """Somebody who is owed an answer."""

    verb: Literal["create", "restart", "destroy"]
    cause: str


@dataclass(slots=True)
class Move:
    """A planned move under way."""

    cause: str
    source: str
    target: str
    #: Unix time in seconds.
    asked_at: float
    #: Of the new instance; 0 until it is started.
    epoch: int = 0
    quiesced_at: float = 0.0
    #: Bytes of state.
    size: int = 0
    #: The peers that the new instance was started with.
    peers: tuple[str, ...] = ()


@dataclass(slots=True)
class Drain:
    """A node that is being emptied."""

    cause: str
    #: Sandbox -> how often its move was asked for.
    tries: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Work:
    """A sandbox with all that is under way for it. Only the registry's methods change what is indexed."""

    record: SandboxRecord
    phase: Phase
    intensity: Intensity
    #: The highest epoch ever handed out for it; a rolled back move leaves it above the owner's.
    highest: int
    #: The last epoch of the sandbox that had this id before; 0 when there was none.
    above: int = 0
    #: It has never served: a start that fails is a creation that is refused.
    fresh: bool = True
    waiters: list[Waiter] = field(default_factory=list)
    #: Where it should not be started, with the reason; emptied when it has been well for long.
    avoid: dict[str, str] = field(default_factory=dict)
    #: Where it should rather be started.
    prefer: str | None = None
    #: Its back-off timer, in the phase ``waiting`` and in no other.
    timer: str | None = None
    #: The other nodes that are to hold its checkpoints; the last owner's while there is none.
    peers: tuple[str, ...] = ()
    #: The peers that its owner knows of. None: it does not know that it is the owner.
    told: Addresses | None = ()
    #: The newest checkpoint that each living node is known to hold.
    copies: dict[str, CheckpointInfo] = field(default_factory=dict)
    #: Instances that were told to stop and have not said so yet: epoch -> node.
    stopping: dict[int, str] = field(default_factory=dict)
    #: Those of them that reported their start afterwards, so that the stop may have missed them: once more.
    again: set[int] = field(default_factory=set)
    move: Move | None = None
    #: Of the last planned move, until nothing is left of the old instance: its epoch, and when it ceased to own.
    moved_from: tuple[int, float] | None = None
    #: Why the last planned move that was asked for came to nothing.
    setback: str = ""
    #: When the owner's node was chosen: Unix time in seconds.
    placed_at: float = 0.0
    #: Reports of an instance that overtook the report of its start, until that comes.
    early: list[ControlEvent] = field(default_factory=list)
    #: The checkpoint that it was created with, until it has served.
    seed: CheckpointVersion | None = None

    @property
    def id(self) -> str:
        """The sandbox's id."""
        return self.record.id

    @property
    def status(self) -> SandboxStatus:
        """The phase, as the registry shows it."""
        soon = self.fresh and self.phase in ("starting", "held")
        return "starting" if soon else _STATUS[self.phase]

    @property
    def group(self) -> str | None:
        """The id of the group it is a member of."""
        return self.record.spec.group
