"""What the control machine is told. What it answers is in ``control_instructions``.

Events are frozen values. Each carries ``cause``, the id of the request or effect that led to it, and
``at``, Unix time in seconds by the control plane's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from superlearner.core.checkpoints import CheckpointVersion
from superlearner.core.control_kept import KeptGroup, KeptSandbox
from superlearner.core.spec import GroupSpec, SandboxSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlEvent:
    """The base of all events."""

    #: The id of the request or effect that led to it; the answer is given under it.
    cause: str
    #: Unix time in seconds.
    at: float


@dataclass(frozen=True, slots=True)
class NodeJoined(ControlEvent):
    """A node is there and can take sandboxes. A known name with a new address: it was restarted."""

    node: str
    address: str
    #: Bytes that its sandboxes may use together. None: unknown, so never a reason to refuse.
    memory: int | None = None
    #: Cores.
    cpus: float = 1.0
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Which life of its worker this is: it begins a new one when it has stopped everything past its lease.
    incarnation: int = 1


@dataclass(frozen=True, slots=True)
class NodeHeard(ControlEvent):
    """A node asks for its lease; it counts from when it sent this."""

    node: str
    address: str
    incarnation: int
    #: The node's own number of the request, given back with the grant.
    number: int


@dataclass(frozen=True, slots=True)
class NodeForgotten(ControlEvent):
    """A node that is gone will not come back, and does not count for the quorum any more."""

    node: str


@dataclass(frozen=True, slots=True)
class NodeLost(ControlEvent):
    """A node is gone for certain, with everything on it. One of another address is late news."""

    node: str
    address: str
    reason: Any = "its connection was closed"


@dataclass(frozen=True, slots=True)
class NodeSampled(ControlEvent):
    """A node's own measurements. None: not measured."""

    node: str
    #: Bytes.
    memory_used: int | None = None
    #: Bytes.
    memory_total: int | None = None
    #: Share of all its cores, 0 to 1.
    cpu: float | None = None
    #: Share of what its network carries, 0 to 1.
    network: float | None = None


@dataclass(frozen=True, slots=True)
class CreateRequested(ControlEvent):
    """Somebody wants a new sandbox."""

    spec: SandboxSpec
    #: The state that it begins with, from elsewhere; it is stored here under an epoch of this cluster.
    checkpoint: CheckpointVersion | None = None


@dataclass(frozen=True, slots=True)
class RunRemembered(ControlEvent):
    """What is kept of an earlier run of the control plane goes on; the nodes may hold the checkpoints.

    Nobody waits for an answer: a sandbox starts, is lost until a node can take it, or fails, as after any restart.
    What was down stays down. A group starts its members in their order; one whose group is not kept goes on alone.
    """

    sandboxes: tuple[KeptSandbox, ...]
    groups: tuple[KeptGroup, ...] = ()


@dataclass(frozen=True, slots=True)
class DestroyRequested(ControlEvent):
    """Somebody wants a sandbox gone, with its checkpoints."""

    sandbox: str


@dataclass(frozen=True, slots=True)
class RestartRequested(ControlEvent):
    """Somebody wants a sandbox restarted; one that has failed or stopped is started anew."""

    sandbox: str


@dataclass(frozen=True, slots=True)
class MoveRequested(ControlEvent):
    """Somebody wants a running sandbox on another node."""

    sandbox: str
    #: A node's name, or ``"auto"``.
    node: str = "auto"


@dataclass(frozen=True, slots=True)
class DrainRequested(ControlEvent):
    """Somebody wants a node empty: all its sandboxes elsewhere, and nothing new on it."""

    node: str


@dataclass(frozen=True, slots=True)
class GroupCreateRequested(ControlEvent):
    """Somebody wants a new group, without members yet."""

    spec: GroupSpec


@dataclass(frozen=True, slots=True)
class GroupDestroyRequested(ControlEvent):
    """Somebody wants a group gone, with its members."""

    group: str


@dataclass(frozen=True, slots=True)
class GroupRestartRequested(ControlEvent):
    """Somebody wants all members of a group stopped and started again; one that has failed gets a new chance."""

    group: str


@dataclass(frozen=True, slots=True)
class InstanceStarted(ControlEvent):
    """An instance answers."""

    sandbox: str
    node: str
    epoch: int
    #: The OS process that hosts it.
    pid: int | None = None
    #: The (epoch, seq) of the checkpoint it began with. None: a fresh state.
    restored: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class InstanceStartFailed(ControlEvent):
    """An instance could not start; nothing of it is left."""

    sandbox: str
    node: str
    epoch: int
    reason: Any = None


@dataclass(frozen=True, slots=True)
class InstanceRestarted(ControlEvent):
    """An instance has started its OS process again, on its node, by itself or as it was told."""

    sandbox: str
    epoch: int
    pid: int | None = None
    reason: Any = None
    #: The (epoch, seq) of the checkpoint it began with. None: a fresh state.
    restored: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class InstanceExited(ControlEvent):
    """An instance has ended and does not come back by itself."""

    sandbox: str
    epoch: int
    reason: Any = None
    #: True: its OS process died too often on this node. False: the application's root ended.
    gave_up: bool = False


@dataclass(frozen=True, slots=True)
class InstanceStopped(ControlEvent):
    """Nothing is left of an instance."""

    sandbox: str
    epoch: int
    #: Requests that came to it while it was at rest, and were sent on to the next one.
    buffered: int = 0


@dataclass(frozen=True, slots=True)
class Quiesced(ControlEvent):
    """An instance takes no more requests and has stored this checkpoint.

    Its cause is that of the `QuiesceInstance`: one that answers an earlier move is late.
    """

    sandbox: str
    epoch: int
    seq: int
    #: Bytes.
    size: int = 0


@dataclass(frozen=True, slots=True)
class QuiesceFailed(ControlEvent):
    """An instance could not come to rest, or not store its checkpoint; its cause is as for `Quiesced`."""

    sandbox: str
    epoch: int
    reason: Any = None


@dataclass(frozen=True, slots=True)
class CheckpointStored(ControlEvent):
    """An instance's checkpoint is stored; ``at`` is when it was taken."""

    sandbox: str
    epoch: int
    seq: int
    #: Bytes.
    size: int
    #: The nodes that hold it.
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ApplicationReplaced(ControlEvent):
    """An instance runs a new version of its application: later instances are to start with that one."""

    sandbox: str
    epoch: int
    #: Opaque, as in `SandboxSpec`.
    application: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TimerFired(ControlEvent):
    """The time of a `SetTimer` is over."""

    token: str
