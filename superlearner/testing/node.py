"""A simulated node: one life of a worker with its agent, lease, checkpoint store and instances.

The lease is the real one, `cluster.lease.Lease`, on the clock of its machine; so is the checkpoint store.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from superlearner.cluster.lease import Lease
from superlearner.core.checkpoints import CheckpointVersion
from superlearner.core.control import Addresses, StartInstance
from superlearner.core.durability import Copies, patience
from superlearner.errors import StaleEpoch, StartFailed, SuperlearnerError
from superlearner.testing.channels import Pool
from superlearner.testing.engine import EXPECTED, Clock, Process, Promise, Task
from superlearner.testing.instance import Fenced, SimulatedInstance, Written
from superlearner.testing.network import End

if TYPE_CHECKING:
    from superlearner.testing.cluster import SimulatedCluster

#: Seconds that a peer may take to store or give a checkpoint, as on a real node.
PEER_TIMEOUT = 5.0


class SimulatedNode:
    """One life of a node's worker process.

    Parameters
    ----------
    cluster
        Where it belongs.
    name, life
        Which node, and how often its worker was started; the two make its address.
    clock
        Its machine's clock.
    """

    def __init__(self, cluster: SimulatedCluster, name: str, life: int, clock: Clock) -> None:
        self.cluster, self.name, self.clock = cluster, name, clock
        self.address = f"{name}:{life}"
        self.process = Process(cluster.engine, name, clock)
        self.instances: dict[tuple[str, int], SimulatedInstance] = {}
        self.store = cluster.parts.store()
        self.incarnation = 1
        #: Seconds more that starting a host or storing a checkpoint takes.
        self.slow = 0.0
        self._rng = random.Random(f"{cluster.schedule.seed} {self.address}")
        self._starts: dict[Task, None] = {}
        self._settling: dict[int, Promise] = {}
        self._settles = 0
        self._peers = Pool(cluster.network, self.process, "peer")
        self._stream: End | None = None
        self.lease = Lease(
            cluster.parts.lease(cluster.schedule.lease),
            self._ask_for_lease,
            self._pass_lease_on,
            self._lease_ran_out,
            self.process,
        )
        cluster.network.listen(self.address, self.process, self._accept)
        self.process.on_death.append(self._end_hosts)
        self.process.spawn(self._set_up())

    async def _set_up(self) -> None:
        await self.process.sleep(0.2)
        while self._stream is None:
            try:
                stream: End = await self.cluster.network.connect(self.process, "scheduler:1", "stream")
            except OSError:
                continue  # a worker goes on trying to reach its scheduler
            stream.on_message = self._on_order
            stream.on_close = self._on_scheduler_gone
            self._stream = stream
        self._join()

    def _join(self) -> None:
        self.lease.begin()
        self.report("node_ready", node=self.name, address=self.address, incarnation=self.incarnation)

    def report(self, kind: str, **fields: Any) -> None:
        """Send a report to the control plane; reports of one node arrive in order, and perhaps twice."""
        if self._stream is not None:
            self._stream.send((kind, fields), twice=True)

    def _on_scheduler_gone(self) -> None:
        """A Dask worker that has lost its scheduler closes; its nanny starts the next one."""
        self.process.spawn(self._tear_down())

    async def _tear_down(self) -> None:
        self.lease.end()
        for instance in list(self.instances.values()):
            await instance.stop()
        self.cluster.ended(self, restart_after=0.5)

    def _end_hosts(self) -> None:
        for instance in self.instances.values():
            if instance.host is not None:
                instance.host.die()
                self.cluster.host_down(instance)

    # -- The lease --

    def _ask_for_lease(self, number: int) -> None:
        self.report(
            "node_heard", node=self.name, address=self.address, incarnation=self.incarnation, number=number
        )

    def _pass_lease_on(self) -> None:
        for instance in self.instances.values():
            instance.renew()

    def _lease_ran_out(self) -> None:
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Stop everything at once, then join as if the node had just been started."""
        self.incarnation += 1
        self.lease.end()
        self.lease.until = 0.0
        self.process.spawn(self._fence_all(self.incarnation))

    async def _fence_all(self, incarnation: int) -> None:
        for start in list(self._starts):
            start.cancel()
        for instance in list(self.instances.values()):
            instance.fence()
        await self.process.sleep(0.02)
        if self.incarnation == incarnation:
            self._join()

    # -- Orders --

    def _on_order(self, order: tuple[Any, ...]) -> None:
        """Take what comes over the worker's stream: starts, and the answers about the lease."""
        match order:
            case ("start", StartInstance() as start):
                # Dask makes the actor in a thread: it begins a moment later than it came.
                self.process.call_later(self._rng.uniform(0.001, 0.02), self._begin, start)
            case ("granted", int(number)):
                self.lease.granted(number)
            case ("rejoin", int(incarnation)):
                if incarnation == self.incarnation:
                    self._begin_anew()
            case ("settled", int(number)):
                if (taken := self._settling.pop(number, None)) is not None:
                    taken.resolve()
            case ("gone", str(address)):
                self._peers.abandon(address)

    def _begin(self, order: StartInstance) -> None:
        if order.incarnation != self.incarnation:
            return  # it was meant for a life that is over
        task = self.process.spawn(self._start(order))
        if not task.done:
            self._starts[task] = None
            task.then(lambda: self._starts.pop(task, None))

    async def _start(self, order: StartInstance) -> None:
        who = {"sandbox": order.spec.id, "node": self.name, "epoch": order.epoch, "cause": order.cause}
        instance = SimulatedInstance(self, order)
        self.instances[instance.key] = instance
        try:
            restored = await instance.start()
        except StartFailed as error:
            self.forget(instance)
            self.report("instance_start_failed", **who, reason=error.reason)
        else:
            self.report("instance_started", **who, restored=restored)

    def forget(self, instance: SimulatedInstance) -> None:
        """Let an instance's place go."""
        self.instances.pop(instance.key, None)

    def start_time(self) -> float:
        """Return how many seconds the next host takes to start."""
        return self._rng.uniform(0.02, 0.1) + self.slow

    # -- Checkpoints --

    def put(self, version: CheckpointVersion, keep: int) -> None:
        """Store a version here."""
        self.store.put(version, keep)
        self.cluster.checks.stored(self, version)

    async def settled(self, patience: float) -> bool:
        """Wait until the control plane has taken all reports so far; return False if it has not within `patience`."""
        self._settles += 1
        taken = self._settling[self._settles] = Promise()
        self.report("settle", number=self._settles)
        try:
            await self.process.within(patience, taken)
        except TimeoutError:
            return False
        return True

    async def replicate(
        self, version: CheckpointVersion, peers: Addresses, keep: int, *, answers_wait: bool
    ) -> Copies:
        """Store a version on the peers, all at once; return what came of it."""
        if not self.lease.holds:
            return Copies(stale=True)
        asked = [
            (node, self.process.spawn(self._ask_peer(address, "store", version, keep)))
            for node, address in peers
        ]
        until = self.process.time() + patience(version.size, needed=not answers_wait)
        for _, task in asked:
            answered = Promise()  # in its place: a task that is not awaited in time would be cancelled
            task.then(answered.resolve)
            with suppress(TimeoutError):
                await self.process.within(max(0.0, until - self.process.time()), answered)
        answers = [(node, await task) for node, task in asked if task.done]
        if not any(answer is True for _, answer in answers):
            answers = [(node, await task) for node, task in asked]
        stale = any(isinstance(answer, str) for _, answer in answers)
        return Copies(tuple(node for node, answer in answers if answer is True), stale=stale)

    async def fetch(self, sandbox: str, sources: Addresses) -> list[CheckpointVersion]:
        """Return the versions that this node and the sources hold, newest first, each once."""
        found = {version.version: version for version in self.store.newest(sandbox)}
        asked = [
            self.process.spawn(self._ask_peer(address, "fetch", sandbox))
            for _, address in sources
            if address != self.address
        ]
        for task in asked:
            for version in await task or ():
                found.setdefault(version.version, version)
        return [found[key] for key in sorted(found, reverse=True)]

    async def _ask_peer(self, address: str, *message: Any) -> Any:
        """Return a peer's answer, None when there is none in time."""
        try:
            asked = self.process.spawn(self._peers.ask(address, *message))
            return await self.process.within(PEER_TIMEOUT, asked)
        except OSError:
            return None

    # -- Requests --

    def _accept(self, kind: str, end: End) -> None:
        kinds: dict[str, Callable[..., Any]] = {
            "peer": self._peer,
            "commands": self._command,
            "calls": self._call,
        }
        serve = kinds[kind]

        def take(message: tuple[Any, ...]) -> None:
            number, *words = message
            self.process.spawn(self._answer(end, number, serve(*words), fenced=kind == "calls"))

        end.on_message = take

    async def _answer(self, end: End, number: int, work: Any, *, fenced: bool) -> None:
        try:
            answer = (number, True, await work)
        except EXPECTED as error:
            answer = (number, False, error)
        if fenced and not self.lease.holds and not isinstance(answer[2], StaleEpoch):
            # What was handled but not answered within the lease: the caller learns that it is not known.
            answer = (number, False, Fenced())
        if isinstance(answer[2], Written):
            self.cluster.checks.acknowledged(answer[2])
        end.send(answer)

    async def _peer(self, verb: str, *words: Any) -> Any:
        await self.process.sleep(0.001 + self.slow)
        if verb == "fetch":
            return self.store.newest(*words)
        if verb == "drop":
            self.store.drop(*words)
            self.cluster.checks.dropped(self, *words)
            return None
        try:
            self.put(*words)
        except SuperlearnerError as refusal:
            return str(refusal)
        return True

    async def _command(self, verb: str, *words: Any) -> Any:
        if verb == "drop":
            return await self._peer(verb, *words)
        sandbox, epoch, method, *more = words
        instance = self.instances.get((sandbox, epoch))
        if instance is None:
            raise LookupError(sandbox, epoch)
        return await getattr(instance, method)(*more)

    async def _call(self, sandbox: str, epoch: int, call: str, durable: bool) -> Any:
        instance = self.instances.get((sandbox, epoch))
        if instance is None or not self.lease.holds:
            raise StaleEpoch(sandbox, epoch)
        return await instance.call(call, durable=durable)
