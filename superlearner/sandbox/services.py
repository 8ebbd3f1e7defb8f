"""What an instance is asked to run, and what it needs of its node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from superlearner.core.checkpoints import CheckpointStore, CheckpointVersion
from superlearner.core.durability import Copies
from superlearner.core.spec import SandboxSpec
from superlearner.sandbox.forkserver import ForkServer

#: ``(node, address)``.
Peer = tuple[str, str]
#: Takes ``[call_id, status, payload]``, exactly once for each call or command.
Answer = Callable[[list[Any]], None]


@dataclass(frozen=True, slots=True)
class StartRequest:
    """Everything that is needed to start one instance.

    Parameters
    ----------
    spec
        The sandbox as it was asked for.
    node
        The name of the node it starts on.
    epoch
        Its epoch, above that of every earlier instance of the sandbox.
    peers
        The nodes that shall hold copies of its checkpoints.
    sources
        The nodes that hold checkpoints already, its own first.
    first_serial
        The first serial of the pids of this epoch.
    cause
        The id of what led to the start; the report of how it went carries it.
    on_trial
        It is started for a move, and is not the owner before it is told its peers: until then it stores no
        checkpoint, as the move may be rolled back and the owner's epoch is lower.
    incarnation
        The life of the node that it is meant for.
    above
        Checkpoints of this epoch or an earlier one are of a destroyed sandbox of the same id.
    expects
        The (epoch, seq) of a checkpoint that is there: without it, or a newer one, it does not start.
    """

    spec: SandboxSpec
    node: str
    epoch: int
    peers: tuple[Peer, ...] = ()
    sources: tuple[Peer, ...] = ()
    first_serial: int = 1
    cause: str = ""
    on_trial: bool = False
    incarnation: int = 1
    above: int = 0
    expects: tuple[int, int] | None = None


class Outlet(Protocol):
    """The way of one host to other sandboxes."""

    def take(self, frame: list[Any]) -> None:
        """Take ``[verb, number, sandbox, target, payload, timeout]``; see `superlearner.sandbox.host`."""

    def after(self, sandbox: str, then: Callable[[], None]) -> None:
        """Call `then` when what the host has sent to `sandbox` so far, without an answer to come, is there."""

    def close(self) -> None:
        """Drop what waits for an answer, and end the host's watches: it has died. What it has sent still leaves."""


class NodeServices(Protocol):
    """What an instance needs of its node; the node agent implements it."""

    #: The node's name.
    node: str
    #: The node's warm fork server.
    fork_server: ForkServer
    #: The node's own store.
    checkpoints: CheckpointStore
    #: Until when the node may answer, on the monotonic clock that all processes of a machine share. Past it its
    #: hosts end by themselves, as another node may have taken over. None: for ever.
    lease_until: float | None

    def report(self, kind: str, **fields: Any) -> None:
        """Tell the control plane, at once and in order; every report carries ``sandbox`` and ``epoch``."""

    async def settled(self, patience: float) -> bool:
        """Wait until the control plane has taken all reports so far; return False if it has not within `patience`."""

    async def replicate(
        self, version: CheckpointVersion, peers: Sequence[Peer], *, answers_wait: bool = False
    ) -> Copies:
        """Store a checkpoint on the peers, and in the state directory; return what came of it.

        Where answers wait for it, a peer that takes its time is not waited for once another copy counts.
        """

    def outlet(self, sandbox: str, answer: Answer, wait: Callable[[bool], None]) -> Outlet:
        """Open the way of one host of `sandbox` to other sandboxes.

        `answer` takes ``[number, status, payload]``; `wait` is called with True when the host has to wait, since
        what it has sent does not arrive as fast as it sends, and with False when it may go on.
        """

    async def fetch(self, sandbox: str, sources: Sequence[Peer]) -> list[CheckpointVersion]:
        """Return the checkpoints of the own store and the sources, newest first."""


#: The services of the nodes of this OS process, by node name: where an `Instance` made without any looks.
NODES: dict[str, NodeServices] = {}
