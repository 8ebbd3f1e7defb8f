"""Moves a sandbox of this machine into a cluster, with its state.

Rest, checkpoint, create there from it, stop here. Until the cluster has answered that it runs there, it is
the local one that counts: every failure lets it go on serving.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

from superlearner import config
from superlearner.cluster.commands import InstanceGone
from superlearner.cluster.link import Link
from superlearner.cluster.local_link import LocalLink
from superlearner.core.control_records import SandboxRecord
from superlearner.core.history import Event
from superlearner.core.snapshots import Migration, SandboxInfo
from superlearner.errors import CheckpointFailed, MoveFailed, NoSandbox, SuperlearnerError

logger = logging.getLogger(__name__)
#: Seconds in which a creation that went wrong must have been undone in the cluster.
UNDO_TIMEOUT = 10.0


class Promotion:
    """One move of a sandbox from here into a cluster; whoever makes it keeps requests away meanwhile.

    Parameters
    ----------
    local
        Where the sandbox lives.
    remote
        The cluster.
    sandbox, node
        What is moved, and to which node; ``"auto"``: as the cluster chooses.
    """

    def __init__(self, local: LocalLink, remote: Link, sandbox: str, node: str) -> None:
        self._local = local
        self._remote = remote
        self._sandbox = sandbox
        self._node = node

    async def run(self) -> Migration:
        """Do it; when this returns the cluster serves, and `leave` removes what is left here.

        Raises
        ------
        NoSandbox
            There is no such sandbox here.
        MoveFailed
            The local one goes on serving. ``definite`` is False where the cluster could not be told to forget
            the one that it may have made.
        """
        plane = self._local.plane
        record = plane.state.sandboxes.get(self._sandbox)
        if record is None:
            raise NoSandbox(self._sandbox)
        if record.status != "running":
            raise MoveFailed(self._sandbox, f"it is {record.status}")
        if await self._is_there():
            raise MoveFailed(self._sandbox, "the cluster has a sandbox of that id already")
        began = plane.now()
        self._note("sandbox_moving", record)
        try:
            size: int = (await self._instance(record, "quiesce"))["size"]
        except (CheckpointFailed, InstanceGone) as error:
            raise self._failed(record, error) from error
        rested = plane.now()
        try:
            # From here on until `leave`, a crash of this process leaves open where it lives.
            plane.doubt(self._sandbox, "open")
            made = await self._create(record)
        except BaseException as error:
            certain = await asyncio.shield(self._undo(record, error))
            if isinstance(error, asyncio.CancelledError):
                raise
            failed = self._failed(record, error, certain=certain)
            raise failed from error
        phases = {"quiesce": rested - began, "start": plane.now() - rested}
        pause = plane.now() - began
        moved = Migration(
            self._sandbox, record.node or "", made.node or "", made.epoch, phases, bytes=size, pause=pause
        )
        self._note("sandbox_moved", record, epoch=made.epoch, **moved.as_detail())
        return moved

    async def leave(self) -> None:
        """Stop what is left here, and remove its checkpoints."""
        try:
            await self._local.ask("destroy", sandbox=self._sandbox)
            self._local.plane.doubt(self._sandbox, None)
        except SuperlearnerError:
            logger.exception("superlearner: what %s left behind could not be stopped", self._sandbox)

    # -- Steps -----------------------------------------------------------------------------------------

    async def _is_there(self) -> bool:
        try:
            await self._remote.ask("sandbox", sandbox=self._sandbox)
        except NoSandbox:
            return False
        return True

    async def _create(self, record: SandboxRecord) -> SandboxInfo:
        plane = self._local.plane
        newest = plane.node.checkpoints.newest(self._sandbox)[0]
        # Its group is this machine's: in the cluster it goes on without one.
        spec = replace(record.spec, node=self._node, group=None)
        async with asyncio.timeout(config.get("move-timeout") + spec.start_timeout):
            made: SandboxInfo = await self._remote.ask("create", spec=spec, checkpoint=newest)
        now = plane.state.sandboxes.get(self._sandbox)
        if now is None or now.epoch != record.epoch:
            # It ended at rest and was started anew here: that one may have served somebody since.
            raise MoveFailed(self._sandbox, "it was started again here meanwhile")
        return made

    async def _undo(self, record: SandboxRecord, error: BaseException) -> bool:
        """Make sure that the cluster has none, then serve again; tell whether that is certain."""
        refused = (
            isinstance(error, SuperlearnerError) and error.definite and not isinstance(error, MoveFailed)
        )
        certain = refused or await self._destroy_there()
        try:
            await self._instance(record, "resume")
        except InstanceGone:  # it has ended meanwhile; its next one serves
            logger.info("superlearner: %s had ended at rest", self._sandbox)
        self._local.plane.doubt(self._sandbox, None if certain else "here")
        return certain

    async def _destroy_there(self) -> bool:
        try:
            async with asyncio.timeout(UNDO_TIMEOUT):
                await self._remote.ask("destroy", sandbox=self._sandbox)
        except NoSandbox:
            return True
        except (SuperlearnerError, TimeoutError):
            return False
        return True

    async def _instance(self, record: SandboxRecord, method: str) -> Any:
        plane = self._local.plane
        return await plane.on_instance(str(record.address), self._sandbox, record.epoch, method)

    # -- Telling ---------------------------------------------------------------------------------------

    def _failed(self, record: SandboxRecord, error: BaseException, *, certain: bool = True) -> MoveFailed:
        match error:
            case MoveFailed() | CheckpointFailed():
                reason = str(error.reason)
            case SuperlearnerError():
                reason = error.what().rstrip(".")
            case TimeoutError():
                reason = "the cluster did not answer in time"
            case _:
                reason = f"{type(error).__name__}: {error}"
        if not certain:
            reason += "; should the cluster have made one, it is destroyed as soon as that answers again"
        self._note("move_rolled_back", record, reason=reason, target=self._node)
        failed = MoveFailed(self._sandbox, reason)
        failed.definite = certain
        return failed

    def _note(
        self,
        kind: str,
        record: SandboxRecord,
        *,
        epoch: int | None = None,
        reason: str | None = None,
        **detail: Any,
    ) -> None:
        self._local.plane.record(
            Event(
                kind,
                at=self._local.plane.now(),
                sandbox=self._sandbox,
                node=record.node,
                epoch=record.epoch if epoch is None else epoch,
                reason=reason,
                detail={"target": self._node, **detail},
            )
        )
