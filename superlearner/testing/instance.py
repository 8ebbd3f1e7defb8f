"""A simulated instance: what `sandbox.instance` does on a node, with a counter as its state.

Its host is a process of its own on the same machine: it goes on while the node's worker is frozen, and ends by
itself when the lease that it was last told of has run out.

The module is long because an instance is one thing: its life, its requests and its checkpoints share one state.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from superlearner.core.checkpoints import CheckpointVersion, choose
from superlearner.core.control import Addresses, StartInstance
from superlearner.core.durability import GroupCommit, Holders, ReplyGate, why_not_durable
from superlearner.core.request_ids import Kept, RequestMemory
from superlearner.core.restart import Backoff, Intensity, should_restart
from superlearner.errors import CheckpointFailed, NotDurable, ProcessDied, StaleEpoch, StartFailed
from superlearner.testing.engine import Process, Promise, Task

if TYPE_CHECKING:
    from superlearner.testing.node import SimulatedNode

#: Seconds that the control plane has to take a report on which answers wait.
TELL_TIMEOUT = 5.0
#: Seconds past its lease after which a host ends by itself, as `sandbox.host` does.
HOST_GRACE = 0.05


class Fenced(ConnectionError):
    """The lease of a node ran out before it could answer: what was asked may have happened."""


@dataclass(frozen=True, slots=True)
class Written:
    """The answer to a call: what the counter became, and the addresses of the nodes that have that on a checkpoint."""

    sandbox: str
    epoch: int
    value: int
    holders: tuple[str, ...]


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
        #: The state: how often it was incremented, the calls with ids that have done so, and the memory of them.
        self.value = 0
        self.applied: frozenset[str] = frozenset()
        self._memory = self._new_memory()
        self._joined: dict[str, list[tuple[Promise, bool]]] = {}
        self._gate: ReplyGate[tuple[Promise, int]] = node.cluster.parts.gate()
        self._commit = GroupCommit()
        self._holders = Holders()
        #: The nodes that have what is stored, as far as it knows.
        self._claims = (node.address, *(address for _, address in order.peers))
        self._durable = 0
        self._copying: Task | None = None
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

    def _new_memory(self) -> RequestMemory:
        return self.node.cluster.parts.memory(1000, 600.0)

    def _report(self, kind: str, **fields: Any) -> None:
        self.node.report(kind, sandbox=self.spec.id, epoch=self.epoch, **fields)

    # -- Life --

    async def start(self) -> tuple[int, int] | None:
        """Start the host from the newest checkpoint that can be had; return its version."""
        own = self._later(self.node.store.newest(self.spec.id))
        # A node that has what is known to be stored asks nobody.
        known = self._expects is not None and self._suffice(own)
        versions = own if known else await self._fetch((*self._sources, *self.peers))
        self._seq = max((v.seq for v in versions if v.epoch == self.epoch), default=0)
        return await self._launch(versions)

    async def _launch(self, versions: list[CheckpointVersion]) -> tuple[int, int] | None:
        await self.node.process.sleep(self.node.start_time())
        if self._stopping or not self.node.lease.holds:
            self._close("stopped")
            raise StartFailed("it may not start any more", self.spec.id)
        version = choose(versions)
        self.value, self.applied, self._memory = 0, frozenset(), self._new_memory()
        if version is not None:
            self.value, self.applied, kept = pickle.loads(version.payload)
            self._memory.restore(kept, self.node.process.time())
        self._commit = GroupCommit()
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
        own = self._later(self.node.store.newest(self.spec.id))
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
        self._gate.clear()
        self._joined.clear()
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
        if self.status in ("stopped", "failed"):
            raise StartFailed("it had ended before", self.spec.id)
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
        """Increment the counter; a durable call is answered when its copies are stored.

        One whose name ends with ``*`` has that for its request id.
        """
        if self.status in ("starting", "restarting"):
            waits = Promise()
            self._waiting.append(waits)
            await waits
        if self.status != "running":
            raise StaleEpoch(self.spec.id, self.epoch)
        answer = Promise()
        self._in_flight[answer] = None
        self.node.process.spawn(self._work(call, answer, durable=durable))
        value, holders = await answer
        return Written(self.spec.id, self.epoch, value, holders)

    async def _work(self, call: str, answer: Promise, *, durable: bool) -> None:
        host = self.host
        has_id = call.endswith("*")
        if has_id and host is not None:
            match self._memory.ask(call, b"", host.time()):
                case Kept(body=body):
                    self._reply(answer, int(body), durable=durable)
                    return
                case "running":
                    self._joined.setdefault(call, []).append((answer, durable))
                    return
        await self.node.process.sleep(0.002)
        if host is None or host is not self.host or not host.alive:
            return  # its end answers
        self.value += 1
        self.node.cluster.checks.executed(call)
        if has_id:
            self.node.cluster.checks.applied(self, call)
            self.applied |= {call}
            self._memory.answered(call, 0, str(self.value).encode(), host.time())
        for waiting, waits_longer in [(answer, durable), *self._joined.pop(call, [])]:
            self._reply(waiting, self.value, durable=waits_longer)

    def _reply(self, answer: Promise, value: int, *, durable: bool) -> None:
        if not durable:
            self._answered(answer, partial(answer.resolve, (value, ())))
            return
        self._gate.hold((answer, value))
        if self._commit.answered():
            self.node.process.call_later(0.0, self._take, self.host)

    def _answered(self, answer: Promise, tell: Callable[[], None]) -> None:
        self._in_flight.pop(answer, None)
        tell()
        if not self._in_flight:
            self._idle.resolve()

    # -- Checkpoints --

    async def checkpoint(self) -> tuple[str, ...]:
        """Store the state on the node and its peers; return the names of those that have it."""
        if self.host is None or not self.host.alive:
            raise CheckpointFailed(self.spec.id, f"the sandbox is {self.status}")
        mark = self._gate.mark()
        try:
            version = self._keep()
        except CheckpointFailed as error:
            self._hand_over(mark, error.reason)
            raise
        nodes, trouble = await self._store(version)
        self._hand_over(mark, trouble)
        return tuple(nodes)

    def _keep(self) -> CheckpointVersion:
        self._seq += 1
        kept = self._memory.snapshot(self.node.process.time())
        payload = pickle.dumps((self.value, self.applied, kept))
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
        self.node.process.spawn(self._store(version))

    async def _store(self, version: CheckpointVersion | None = None) -> tuple[list[str], str | None]:
        """Copy a version, one after the other; None: the newest, for the answers that wait for it."""
        while self._copying is not None and not self._copying.done:
            with suppress(OSError):
                await self._copying
        newest = version or self._newest
        assert newest is not None
        self._copying = self.node.process.spawn(self._copy(newest, told_now=version is not None))
        stored: tuple[list[str], str | None] = await self._copying
        return stored

    async def _copy(self, version: CheckpointVersion, *, told_now: bool) -> tuple[list[str], str | None]:
        """Do as `sandbox.keeper` does: return who has it now, and why it does not count as stored."""
        if self._on_trial:
            return [], "this instance is not the owner yet"
        if not told_now and version.seq <= self._durable:
            return [], None
        addresses = dict(self.peers)
        peers = list(addresses)
        copies = await self.node.replicate(
            version, self.peers, self.spec.checkpoint.keep, answers_wait=not told_now
        )
        nodes = [self.node.name, *copies.nodes]
        trouble = why_not_durable(peers, copies)
        if version.seq < self._stored:
            return nodes, trouble
        self._stored = version.seq
        asked = [self.node.name, *peers]
        comes_first = self._holders.must_tell(version.seq, asked, nodes)
        if told_now or comes_first:
            self._report("checkpoint_stored", seq=version.seq, size=version.size, nodes=tuple(nodes))
        if trouble is None and comes_first:
            if not await self.node.settled(TELL_TIMEOUT):
                return nodes, "the control plane does not answer"
            self._holders.told(version.seq)
        if trouble is None:
            self._durable = version.seq
            self._claims = (self.node.address, *(addresses[name] for name in copies.nodes))
        return nodes, trouble

    # -- Answers that wait for checkpoints --

    def _take(self, host: Process | None) -> None:
        """Take the checkpoint that answers wait for."""
        if host is None or host is not self.host or not host.alive:
            return
        self._commit.taken()
        mark = self._gate.mark()
        self._let_go()
        try:
            self._keep()
        except CheckpointFailed as error:
            self._hand_over(mark, error.reason)
            self._go_on()
        else:
            self.node.process.spawn(self._secure(mark))

    async def _secure(self, mark: int) -> None:
        _, trouble = await self._store()
        self._hand_over(mark, trouble)
        self._go_on()

    def _go_on(self) -> None:
        if self._commit.ended():
            self._take(self.host)

    def _hand_over(self, mark: int, trouble: str | None) -> None:
        if trouble is None:
            self._gate.stored(mark)
            self._let_go()
            return
        for answer, _ in self._gate.lost(mark):
            self._answered(answer, partial(answer.fail, NotDurable(self.spec.id, trouble)))

    def _let_go(self) -> None:
        for answer, value in self._gate.due():
            self._answered(answer, partial(answer.resolve, (value, self._claims)))

    # -- Moves --

    async def quiesce(self) -> tuple[int, int]:
        """Take no more requests, finish those in flight, and checkpoint; return the checkpoint's number and size.

        A real one goes on when the node that it moves to has its copy: to wait for all of them is the longer way.
        """
        if self.status != "running":
            raise CheckpointFailed(self.spec.id, f"the sandbox is {self.status}")
        self.status, self._moving = "migrating", True
        self._refuse_waiting()
        try:
            if self._in_flight:
                self._idle = Promise()
                with suppress(TimeoutError):  # calls that take longer are told that their process died
                    await self.node.process.within(5.0, self._idle)
            self._gate.freeze()
            await self.checkpoint()
        except CheckpointFailed:
            await self.resume()
            raise
        assert self._newest is not None
        return self._newest.seq, self._newest.size

    async def resume(self) -> None:
        """Serve again after a move that was rolled back."""
        self._moving = False
        self._gate.thaw()
        self._let_go()
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
            await self._store(self._newest)
