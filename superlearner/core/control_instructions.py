"""What the control machine answers: orders to the control plane, as frozen values.

Whatever comes of an instruction returns as a new event, so that the machine itself never waits:

==================  ===================================================================================
instruction         is always answered by one of
==================  ===================================================================================
`StartInstance`     `InstanceStarted`, `InstanceStartFailed`, or the node's `NodeLost`
`StopInstance`      `InstanceStopped` (also when there was nothing to stop), or `NodeLost`
`RestartInstance`   `InstanceRestarted`, `InstanceExited`, `InstanceStartFailed`, or `NodeLost`
`QuiesceInstance`   `Quiesced`, `QuiesceFailed`, or `NodeLost`
`SetTimer`          `TimerFired`
the others          nothing
==================  ===================================================================================

The instructions of one list are carried out in their order; an `Answer` or `Refuse` is given when those
before it in the list are done, save the starts, stops and restarts, whose outcome is an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from superlearner.core.checkpoints import CheckpointVersion
from superlearner.core.control_kept import KeptGroup, KeptSandbox
from superlearner.core.history import Event
from superlearner.core.spec import SandboxSpec
from superlearner.errors import SuperlearnerError

#: Nodes with their addresses, in order of preference.
Addresses = tuple[tuple[str, str], ...]


class Matcher:  # noqa: PLW1641 - it equals many things, so no hash would fit
    """Equal to every instruction of a type whose named fields have these values; for tests."""

    def __init__(self, kind: type, fields: Mapping[str, Any]) -> None:
        self.kind = kind
        self.fields = fields

    def __eq__(self, other: object) -> bool:
        return type(other) is self.kind and all(getattr(other, k) == v for k, v in self.fields.items())

    def __repr__(self) -> str:
        return f"{self.kind.__name__}.match({', '.join(f'{k}={v!r}' for k, v in self.fields.items())})"


@dataclass(frozen=True, slots=True)
class Instruction:
    """The base of all instructions."""

    @classmethod
    def match(cls, **fields: Any) -> Any:
        """Return something equal to each instruction of this type with these fields.

        >>> StopInstance("shop", "alpha", "tcp://a", 1, "destroyed") == StopInstance.match(node="alpha")
        True
        """
        return Matcher(cls, fields)


@dataclass(frozen=True, slots=True)
class StartInstance(Instruction):
    """Start an instance on a node, from the newest good checkpoint that its sources hold."""

    spec: SandboxSpec
    node: str
    address: str
    epoch: int
    #: The nodes that may hold checkpoints, the likeliest newest first.
    sources: Addresses = ()
    #: The other nodes that are to hold its checkpoints.
    peers: Addresses = ()
    #: The first serial number for pids, so that none is used again by a later instance.
    first_serial: int = 1
    cause: str = ""
    #: A checkpoint to store on the node and the peers before the start.
    seed: CheckpointVersion | None = None
    #: It is not the owner yet, and may never be: it stores no checkpoints before its first `SetPeers`. Else those
    #: of a move that is rolled back would fence off the owner, whose epoch is lower.
    on_trial: bool = False
    #: The life of the node that it is meant for. A later life does not begin it: the sandbox may be elsewhere by then.
    incarnation: int = 1
    #: Checkpoints of this epoch or an earlier one are of a sandbox that had this id before, and was destroyed.
    above: int = 0
    #: The (epoch, seq) of the newest checkpoint that a living node is known to hold. An instance that gets neither
    #: this nor a newer one does not start: what was answered before would be lost, while no node has failed.
    expects: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class InstanceInstruction(Instruction):
    """The base of what is said to one instance."""

    sandbox: str
    node: str
    address: str
    epoch: int

    @property
    def topic(self) -> tuple[str, str]:
        """What it is about: of the orders about one thing only the last counts, an earlier one is not repeated.

        >>> ResumeInstance("shop", "alpha", "tcp://a", 1).topic == QuiesceInstance("shop", "beta", "tcp://b", 2).topic
        True
        """
        return self.sandbox, _TOPICS.get(type(self), type(self).__name__)


@dataclass(frozen=True, slots=True)
class StopInstance(InstanceInstruction):
    """Stop an instance, a starting one too: orderly, then by force. One that is not there is stopped."""

    reason: str = "shutdown"
    cause: str = ""


@dataclass(frozen=True, slots=True)
class RestartInstance(InstanceInstruction):
    """Start the OS process of an instance again, in its place, with its epoch."""

    reason: str = "restart"
    cause: str = ""


@dataclass(frozen=True, slots=True)
class QuiesceInstance(InstanceInstruction):
    """Bring an instance to rest and store its checkpoint, before all on the node that it moves to."""

    cause: str = ""
    #: The name and the address of that node.
    target: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class ResumeInstance(InstanceInstruction):
    """Let a quiesced instance serve again."""

    cause: str = ""


@dataclass(frozen=True, slots=True)
class SetPeers(InstanceInstruction):
    """Tell an instance that it is the owner, and which other nodes are to hold its checkpoints from now on."""

    peers: Addresses = ()


@dataclass(frozen=True, slots=True)
class NodeInstruction(Instruction):
    """The base of what is said to a node, or about it."""

    node: str
    address: str


@dataclass(frozen=True, slots=True)
class GrantLease(NodeInstruction):
    """Answer a node's request for its lease."""

    number: int


@dataclass(frozen=True, slots=True)
class Rejoin(NodeInstruction):
    """Tell a node that it was given up: it stops whatever it still runs, then joins anew."""

    #: Which of its lives was given up: a later one has joined already.
    incarnation: int


@dataclass(frozen=True, slots=True)
class GiveUpNode(NodeInstruction):
    """Wait for nothing from this node any more."""


@dataclass(frozen=True, slots=True)
class DropCheckpoints(Instruction):
    """Remove all checkpoints of a sandbox, up to an epoch, from these nodes."""

    sandbox: str
    addresses: tuple[str, ...]
    #: The highest epoch that the sandbox ever had; one created later under its id begins above it.
    epoch: int


@dataclass(frozen=True, slots=True)
class KeepSandbox(Instruction):
    """Keep what has become of a sandbox for the next run; a `StartInstance` is kept by itself."""

    kept: KeptSandbox


@dataclass(frozen=True, slots=True)
class KeepGroup(Instruction):
    """Keep what a group is for the next run."""

    kept: KeptGroup


@dataclass(frozen=True, slots=True)
class ForgetGroup(Instruction):
    """Keep nothing of a group any more."""

    group: str


@dataclass(frozen=True, slots=True)
class SetTimer(Instruction):
    """Tell `TimerFired` with this token after `delay` seconds. A token that fires late does no harm."""

    token: str
    delay: float


@dataclass(frozen=True, slots=True)
class Record(Instruction):
    """Append an event, without a sequence number, to the log."""

    event: Event


@dataclass(frozen=True, slots=True)
class Answer(Instruction):
    """What was asked under `cause` is done."""

    cause: str
    #: created, restarted: the `SandboxRecord`; moved: the `Migration`; destroyed: None.
    value: Any = None


@dataclass(frozen=True, slots=True)
class Refuse(Instruction):
    """What was asked under `cause` will not be done."""

    cause: str
    error: SuperlearnerError


_TOPICS: dict[type, str] = {QuiesceInstance: "move", ResumeInstance: "move", SetPeers: "peers"}
