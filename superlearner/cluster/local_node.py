"""The one node of a local manager: this process, with a fork server of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from superlearner import config
from superlearner.cluster.agent import SandboxActor
from superlearner.cluster.between import Between
from superlearner.cluster.commands import Commands
from superlearner.cluster.node import Node
from superlearner.cluster.way import LocalWay, Lookup
from superlearner.core.checkpoints import CheckpointStore, CheckpointVersion
from superlearner.core.durability import Copies
from superlearner.core.spec import validate_labels
from superlearner.errors import CheckpointFailed
from superlearner.sandbox.forkserver import ForkServer
from superlearner.sandbox.services import Peer

logger = logging.getLogger(__name__)
#: The name of the node, and its address.
LOCAL = "local"
#: Seconds that messages which wait in mailboxes may take to be handled before a last checkpoint.
SETTLE = 1.0
#: Takes a report: its kind, its fields, and the address of the node.
Reporter = Callable[[str, dict[str, Any], str], None]


class LocalNode(Node):
    """Implements `superlearner.sandbox.services.NodeServices` in the process of a local manager.

    Parameters
    ----------
    reporter
        Takes what the node reports.
    checkpoints
        Where checkpoints are kept.
    lookup
        Tells where a sandbox lives.
    """

    node = LOCAL
    #: It cannot be cut off from itself.
    lease_until: float | None = None

    def __init__(self, reporter: Reporter, checkpoints: CheckpointStore, lookup: Lookup) -> None:
        self._reporter = reporter
        self._lookup = lookup
        self.checkpoints = checkpoints
        self.fork_server = ForkServer()
        self._telemetry: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the fork server, and report that the node is ready."""
        self.prepare()
        self.between = Between(self.find, lambda: True, lambda _: LocalWay(self._lookup))
        await self.fork_server.start()
        self.ready(LOCAL, validate_labels(config.get("labels"), "superlearner.labels"))
        # The process itself is its owner's: only what serves the sandboxes is measured.
        self._telemetry = asyncio.create_task(self.sample((), config.get("telemetry.interval")))

    async def save_all(self) -> None:
        """Take a last checkpoint of every sandbox; what does not answer keeps the one before."""

        async def save(instance: SandboxActor) -> None:
            try:
                await instance.checkpoint(SETTLE)
            except CheckpointFailed as error:
                logger.warning("superlearner: %s", error)

        running = [instance for instance in self.instances.values() if instance.status == "running"]
        await asyncio.gather(*map(save, running))

    async def close(self) -> None:
        """End every sandbox, and the fork server."""
        if self._telemetry is not None:
            self._telemetry.cancel()
            await asyncio.gather(self._telemetry, return_exceptions=True)
            await self.end_instances()
            await self.between.close()
        await self.fork_server.close()

    # -- NodeServices ----------------------------------------------------------------------------

    def report(self, kind: str, **fields: Any) -> None:
        """Tell the control machine, at once."""
        self._reporter(kind, fields, LOCAL)

    async def settled(self, patience: float) -> bool:
        """Return: the control machine takes reports at once."""
        return True

    async def replicate(
        self, version: CheckpointVersion, peers: Sequence[Peer], *, answers_wait: bool = False
    ) -> Copies:
        """Store a checkpoint on the peers: there are none, and the own store is the directory."""
        return Copies()

    async def fetch(self, sandbox: str, sources: Sequence[Peer]) -> list[CheckpointVersion]:
        """Return the checkpoints of a sandbox that are kept here, newest first."""
        return self.checkpoints.newest(sandbox)


class LocalDoor:
    """How the control machine has the one node carry out commands: by a call, not over a wire."""

    def __init__(self, node: LocalNode) -> None:
        self._commands = Commands(node)

    async def ask(self, address: str, command: str, *args: Any) -> Any:
        """Have the node carry out a command."""
        return await self._commands.run(command, *args)

    def prepare(self, address: str) -> None:
        """Have nothing to open: the node is in this process."""

    def abandon(self, address: str) -> None:
        """Do nothing: this node is lost with the process that would ask."""

    async def close(self) -> None:
        """Do nothing: there is nothing open."""
