"""The control machine of a local manager: one node, in this process."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any

from superlearner.cluster.agent import SandboxActor
from superlearner.cluster.faults import FaultControl
from superlearner.cluster.local_node import LOCAL, LocalDoor, LocalNode
from superlearner.cluster.pump import Pump
from superlearner.cluster.requests import VERBS, Requests
from superlearner.cluster.state_dir import Doubt, StateDirectory
from superlearner.core import control as c
from superlearner.core.checkpoints import CheckpointStore, CheckpointVersion
from superlearner.core.faults import FaultRecord
from superlearner.core.snapshots import SandboxInfo
from superlearner.core.spec import SandboxSpec
from superlearner.errors import SandboxExists, Unsupported
from superlearner.sandbox.services import StartRequest

_NUMBERS = itertools.count(1)
_ONE_NODE = "A local manager has one node, this machine: "
_WITH_A_CLUSTER = (
    " Cluster(nodes=3) has more; promote() of a DualSandboxManager moves a local sandbox into it."
)
#: What one node cannot do, each with the reason.
NOT_HERE = {
    "move": f"{_ONE_NODE}there is nowhere to move a sandbox to; it runs on as before.{_WITH_A_CLUSTER}",
    "drain": f"{_ONE_NODE}its sandboxes have nowhere else to go; nothing was changed.{_WITH_A_CLUSTER}",
    "add_node": f"{_ONE_NODE}no node can be added.{_WITH_A_CLUSTER}",
    "remove_node": f"{_ONE_NODE}it ends with close(); nothing was removed.",
    "signal_scheduler": f"{_ONE_NODE}there is no scheduler; nothing was done.",
    "signal_node": f"{_ONE_NODE}killing or pausing it would do so to your own program; nothing was done.",
}


class LocalPlane(Pump):
    """Runs the machine with `LocalNode` as its only node.

    Parameters
    ----------
    directory
        Where sandboxes and their checkpoints are kept beyond the manager's end; None: in memory only.
    """

    requests: LocalRequests
    must_keep = True
    prefix = f"{LOCAL}-"

    def __init__(self, directory: StateDirectory | None = None) -> None:
        super().__init__(directory)
        #: Tells it from every other local manager of this machine.
        self.address = f"{LOCAL}:{os.getpid()}.{next(_NUMBERS)}"
        #: By sandbox: a move into a cluster of which it is not certain how it ended.
        self.doubts: dict[str, Doubt] = {}
        #: Sandboxes that may live in a cluster, so that they must not be started here before that is known.
        self.held: dict[str, c.KeptSandbox] = {}

    async def open(self) -> None:
        """Start the node; then what the directory remembers. Nothing is left when that fails."""
        store = CheckpointStore() if self._directory is None else self._directory.open()
        self.begin(c.ControlPolicy())
        self.requests = LocalRequests(self)
        self.node = LocalNode(self.on_report, store, self.requests.lookup)
        self.nodes = LocalDoor(self.node)
        self.faults = FaultControl(self, self.nodes, prefix=f"{LOCAL}-")
        try:
            await self.node.start()
        except BaseException:
            await self.close()
            raise
        if self._directory is not None:
            self._bring_all_back(self._directory)

    def _bring_all_back(self, directory: StateDirectory) -> None:
        """Start the sandboxes of an earlier run; whoever asks for one waits until it runs."""
        self.doubts = directory.doubts()
        certain = []
        for kept in directory.remembered():
            if self.doubts.get(kept.spec.id) == "open":
                self.held[kept.spec.id] = kept
                why = "it was on its way into a cluster, and only that can tell whether it has arrived"
                self.not_restored(kept.spec.id, why)
            else:
                certain.append(kept)
        self.bring_back(certain, directory.remembered_groups())
        self.tell_unreadable(directory)

    def doubt(self, sandbox: str, doubt: Doubt | None) -> None:
        """Note what is not certain about a move of a sandbox into a cluster; None: nothing is."""
        if doubt is None:
            self.doubts.pop(sandbox, None)
        else:
            self.doubts[sandbox] = doubt
        if self._directory is not None and (doubt or self._directory.folder(sandbox).exists()):
            self._directory.doubt(sandbox, doubt)

    def let_go(self, sandbox: str, *, start: bool) -> None:
        """Start a sandbox that was held, or forget it, since it lives in the cluster."""
        kept = self.held.pop(sandbox)
        self.doubt(sandbox, None)
        if start:
            self.bring_back([kept])
        else:
            self.node.checkpoints.forget(sandbox)

    async def close(self) -> None:
        """End every sandbox; with a directory, the last state of each is kept first."""
        await self.end()
        if self._directory is not None:
            await self.node.save_all()
        await self.node.close()
        if self._directory is not None:
            self._directory.close()

    async def make(self, i: c.StartInstance, request: StartRequest) -> None:
        """Make the instance, which starts by itself and reports how that went."""
        SandboxActor(request, self.node)


class LocalRequests(Requests):
    """The verbs of a local manager: called, not sent."""

    def __init__(self, plane: LocalPlane) -> None:
        super().__init__(plane)
        self._held = plane.held
        #: Takes what is pushed to clients: ``(kind, message)``.
        self.listener: Callable[[tuple[str, Any]], None] | None = None

    def push(self, kind: str, message: Any) -> None:
        """Tell the listener."""
        if self.listener is not None:
            self.listener((kind, message))

    async def create(self, spec: SandboxSpec, checkpoint: CheckpointVersion | None = None) -> SandboxInfo:
        """Create a sandbox, unless one of that id may live in a cluster."""
        if spec.id in self._held:
            raise SandboxExists(spec.id)
        return await super().create(spec, checkpoint)

    async def inject(self, kind: str, detail: dict[str, Any]) -> FaultRecord:
        """Make a fault; the only node is not to be frozen."""
        if kind == "pause_node":
            raise Unsupported(NOT_HERE["signal_node"])
        return await super().inject(kind, detail)

    async def run(self, verb: str, kwargs: dict[str, Any]) -> Any:
        """Do what is asked.

        Raises
        ------
        Unsupported
            One node cannot do that.
        """
        if verb in NOT_HERE:
            raise Unsupported(NOT_HERE[verb])
        if verb not in VERBS:
            raise Unsupported(f"A local manager knows no {verb!r}: that takes a Cluster.")
        return await getattr(self, verb)(**kwargs)
