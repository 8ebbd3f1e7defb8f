"""The node agent: superlearner's part on each Dask worker.

It owns the node's fork server and checkpoint store, takes requests over channels and hands them to the
instances on its node, and reports to the control plane in order, over the worker's own stream.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from distributed import Worker, get_worker
from distributed.comm import Comm
from distributed.diagnostics.plugin import WorkerPlugin

from superlearner import config
from superlearner.cluster.between import Between
from superlearner.cluster.channel import BETWEEN_OP, CHANNEL_OP, ServedChannel
from superlearner.cluster.commands import NODE_OP, Commands, Nodes
from superlearner.cluster.inbox import FENCED
from superlearner.cluster.lease import Lease
from superlearner.cluster.machine import this_machine
from superlearner.cluster.node import Node, refusals, why
from superlearner.cluster.state_dir import DurableCheckpoints
from superlearner.cluster.way import ClusterWay
from superlearner.core.checkpoints import CheckpointStore, CheckpointVersion
from superlearner.core.durability import Copies, patience
from superlearner.core.history import Event
from superlearner.core.placement import spare_hosts
from superlearner.core.spec import Checkpoint, validate_labels
from superlearner.errors import StaleEpoch
from superlearner.sandbox.forkserver import ForkServer
from superlearner.sandbox.instance import Instance, StartRequest

if TYPE_CHECKING:
    from superlearner.cluster.local_node import LocalNode

#: How long a peer may take to give a checkpoint, or the first node to store a sown one, before it counts as gone, in
#: seconds. How long the copies of an instance may take is told by `superlearner.core.durability.patience`.
PEER_TIMEOUT = 5.0
#: Bytes of a checkpoint up to which writing its file takes less time than having a thread do it.
SMALL = 256 * 1024
PLUGIN_NAME = "superlearner-node"
REPORT_OP = "superlearner_report"
START_OP = "superlearner_start"
LEASE_OP = "superlearner_lease"
GONE_OP = "superlearner_gone"
BACK_OP = "superlearner_back"
SETTLED_OP = "superlearner_settled"


def node_name(worker_name: object) -> str:
    """Turn a Dask worker's name into a node name: what ids may not hold becomes ``-``.

    >>> node_name("alpha"), node_name(0), node_name("tcp://10.0.0.7:40001")
    ('alpha', '0', 'tcp-10-0-0-7-40001')
    """
    return re.sub(r"[^A-Za-z0-9_]+", "-", str(worker_name)).strip("-")[:63]


class NodeAgent(Node, WorkerPlugin):
    """Implements `superlearner.sandbox.services.NodeServices` on a Dask worker."""

    name = PLUGIN_NAME
    idempotent = True

    def __init__(
        self,
        interval: float = 2.0,
        lease: float | None = None,
        *,
        fenced: bool = True,
        state: str | None = None,
    ) -> None:
        #: Seconds between two telemetry samples.
        self.interval = interval
        #: Seconds that the node may answer without being heard of. None: it is not asked for.
        self.lease_length = lease
        #: Whether it stops everything past its lease; else it goes on, and there may be two owners.
        self.fenced = fenced
        #: The state directory, where the nodes of this machine keep checkpoints as files.
        self.state = state

    async def setup(self, worker: Worker) -> None:
        """Start the fork server, take requests, and tell the control plane that the node is ready."""
        self.worker = worker
        self.node = node_name(worker.name)
        self.prepare()
        self.checkpoints = CheckpointStore()
        self._durable = None if self.state is None else DurableCheckpoints(self.state)
        # In the worker's own folder, which goes with the cluster's should all of this be killed at once.
        self.fork_server = ForkServer(worker.local_directory, self._spares)
        self._peers = Nodes(worker.connection_args)
        #: The addresses of nodes that were given up and have not joined again.
        self._lost: set[str] = set()
        #: The addresses of peers that have not confirmed a checkpoint in time, and not said anything since.
        self._silent: set[str] = set()
        self.lease = Lease(self.lease_length, self._ask_for_lease, self._pass_lease_on, self._lease_ran_out)
        try:
            #: What this node is, for the ``node_selector`` of sandboxes.
            self.labels = validate_labels(config.get("labels"), "superlearner.labels")
            await self.fork_server.start()
        except Exception as error:
            # Dask logs it and goes on without the plugin: the control plane must know.
            self.report("node_failed", node=self.node, reason=f"{type(error).__name__}: {error}")
            raise
        way = partial(ClusterWay, worker.address, worker.scheduler.address, worker.connection_args)
        self.between = Between(self.find, lambda: self.lease.holds, way)
        worker.handlers.update(
            {CHANNEL_OP: self._serve, NODE_OP: Commands(self).serve, BETWEEN_OP: self.between.serve}
        )
        worker.stream_handlers[START_OP] = self._on_start
        worker.stream_handlers[LEASE_OP] = self._on_lease
        worker.stream_handlers[GONE_OP] = self._on_gone
        worker.stream_handlers[BACK_OP] = self._on_back
        worker.stream_handlers[SETTLED_OP] = self._on_settled
        self._settling: dict[int, asyncio.Future[None]] = {}
        self._settles = 0
        self._join()
        self._telemetry = asyncio.create_task(
            self.sample((os.getpid(),), self.interval), name="superlearner-telemetry"
        )

    def _spares(self) -> int:
        running = {sandbox for sandbox, _ in self.instances}
        elsewhere = sum(sandbox not in running for sandbox in self.checkpoints.sandboxes())
        return spare_hosts(elsewhere, config.get("spares"))

    def _join(self) -> None:
        """Tell the control plane that the node can take sandboxes, and hold the lease from before that."""
        self.lease.begin()
        self.ready(self.worker.address, self.labels, this_machine())

    async def teardown(self, worker: Worker) -> None:
        """End every sandbox of this node and the fork server."""
        self.lease.end()
        self._telemetry.cancel()
        await asyncio.gather(self._telemetry, return_exceptions=True)
        await self.end_instances()
        await self.between.close()
        self.report("node_left", node=self.node, address=worker.address)
        await self.fork_server.close()
        await self._peers.close()

    def _on_start(self, orders: list[tuple[str, int, str, bytes]]) -> None:
        """Make the instances that the control plane orders."""
        for sandbox, epoch, cause, order in orders:
            try:
                SandboxActor(pickle.loads(order), self)
            except Exception as error:  # the control plane must know: nobody else waits for it
                who = {"sandbox": sandbox, "node": self.node, "epoch": epoch, "cause": cause}
                self.report("instance_start_failed", **who, reason=why(error))

    def begin(self, instance: SandboxActor, request: StartRequest) -> None:
        """Start an instance, and have the ways open by which its checkpoints will leave."""
        for _, address in request.peers:
            if address not in self._lost:
                self._peers.prepare(address)
        super().begin(instance, request)

    # -- The lease -----------------------------------------------------------------------------------

    @property
    def lease_until(self) -> float | None:
        """Until when the hosts of this node may run, on the monotonic clock; None: for ever."""
        return None if self.lease_length is None or not self.fenced else self.lease.until

    def _ask_for_lease(self, number: int) -> None:
        who = {"node": self.node, "address": self.worker.address, "incarnation": self.incarnation}
        self.report("node_heard", **who, number=number)

    def _on_lease(self, verb: str, number: int) -> None:
        """Take the control plane's answer: ``granted`` with a request's number, or ``rejoin`` with an incarnation."""
        if verb == "granted":
            self.lease.granted(number)
        elif number == self.incarnation:
            self._begin_anew("the control plane had given this node up")

    def _on_gone(self, address: str) -> None:
        """Wait for nothing from a node that was lost: a frozen one would keep a start waiting.

        Nor ask it anything: an order that was given before its loss may still name it.
        """
        self._lost.add(address)
        self._peers.abandon(address)

    def _on_back(self, address: str) -> None:
        """Ask a node again that was given up, and has joined anew at the same address."""
        self._lost.discard(address)

    async def _ask_peer(self, address: str, command: str, *args: Any) -> Any:
        """Ask another node; raise OSError or TimeoutError when it does not answer."""
        if address in self._lost:
            raise ConnectionError(f"the node at {address} is gone")
        async with asyncio.timeout(PEER_TIMEOUT):
            return await self._peers.ask(address, command, *args)

    def _pass_lease_on(self) -> None:
        if self.fenced:
            for instance in self.instances.values():
                instance.renew()

    def _lease_ran_out(self) -> None:
        if self.fenced:
            self._begin_anew("the lease ran out")
        else:
            self.lease.begin()  # it goes on asking: the control plane decides when it hears of it again

    def _begin_anew(self, why: str) -> None:
        """Stop everything at once, then join as if the node had just been started."""
        self.incarnation += 1
        self.lease.end()
        self.lease.until = 0.0
        self._spawn(self._fence_all(self.incarnation, why))

    async def _fence_all(self, incarnation: int, why: str) -> None:
        for start in self._starts:
            start.cancel()
        fenced = [instance.spec.id for instance in self.instances.values()]
        await asyncio.gather(*(instance.fence() for instance in list(self.instances.values())))
        if self.incarnation == incarnation:
            event = Event(
                "node_fenced", at=time.time(), node=self.node, reason=why, detail={"sandboxes": fenced}
            )
            self.report("events", events=[event.as_dict()])
            self._join()

    # -- NodeServices ----------------------------------------------------------------------------

    def report(self, kind: str, **fields: Any) -> None:
        """Send a report to the control plane; reports of one node arrive in order."""
        # As bytes: Dask would first estimate the size of everything that is in there.
        self.worker.batched_send({"op": REPORT_OP, "kind": kind, "fields": pickle.dumps(fields)})

    async def settled(self, patience: float) -> bool:
        """Wait until the control plane has taken all reports so far; return False if it has not within `patience`."""
        self._settles += 1
        number = self._settles
        taken = self._settling[number] = self._loop.create_future()
        self.report("settle", number=number)
        await asyncio.wait((taken,), timeout=patience)
        del self._settling[number]
        return taken.done()

    def _on_settled(self, number: int) -> None:
        taken = self._settling.get(number)
        if taken is not None and not taken.done():
            taken.set_result(None)

    async def replicate(
        self, version: CheckpointVersion, peers: Iterable[tuple[str, str]], *, answers_wait: bool = False
    ) -> Copies:
        """Store `version` on `peers` and in the state directory, all at once; return what came of it."""
        if not self.lease.holds:
            return Copies(trouble="the lease of its node has run out", stale=True)
        instance = self.instances.get((version.sandbox, version.epoch))
        keep = instance.spec.checkpoint.keep if instance else Checkpoint().keep
        body = pickle.dumps((version.plain(), keep), pickle.HIGHEST_PROTOCOL)
        reachable = [peer for peer in peers if peer[1] not in self._lost]
        talking = [peer for peer in reachable if peer[1] not in self._silent]
        if not talking and self._durable is None:
            talking = reachable  # they are all there is
        limit = patience(version.size, needed=True)
        asked = [
            (node, address, self._peers.begin(address, "store", body, limit=limit))
            for node, address in talking
        ]
        try:
            await asyncio.sleep(0)  # what was asked leaves: the peers are at work while the file is written
            copies = await self._keep(version, keep)
            if late := [answer for _, _, answer in asked if not answer.done()]:
                await asyncio.wait(late, timeout=patience(version.size, needed=not answers_wait))
            for node, address, answer in sorted(asked, key=lambda one: not one[2].done()):
                if not answer.done() and (copies.nodes or copies.in_directory):
                    self._do_not_wait_for(address)
                    continue
                try:
                    refused = self._peers.answer(await answer)
                except TimeoutError:
                    self._do_not_wait_for(address)
                    continue
                except OSError:
                    continue
                change = {"stale": True} if refused else {"nodes": (*copies.nodes, node)}
                copies = replace(copies, **change)
        finally:
            for _, _, answer in asked:
                answer.cancel()
        return copies

    def _do_not_wait_for(self, address: str) -> None:
        """Give a peer no checkpoints until it says something: it is frozen, or the link to it is cut."""
        if address not in self._silent:
            self._silent.add(address)
            self._spawn(self._listen_for(address))

    async def _listen_for(self, address: str) -> None:
        """Wait for a word of a silent peer, or for the end of the connection to it."""
        try:
            with suppress(OSError):  # whoever asks next connects again, or learns that it is gone
                await self._peers.ask(address, "running")
        finally:
            self._silent.discard(address)

    async def _keep(self, version: CheckpointVersion, keep: int) -> Copies:
        """Write a version to the state directory, where there is one."""
        if self._durable is None:
            return Copies()
        try:
            if version.size <= SMALL:
                self._durable.put(version, keep)
            else:
                await asyncio.to_thread(self._durable.put, version, keep)
        except StaleEpoch:
            # It was destroyed or replaced meanwhile, which the control plane knows.
            return Copies(in_directory=False, stale=True)
        except OSError as error:
            why = f"it could not be written to the state directory: {error}"
            event = Event(
                "checkpoint_failed",
                at=time.time(),
                node=self.node,
                sandbox=version.sandbox,
                epoch=version.epoch,
                reason=why,
            )
            self.report("events", events=[event.as_dict()])
            return Copies(in_directory=False, trouble=why)
        return Copies(in_directory=True)

    async def fetch(self, sandbox: str, sources: Iterable[tuple[str, str]]) -> list[CheckpointVersion]:
        """Return the versions that this node and `sources` hold, newest first, each once."""
        found = {version.version: version for version in self.checkpoints.newest(sandbox)}
        known = frozenset(found)

        async def ask(address: str) -> list[dict[str, Any]]:
            try:
                return list(await self._ask_peer(address, "fetch", sandbox, known))
            except (OSError, TimeoutError):
                return []

        addresses = [address for _, address in sources if address != self.worker.address]
        for answer in await asyncio.gather(*map(ask, addresses)):
            for plain in answer:
                version = CheckpointVersion(**plain)
                found.setdefault(version.version, version)
        if self._durable is not None:
            for version in await asyncio.to_thread(self._durable.others, sandbox, frozenset(found)):
                found.setdefault(version.version, version)
        return [found[key] for key in sorted(found, reverse=True)]

    def find(self, sandbox: str, epoch: int) -> SandboxActor | None:
        """Return an instance, while the node may answer."""
        return super().find(sandbox, epoch) if self.lease.holds else None

    # -- Requests of clients --------------------------------------------------------------------------

    async def _serve(self, comm: Comm) -> None:
        channel = ServedChannel(comm)

        def answer(reply: list[Any]) -> None:
            # What was handled but not answered within the lease: the caller learns that it is not known.
            if self.lease.holds:
                channel.answer(*reply)
            else:
                for id in reply[0] if type(reply[0]) is list else reply[:1]:
                    channel.answer(id, 2, FENCED)

        def handle(message: tuple[Any, ...]) -> None:
            if self.lease.holds:
                self.take(message, answer, channel.spawn)
            else:
                for refused in refusals(message):
                    channel.answer(*refused)

        await channel.serve(handle)


class SandboxActor(Instance):
    """One incarnation of a sandbox, as a Dask actor: `Instance` with this worker's node agent, or with another node.

    Making it begins its start; the node reports how that went.
    """

    def __init__(self, request: StartRequest, agent: NodeAgent | LocalNode) -> None:
        super().__init__(request, agent)
        self._agent = agent
        agent.begin(self, request)

    @property
    def pid(self) -> int | None:
        """The sandbox's OS process, while there is one."""
        return self._link.pid if self._link else None

    async def signal(self, number: int) -> None:
        """Send a signal to the host; after one that kills, wait until its end is noticed."""
        link = self._link
        if link is None or link.ended.done():
            return
        os.kill(link.pid, number)
        if number == signal.SIGKILL:
            await asyncio.wait([link.ended])

    async def start(self) -> dict[str, Any]:
        """Take the sandbox's place on this node, then start its host."""
        self._agent.instances[self.spec.id, self.epoch] = self
        try:
            return await super().start()
        except BaseException:
            self._leave()
            raise

    async def stop(self, reason: str = "shutdown") -> dict[str, Any]:
        """Stop the host; the node forgets the sandbox."""
        try:
            return await super().stop(reason)
        finally:
            self._leave()

    async def reload(self, body: bytes, application: bytes, timeout: float) -> list[Any]:
        """Run a new version of the application, now and in every later start; return status and payload.

        `body` is the request for the host and `application` what a later host starts with: this process
        reads neither. A host that does not answer within `timeout` seconds may still do it later.
        """
        answered: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.request(["command", 0, self.epoch, "reload", body, timeout], answered.set_result)
        reloading = self._spawn(self._reloaded(answered, application))
        await asyncio.wait((reloading,), timeout=timeout)
        if not answered.done():
            return [2, ["call_timeout", False, "the sandbox did not answer", "reload", timeout]]
        await reloading
        return answered.result()[1:]

    async def _reloaded(self, answered: asyncio.Future[list[Any]], application: bytes) -> None:
        _, status, _ = await answered
        if status == 0:
            self.spec = replace(self.spec, application=application)
            self._agent.report(
                "application_replaced", sandbox=self.spec.id, epoch=self.epoch, application=application
            )

    def _leave(self) -> None:
        self._agent.instances.pop((self.spec.id, self.epoch), None)
        self._agent.fork_server.stand_by()


async def find_instance(sandbox: str, epoch: int) -> SandboxActor | None:
    """Return an instance of this worker, as Dask asks for it; None when it has ended meanwhile.

    A coroutine runs on the worker's event loop, to which an instance belongs.
    """
    agent: NodeAgent = get_worker().plugins[PLUGIN_NAME]
    return agent.instances.get((sandbox, epoch))
