"""The checkpoints of one instance: numbered, kept on the node, copied to its peers, reported."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from superlearner.core.checkpoints import CheckpointVersion
from superlearner.core.durability import Holders, why_not_durable
from superlearner.errors import StartFailed
from superlearner.sandbox.link import Saved
from superlearner.sandbox.services import NodeServices, Peer, StartRequest

#: Seconds between two reports of stored checkpoints where there is one for each group of answers, unless the
#: registry has to know at once.
REPORT_INTERVAL = 1.0
#: Seconds that the control plane has to take a report on which answers wait.
TELL_TIMEOUT = 5.0


class Keeper:
    """Numbers and stores checkpoints; the newest alone is worth copying.

    Parameters
    ----------
    request
        Whose checkpoints these are.
    services
        Returns the node's services.
    """

    def __init__(self, request: StartRequest, services: Callable[[], NodeServices]) -> None:
        self._request = request
        self._services = services
        self._seq = 0
        self._copying = asyncio.Lock()
        self._newest: CheckpointVersion | None = None
        #: Whether answers wait for checkpoints.
        self._holds_back = request.spec.checkpoint.durability == "reply"
        self._holders = Holders()
        #: The newest that is stored so that answers may leave.
        self._durable = 0
        self._reported_at = 0.0
        self._report_due: asyncio.TimerHandle | None = None
        #: The nodes that get copies.
        self.peers: tuple[Peer, ...] = request.peers
        #: Until it is told that it is the owner, nothing is stored that would fence off another.
        self.on_trial = request.on_trial
        #: What was last reported as stored: ``epoch seq size nodes at``.
        self.stored: dict[str, Any] | None = None

    async def versions(self, *, first: bool = False) -> AsyncIterator[CheckpointVersion]:
        """Yield what a host may be restored from, newest first: what others hold after the node's own.

        Parameters
        ----------
        first
            It is the first host of this instance. Then others may have something newer than the node has, unless
            it is known what there is; and checkpoints are numbered on from what is found.

        Raises
        ------
        StartFailed
            The checkpoint that is there is out of reach: to begin with an older one would lose what was answered.
        """
        own = self._own(self._services().checkpoints.newest(self._request.spec.id))
        # One on trial stores nothing itself: what is there is what it began with, or older.
        unsure = self._request.expects is None and (first or self.on_trial)
        if unsure or not (own and self._suffice(own)):
            own = []
        for version in own:
            self._number_on(version, first)
            yield version
        tried = {version.version for version in own}
        for version in await self._fetch((*self._request.sources, *self.peers)):
            if version.version not in tried:
                self._number_on(version, first)
                yield version

    async def find(self, epoch: int, seq: int) -> CheckpointVersion | None:
        """Return one of the versions that there are, here or on another node; None when it is not there, or damaged."""
        sources = tuple(dict.fromkeys((*self._request.sources, *self.peers)))
        for version in self._own(await self._services().fetch(self._request.spec.id, sources)):
            if version.version == (epoch, seq) and version.good:
                return version
        return None

    def _number_on(self, version: CheckpointVersion, first: bool) -> None:
        if first and version.epoch == self._request.epoch:
            self._seq = max(self._seq, version.seq)

    async def _fetch(self, sources: Sequence[Peer]) -> Sequence[CheckpointVersion]:
        versions = self._own(
            await self._services().fetch(self._request.spec.id, tuple(dict.fromkeys(sources)))
        )
        if not self._suffice(versions):
            epoch, seq = self._request.expects or (0, 0)
            reason = f"its checkpoint {seq} of epoch {epoch} is on nodes that cannot be reached from here now"
            raise StartFailed(reason, self._request.spec.id)
        return versions

    def _own(self, versions: Sequence[CheckpointVersion]) -> Sequence[CheckpointVersion]:
        """Leave out what a node has kept of a destroyed sandbox of the same id."""
        return [version for version in versions if version.epoch > self._request.above]

    def _suffice(self, versions: Sequence[CheckpointVersion]) -> bool:
        """Tell whether these, newest first, bring everything that is known to be stored."""
        expects = self._request.expects
        return expects is None or (bool(versions) and versions[0].version >= expects)

    def keep(self, saved: Saved) -> CheckpointVersion:
        """Number what a host has saved, and store it on this node, unless it is on trial.

        Raises
        ------
        StaleEpoch
            The node knows a newer epoch of the sandbox: this instance is no longer the owner.
        """
        self._seq += 1
        spec = self._request.spec
        version = CheckpointVersion.of(
            spec.id,
            self._request.epoch,
            self._seq,
            saved.payload,
            at=time.time(),
            next_serial=saved.next_serial,
        )
        if not self.on_trial:
            self._services().checkpoints.put(version, spec.checkpoint.keep)
        self._newest = version
        return version

    async def end_trial(self) -> None:
        """Store the newest version, and each later one: this instance is the owner from now on."""
        if self.on_trial:
            self.on_trial = False
            if self._newest is not None:
                self._services().checkpoints.put(self._newest, self._request.spec.checkpoint.keep)
                await self.copy(self._newest)

    async def copy(self, version: CheckpointVersion, first: str | None = None) -> dict[str, Any]:
        """Store a version on the peers and report it; return its ``epoch seq size nodes``.

        Where `first` is one of the peers it is stored there alone, and the others are left to `complete`.
        """
        async with self._copying:
            chosen = tuple(peer for peer in self.peers if peer[0] == first)
            nodes, _ = await self._copy(version, chosen or self.peers, told_now=True)
            return {"epoch": version.epoch, "seq": version.seq, "size": version.size, "nodes": nodes}

    async def complete(self, *, tell: bool = True) -> None:
        """Store the newest version on the peers that `copy` has left out.

        It is not told where another instance is the owner by now: from the late word of an old epoch it would look as
        if this one had gone on.
        """
        async with self._copying:
            newest, held = self._newest, self.stored
            if newest is not None and held is not None and held["seq"] == newest.seq:
                others = tuple(peer for peer in self.peers if peer[0] not in held["nodes"])
                if others and tell:
                    await self._copy(newest, others, held["nodes"], told_now=True)
                elif others:
                    await self._services().replicate(newest, others)

    async def copy_newest(self) -> None:
        """Store the newest version on the peers, unless that has been done."""
        async with self._copying:
            # While one version was on its way newer ones have replaced each other.
            newest = self._newest
            if newest is not None and (self.stored is None or self.stored["seq"] < newest.seq):
                await self._copy(newest, self.peers, told_now=True)

    async def secure(self, version: CheckpointVersion) -> str | None:
        """Store a version, or a newer one, so that answers may leave; return why that failed, None when it is done."""
        async with self._copying:
            if version.seq <= self._durable:
                return None
            assert self._newest is not None
            _, trouble = await self._copy(self._newest, self.peers, told_now=False)
            return trouble

    async def _copy(
        self,
        version: CheckpointVersion,
        to: tuple[Peer, ...],
        holders: Sequence[str] = (),
        *,
        told_now: bool,
    ) -> tuple[list[str], str | None]:
        """Store it on the nodes in `to`; return who has it now, and why it does not count as stored."""
        if self.on_trial:
            return [], "this instance is not the owner yet"
        peers = [node for node, _ in self.peers]
        answers_wait = self._holds_back and not told_now
        copies = await self._services().replicate(version, to, answers_wait=answers_wait)
        nodes = [*(holders or [self._request.node]), *copies.nodes]
        trouble = why_not_durable(peers, copies)
        if self.stored is not None and version.seq < self.stored["seq"]:
            return nodes, trouble
        self.stored = {
            "epoch": version.epoch,
            "seq": version.seq,
            "size": version.size,
            "nodes": nodes,
            "at": version.at,
        }
        asked = [self._request.node, *peers]
        comes_first = self._holds_back and self._holders.must_tell(version.seq, asked, nodes)
        self._report_soon(now=told_now or comes_first)
        if trouble is None and comes_first:
            if not await self._services().settled(TELL_TIMEOUT):
                return nodes, "the control plane does not answer"
            self._holders.told(version.seq)
        if trouble is None:
            self._durable = version.seq
        return nodes, trouble

    def _report_soon(self, *, now: bool) -> None:
        loop = asyncio.get_running_loop()
        wait = 0.0 if now else self._reported_at + REPORT_INTERVAL - loop.time()
        if wait <= 0:
            self._report()
        elif self._report_due is None:
            self._report_due = loop.call_later(wait, self._report)

    def _report(self) -> None:
        self.close()
        self._reported_at = asyncio.get_running_loop().time()
        assert self.stored is not None
        self._services().report("checkpoint_stored", sandbox=self._request.spec.id, **self.stored)

    def close(self) -> None:
        """Report nothing more by itself."""
        if self._report_due is not None:
            self._report_due.cancel()
            self._report_due = None

    async def set_peers(self, peers: Sequence[Peer]) -> None:
        """Copy to these nodes from now on; the newest version goes to them at once. Only the owner is told this."""
        new = {(node, address) for node, address in peers} - set(self.peers)
        self.peers = tuple((node, address) for node, address in peers)
        if self.on_trial:
            await self.end_trial()
            return
        if new and self._newest is not None:
            await self.copy(self._newest)
