"""A simulated instance: what `sandbox.instance` does on a node, with a counter as its state.

Its host is a process of its own on the same machine: it goes on while the node's worker is frozen, and ends by
itself when the lease that it was last told of has run out.

The module is long because an instance is one thing: its life, its requests and its checkpoints share one state.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from superlearner.core.checkpoints import CheckpointVersion, choose
from superlearner.core.control import Addresses, StartInstance
from superlearner.core.restart import Backoff, Intensity, should_restart
from superlearner.errors import CheckpointFailed, ProcessDied, StaleEpoch, StartFailed
from superlearner.testing.engine import Process, Promise, Task

if TYPE_CHECKING:
    from superlearner.testing.node import SimulatedNode

#: Seconds past its lease after which a host ends by itself, as `sandbox.host` does.
HOST_GRACE = 0.05


class Fenced(ConnectionError):
    """The lease of a node ran out before it could answer: what was asked may have happened."""


@dataclass(frozen=True, slots=True)
class Written:
    """The answer to a call: what the counter became, and the nodes that have that on a checkpoint."""

    sandbox: str
    epoch: int
    value: int
    nodes: tuple[str, ...]


class SimulatedInstance:
    """One incarnation of a sandbox on a node.

    Parameters
    ----------
    node
        Where it lives.
    order
        The instruction that led to it.
    """

    def __init__(self, node: SimulatedNode, order: StartInstance) -> None:
        self.node, self.spec, self.epoch = node, order.spec, order.epoch
        self.peers: Addresses = order.peers
        self._sources: Addresses = order.sources
        self._above, self._expects = order.above, order.expects
        #: It was started for a move and may not become the owner: it stores nothing that would fence off another.
        self._on_trial = order.on_trial
        #: ``starting running restarting migrating stopped failed``.
        self.status = "starting"
        #: The state: how often it was incremented.
        self.value = 0
        #: The version that its host began with.
        self.restored = (0, 0)
        self.host: Process | None = None
        #: Until when its host may run, by the machine's clock.
        self.lease_until = 0.0
        self._moving = False
        self._stopping = False
        self._seq = 0
        self._newest: CheckpointVersion | None = None
        self._stored = 0
        self._in_flight: dict[Promise, None] = {}
        #: Requests that wait for the host, in order.
        self._waiting: list[Promise] = []
        self._idle = Promise()
        self._restarting: Task | None = None
        self._recovery: Task | None = None
        self._budget = Intensity(self.spec.max_restarts, self.spec.max_seconds)

    @property
    def key(self) -> tuple[str, int]:
        """Its sandbox and epoch."""
        return self.spec.id, self.epoch

    @property
    def answers(self) -> bool:
        """Whether it would answer now: its host lives, serves, and holds a lease that is valid by its own clock."""
        host = self.host
        return host is not None and host.alive and self.status == "running" and host.time() < self.lease_until

    def _report(self, kind: str, **fields: Any) -> None:
        self.node.report(kind, sandbox=self.spec.id, epoch=self.epoch, **fields)

    # -- Life --

    async def start(self) -> tuple[int, int] | None:
        """Start the host from the newest checkpoint that can be had; return its version."""
        versions = await self._fetch(self._sources)
        self._seq = max((v.seq for v in versions if v.epoch == self.epoch), default=0)
        return await self._launch(versions)

    async def _launch(self, versions: list[CheckpointVersion]) -> tuple[int, int] | None:
        await self.node.process.sleep(self.node.start_time())
        if self._stopping or not self.node.lease.holds:
            self._close("stopped")
            raise StartFailed("it may not start any more", self.spec.id)
        version = choose(versions)
        self.value = 0 if version is None else int(version.payload)
        self.restored = (0, 0) if version is None else version.version
        host = self.host = Process(self.node.process.engine, f"{self.spec.id}#{self.epoch}", self.node.clock)
        self.lease_until = self.node.lease.until
        host.on_death.append(lambda: self.node.process.run(self._on_ended, host))
        self._watch_lease(host)
        self.node.cluster.host_up(self)
        if not self._moving:
            self._open()
        if versions:
            self._keep_and_copy()  # what is restored is worth a checkpoint of its own at once
        return None if version is None else version.version

    def _watch_lease(self, host: Process) -> None:
        """The host ends by itself when the lease that it knows of has run out."""
        if host.time() >= self.lease_until + HOST_GRACE:
            host.die()
        else:
            host.call_at(self.lease_until + HOST_GRACE, self._watch_lease, host)

    def renew(self) -> None:
        """Tell the host that the lease was extended."""
        self.lease_until = self.node.lease.until

    def _open(self) -> None:
        self.status = "running"
        self.node.cluster.checks.serving(self)
        waiting, self._waiting = self._waiting, []
        for promise in waiting:
            promise.resolve()

    def _on_ended(self, host: Process) -> None:
        """Its host has died, and nobody wanted that."""
        if host is not self.host or self.status not in ("running", "migrating"):
            return
        if not self._moving:
            self.status = "restarting"
        self._fail(ProcessDied("killed", self.spec.id))
        self._recovery = self.node.process.spawn(self._recover("killed"))

    async def _recover(self, reason: Any) -> None:
        process = self.node.process
        began = process.time()
        while not self._stopping:
            if not should_restart(self.spec.restart, reason):
                self._exited(reason, gave_up=False)
                return
            self._budget, allowed = self._budget.spend(process.time())
            if not allowed:
                self._exited(reason, gave_up=True)
                return
            await process.sleep(Backoff().wait(len(self._budget.restarts)))
            try:
                restored = await self._launch(await self._versions())
            except StartFailed as error:
                reason = error.reason
            else:
                self.node.cluster.checks.restarted_in_place(self, began)
                self._report("instance_restarted", reason=reason, restored=restored)
                return

    async def _versions(self) -> list[CheckpointVersion]:
        own = [] if self._on_trial else self._later(self.node.store.newest(self.spec.id))
        return own if own and self._suffice(own) else await self._fetch((*self._sources, *self.peers))

    async def _fetch(self, sources: Addresses) -> list[CheckpointVersion]:
        versions = self._later(await self.node.fetch(self.spec.id, tuple(dict.fromkeys(sources))))
        if not self._suffice(versions):
            raise StartFailed("its checkpoint is out of reach", self.spec.id)
        return versions

    def _later(self, versions: list[CheckpointVersion]) -> list[CheckpointVersion]:
        return [version for version in versions if version.epoch > self._above]

    def _suffice(self, versions: list[CheckpointVersion]) -> bool:
        return self._expects is None or (bool(versions) and versions[0].version >= self._expects)

    def exit(self, reason: Any) -> None:
        """Its application ends by itself."""
        if self.status == "running":
            self._exited(reason, gave_up=False)

    def _exited(self, reason: Any, *, gave_up: bool) -> None:
        self._close("failed" if gave_up else "stopped")
        self._report("instance_exited", reason=reason, gave_up=gave_up)

    def _close(self, status: str) -> None:
        self.status = status
        self._end_host()
        self._refuse_waiting()
        self._fail(ProcessDied("it was stopped", self.spec.id))

    def _end_host(self) -> None:
        host, self.host = self.host, None
        self.node.cluster.host_down(self)
        if host is not None:
            host.die()

    def _fail(self, error: Exception) -> None:
        in_flight, self._in_flight = self._in_flight, {}
        for promise in in_flight:
            promise.fail(error)
        self._idle.resolve()

    def _refuse_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for promise in waiting:
            promise.fail(StaleEpoch(self.spec.id, self.epoch))

    async def stop(self) -> None:
        """Stop the host; the node forgets the instance."""
        self._stopping = True
        if self.status not in ("stopped", "failed"):
            self._close("stopped")
        await self.node.process.sleep(0.01)
        self.node.forget(self)

    def fence(self) -> None:
        """End at once: the lease of the node has run out."""
        self._stopping = True
        self._close("stopped")
        self.node.forget(self)

    async def restart(self) -> tuple[int, int] | None:
        """Start the host again, from a checkpoint that is taken first."""
        while self._restarting is not None and not self._restarting.done:
            await self._restarting  # whoever asked and got no answer may have asked again
        self._restarting = self.node.process.spawn(self._restart())
        restored: tuple[int, int] | None = await self._restarting
        return restored

    async def _restart(self) -> tuple[int, int] | None:
        if self._recovery is not None:
            await self._recovery
        self.status = "restarting"
        with suppress(CheckpointFailed):
            await self.checkpoint()
        self._end_host()
        self._fail(ProcessDied("restart", self.spec.id))
        try:
            restored = await self._launch(await self._versions())
        except StartFailed:
            self._exited("it did not start", gave_up=True)
            raise
        self._report("instance_restarted", reason="restart", restored=restored)
        return restored

    # -- Requests --

    async def call(self, call: str, *, durable: bool) -> Written:
        """Increment the counter; a durable call is answered when its copies are stored."""
        if self.status in ("starting", "restarting"):
            waits = Promise()
            self._waiting.append(waits)
            await waits
        if self.status != "running":
            raise StaleEpoch(self.spec.id, self.epoch)
        answer = Promise()
        self._in_flight[answer] = None
        self.node.process.spawn(self._work(call, answer, durable=durable))
        value, nodes = await answer
        return Written(self.spec.id, self.epoch, value, nodes)

    async def _work(self, call: str, answer: Promise, *, durable: bool) -> None:
        host = self.host
        await self.node.process.sleep(0.002)
        if host is None or host is not self.host or not host.alive:
            return  # its end answers
        self.value += 1
        self.node.cluster.checks.executed(call)
        value = self.value
        nodes: tuple[str, ...] = ()
        if durable:
            try:
                nodes = await self.checkpoint()
            except CheckpointFailed as error:
                self._answered(answer, partial(answer.fail, error))
                return
        self._answered(answer, partial(answer.resolve, (value, nodes)))

    def _answered(self, answer: Promise, tell: Callable[[], None]) -> None:
        self._in_flight.pop(answer, None)
        tell()
        if not self._in_flight:
            self._idle.resolve()

    # -- Checkpoints and moves --

    async def checkpoint(self) -> tuple[str, ...]:
        """Store the state on the node and its peers; return the names of those that have it."""
        if self.host is None or not self.host.alive:
            raise CheckpointFailed(self.spec.id, f"the sandbox is {self.status}")
        return await self._copy(self._keep())

    def _keep(self) -> CheckpointVersion:
        self._seq += 1
        payload = str(self.value).encode()
        version = CheckpointVersion.of(self.spec.id, self.epoch, self._seq, payload)
        try:
            if not self._on_trial:
                self.node.put(version, self.spec.checkpoint.keep)
        except StaleEpoch as error:
            raise CheckpointFailed(self.spec.id, str(error)) from None
        self._newest = version
        return version

    def _keep_and_copy(self) -> None:
        try:
            version = self._keep()
        except CheckpointFailed:
            return  # an event tells; the one before it still counts
        self.node.process.spawn(self._copy(version))

    async def _copy(self, version: CheckpointVersion) -> tuple[str, ...]:
        if self._on_trial:
            return ()
        others = await self.node.replicate(version, self.peers, self.spec.checkpoint.keep)
        nodes = (self.node.name, *others)
        if self._stored <= version.seq:
            self._stored = version.seq
            self._report("checkpoint_stored", seq=version.seq, size=version.size, nodes=nodes)
        return nodes

    async def quiesce(self) -> tuple[int, int]:
        """Take no more requests, finish those in flight, and checkpoint; return the checkpoint's number and size."""
        if self.status != "running":
            raise CheckpointFailed(self.spec.id, f"the sandbox is {self.status}")
        self.status, self._moving = "migrating", True
        self._refuse_waiting()
        try:
            if self._in_flight:
                self._idle = Promise()
                with suppress(TimeoutError):  # calls that take longer are told that their process died
                    await self.node.process.within(5.0, self._idle)
            await self.checkpoint()
        except CheckpointFailed:
            await self.resume()
            raise
        assert self._newest is not None
        return self._newest.seq, self._newest.size

    async def resume(self) -> None:
        """Serve again after a move that was rolled back."""
        self._moving = False
        if self.status == "migrating" and self.host is not None and self.host.alive:
            self._open()

    async def set_peers(self, peers: Addresses) -> None:
        """Copy to these nodes from now on; the newest version goes to them at once."""
        new = set(peers) - set(self.peers)
        self.peers = peers
        if self._on_trial:
            self._on_trial = False
            new = set(peers)
            if self._newest is not None:
                self.node.put(self._newest, self.spec.checkpoint.keep)
        if new and self._newest is not None:
            await self._copy(self._newest)
