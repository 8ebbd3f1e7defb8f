"""What clients may ask of the control plane; each public method of `Requests` below ``-- Verbs`` is one verb.

The module is long because there is a method for each of them.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import msgpack
from distributed.comm import Comm

from superlearner import config
from superlearner.cluster.channel import ServedChannel
from superlearner.cluster.commands import InstanceGone
from superlearner.cluster.faulty import plain_address
from superlearner.cluster.names import node_id
from superlearner.cluster.offer_book import OfferBook
from superlearner.cluster.offers import Offer
from superlearner.core import control as c
from superlearner.core.alerts import Alert
from superlearner.core.bottlenecks import Bottlenecks
from superlearner.core.checkpoints import CheckpointVersion
from superlearner.core.control_records import SandboxRecord
from superlearner.core.faults import SCHEDULER, FaultRecord
from superlearner.core.health import cluster_health, node_health
from superlearner.core.history import Event
from superlearner.core.quorum import has_quorum
from superlearner.core.rebalance import Suggestion, plan
from superlearner.core.scores import ClusterScore
from superlearner.core.snapshots import (
    ApplicationVersion,
    CheckpointInfo,
    Checkpoints,
    ClusterStatus,
    GroupInfo,
    Migration,
    NodeInfo,
    NodeStatus,
    NodeSurvey,
    PlacementRow,
    SandboxInfo,
)
from superlearner.core.spec import GroupSpec, SandboxSpec, validate_labels
from superlearner.errors import (
    InvalidSpec,
    NoConnection,
    NoGroup,
    NoSandbox,
    SandboxDown,
    SandboxFailed,
    SuperlearnerError,
    UnknownNode,
    Unsupported,
)
from superlearner.otp.application import Packed
from superlearner.sandbox import payload

if TYPE_CHECKING:
    from superlearner.cluster.pump import Pump

#: Where a sandbox can be called: (node, address, epoch, OS process, status), and the addresses of the nodes that may
#: take it over.
Found = tuple[str, str, int, int | None, str, tuple[str, ...]]


class Requests:
    """The client-facing side of a control plane."""

    def __init__(self, plane: Pump) -> None:
        self._plane = plane
        #: Who is told of events, each with the kinds that it wants; None: all, and the metrics.
        self._subscribers: dict[ServedChannel, frozenset[str] | None] = {}
        self._offers = OfferBook()

    async def serve(self, comm: Comm) -> None:
        """Serve one client until it goes away."""
        channel = ServedChannel(comm)

        def handle(message: tuple[Any, ...]) -> None:
            verb, id, *body = message
            if verb == "subscribe":
                kinds = body[0] if body else None
                self._subscribers[channel] = None if kinds is None else frozenset(kinds)
                channel.answer(id, 0, payload.dumps(None))
            elif verb == "offer":
                channel.spawn(self._answer(channel, id, self._offer(channel, **payload.loads(body[0]))))
            elif verb == "carried_out":
                self._offers.carried_out(channel, *body)
            elif verb in VERBS:
                kwargs = payload.loads(body[0])
                channel.spawn(self._answer(channel, id, getattr(self, verb)(**kwargs)))
            else:
                channel.answer(
                    id, 2, ["unsupported", True, f"This cluster's superlearner knows no {verb!r}."]
                )

        try:
            await channel.serve(handle)
        finally:
            self._subscribers.pop(channel, None)
            for offer in self._offers.gone(channel):
                self._tell_of(offer, "operation_removed", reason="its process has ended")

    async def _answer(self, channel: ServedChannel, id: int, work: Coroutine[Any, Any, Any]) -> None:
        try:
            answer = 0, payload.dumps(await work, "the answer")
        except SuperlearnerError as error:
            if isinstance(error, NoSandbox):
                error = NoSandbox(error.target, self._plane.state.sandboxes)
            answer = 1, payload.dumps(error, "the error")  # the sentence says it all: no traceback
        except Exception as error:
            answer = 1, payload.dumps_error(error)
        channel.answer(id, *answer)

    def push(self, kind: str, message: Any) -> None:
        """Send something to every subscribed client that wants it."""
        for channel, kinds in self._subscribers.items():
            if kinds is None or (kind == "event" and message["kind"] in kinds):
                channel.push((kind, message))

    # -- Verbs -------------------------------------------------------------------------------------

    async def hello(self) -> dict[str, Any]:
        """Say who answers."""
        return {"version": version("superlearner"), "address": self._plane.address}

    async def lookup(
        self, sandbox: str, stale: tuple[str, int] | None = None, patience: float | None = None
    ) -> Found:
        """Return where a sandbox can be called now, waiting while it is on its way.

        `stale` is the (address, epoch) that the client has found useless: it is not given again until the
        control plane has seen a change, or has had a moment to notice one. For a quorum it waits for
        `patience` seconds at most, then raises `NoQuorum`.
        """
        try:
            async with asyncio.timeout(patience):
                return await self._lookup(sandbox, stale)
        except TimeoutError:
            if (refusal := self._plane.state.no_quorum) is not None:
                raise refusal from None
        return await self._lookup(sandbox, stale)

    async def _lookup(self, sandbox: str, stale: tuple[str, int] | None) -> Found:
        until = None if stale is None else asyncio.get_running_loop().time() + 0.25
        while True:
            record = self._plane.state.sandboxes.get(sandbox)
            if record is None:
                raise NoSandbox(sandbox)
            if record.status == "failed":
                raise SandboxFailed(sandbox, record.reason)
            if record.status == "stopped":
                raise SandboxFailed(sandbox, f"stopped ({record.reason})")
            fresh = stale is None or (record.address, record.epoch) != stale
            remaining = None if until is None else until - asyncio.get_running_loop().time()
            if record.status in {"running", "suspended"} and (
                fresh or (remaining is not None and remaining <= 0)
            ):
                heirs = tuple(address for _, address in self._plane.state.heirs(sandbox))
                return str(record.node), str(record.address), record.epoch, record.pid, record.status, heirs
            waits = record.status in {"running", "suspended"}
            try:
                async with asyncio.timeout(max(0.0, remaining) if waits and remaining is not None else None):
                    await self._plane.changed_from(record)
            except TimeoutError:
                continue

    async def _owner(self, sandbox: str) -> Found:
        """Return where a sandbox runs; who asks has no timeout, and does not wait for a quorum for ever."""
        return await self.lookup(sandbox, patience=config.get("call-timeout"))

    async def create(self, spec: SandboxSpec, checkpoint: CheckpointVersion | None = None) -> SandboxInfo:
        """Create a sandbox, from a checkpoint where one is given; answered when it runs."""
        return self._info(await self._ask("create", c.CreateRequested, spec, checkpoint))

    async def destroy(self, sandbox: str) -> None:
        """Destroy a sandbox; answered when nothing of it is left."""
        await self._ask("destroy", c.DestroyRequested, sandbox)

    async def restart(self, sandbox: str) -> SandboxInfo:
        """Restart a sandbox; answered when it runs again."""
        return self._info(await self._ask("restart", c.RestartRequested, sandbox))

    async def move(self, sandbox: str, node: str) -> Migration:
        """Move a sandbox; answered when it serves on the new node."""
        moved: Migration = await self._ask("move", c.MoveRequested, sandbox, node)
        return moved

    async def checkpoint(self, sandbox: str) -> dict[str, Any]:
        """Take a checkpoint; answered when it is stored and the registry knows it."""
        _, address, epoch, *_ = await self._owner(sandbox)
        stored: dict[str, Any] = await self._on_instance(address, sandbox, epoch, "checkpoint")
        await self._until_stored(sandbox, epoch, stored)
        return stored

    async def checkpoints(self, sandbox: str, timeout: float) -> Checkpoints:
        """Return the checkpoints that the nodes hold of a sandbox."""
        await self.sandbox(sandbox)
        answers, failed = await self._ask_all("held", sandbox, timeout=timeout)
        found: dict[tuple[int, int], CheckpointInfo] = {}
        for node, held in answers.items():
            for epoch, seq, size, at in held:
                known = found.get((epoch, seq), CheckpointInfo(epoch, seq, size, at))
                found[epoch, seq] = replace(known, nodes=(*known.nodes, node))
        return Checkpoints(tuple(found[version] for version in sorted(found, reverse=True)), failed)

    async def restore(self, sandbox: str, epoch: int, seq: int) -> dict[str, Any]:
        """Start a sandbox again from one of its checkpoints; answered when that is the newest, as a new one."""
        _, address, current, *_ = await self._owner(sandbox)
        stored: dict[str, Any] = await self._on_instance(address, sandbox, current, "restore", epoch, seq)
        await self._until_stored(sandbox, current, stored)
        return stored

    async def versions(self, sandbox: str) -> list[ApplicationVersion]:
        """Return the versions of a sandbox's application, oldest first."""
        await self.sandbox(sandbox)
        return self._plane.versions.of(self._plane.state.sandboxes[sandbox])

    async def roll_back(self, sandbox: str, version: int | None, timeout: float) -> list[Any]:
        """Give a sandbox an earlier version of its application; return the status and payload that its host gave."""
        await self.sandbox(sandbox)
        application = self._plane.versions.find(self._plane.state.sandboxes[sandbox], version)
        # Packed: the code is run where it belongs, and never here.
        body = payload.dumps(((Packed(application),), {}), "the application")
        return await self.reload(sandbox, body, application, timeout)

    async def reload(self, sandbox: str, body: bytes, application: bytes, timeout: float) -> list[Any]:
        """Give a sandbox a new version of its application; return the status and payload that its host gave."""
        _, address, epoch, *_ = await self._owner(sandbox)
        answer: list[Any] = await self._on_instance(
            address, sandbox, epoch, "reload", body, application, timeout
        )
        if answer[0] == 0:
            await self._until(sandbox, epoch, lambda record: record.spec.application == application)
        return answer

    async def sandboxes(self, node: str | None = None, status: str | None = None) -> list[SandboxInfo]:
        """List the sandboxes, by id."""
        records = self._plane.state.sandboxes
        ids = records if node is None else self._plane.state.carried(node)
        found = (records[id] for id in sorted(ids))
        return [self._info(record) for record in found if status is None or record.status == status]

    async def sandbox(self, sandbox: str) -> SandboxInfo:
        """Tell about one sandbox."""
        record = self._plane.state.sandboxes.get(sandbox)
        if record is None:
            raise NoSandbox(sandbox)
        return self._info(record)

    async def create_group(self, spec: GroupSpec) -> GroupInfo:
        """Make a group of sandboxes."""
        made: GroupInfo = await self._ask("create-group", c.GroupCreateRequested, spec)
        return made

    async def restart_group(self, group: str) -> GroupInfo:
        """Restart all members of a group; answered when all of them run."""
        restarted: GroupInfo = await self._ask("restart-group", c.GroupRestartRequested, group)
        return restarted

    async def destroy_group(self, group: str) -> None:
        """Destroy a group with its members; answered when nothing of them is left."""
        await self._ask("destroy-group", c.GroupDestroyRequested, group)

    async def groups(self) -> list[GroupInfo]:
        """List the groups, by id."""
        return [group for _, group in sorted(self._plane.state.groups.items())]

    async def group(self, group: str) -> GroupInfo:
        """Tell about one group."""
        found = self._plane.state.groups.get(group)
        if found is None:
            raise NoGroup(group)
        return found

    async def nodes(self) -> list[NodeInfo]:
        """List the nodes by name, also those that are down."""
        return [self._node(name) for name in sorted(self._plane.known)]

    async def status(self) -> ClusterStatus:
        """Tell how the cluster is."""
        nodes = await self.nodes()
        reachable, known = self._plane.state.reach
        quorum = has_quorum(reachable, known)
        failed = sum(record.status in {"failed", "lost"} for record in self._plane.state.sandboxes.values())
        return ClusterStatus(
            nodes=tuple(node.name for node in nodes),
            total_nodes=len(nodes),
            healthy_nodes=sum(node.health == "healthy" for node in nodes),
            cluster_health=cluster_health([node.health for node in nodes], failed) if quorum else "critical",
            quorum=quorum,
            control_plane="running",
            sandboxes=len(self._plane.state.sandboxes),
            address=plain_address(self._plane.address),
            reachable_nodes=reachable,
            partition=self._plane.state.policy.partition,
            lease=self._plane.state.policy.lease,
        )

    async def explain(self, spec: SandboxSpec) -> list[PlacementRow]:
        """Return the table by which a sandbox like this one would be placed now."""
        return list(self._plane.state.explain(spec).rows)

    async def events(self, since: int = 0, **only: Any) -> list[Event]:
        """Return the kept events after `since`; `only` is what `EventLog.since` takes."""
        return self._plane.log.since(since, **only)

    async def note(self, event: Event) -> None:
        """Record what an operation has done; clients tell of nothing else."""
        if event.kind != "operation_called":
            raise InvalidSpec(f"A client cannot tell of {event.kind!r}, but of its own operations alone.")
        try:
            msgpack.packb(event.as_dict())
        except (ValueError, TypeError, OverflowError) as error:
            # It would break every channel that it is pushed to.
            raise InvalidSpec(f"The event cannot be told: {error}.") from None
        self._plane.record(replace(event, at=self._plane.now()))

    async def offers(self, known: str | None = None) -> tuple[str, list[Offer]] | None:
        """Return the mark of what clients offer, with their offers by name; None where `known` is that mark."""
        return self._offers.listed(known)

    async def withdraw_offer(self, by: str, name: str) -> None:
        """Forget an offer of a client; one that is gone already, or is another's, is left as it is."""
        offer = self._offers.withdraw(by, name)
        if offer is not None:
            self._tell_of(offer, "operation_removed", reason="it was withdrawn")

    async def ask_offer(self, name: str, mark: str, body: bytes) -> bytes:
        """Have the client that offers something carry it out; answered with what it answers."""
        return await self._offers.ask(name, mark, body)

    async def story(self, sandbox: str) -> list[Event]:
        """Return what happened to a sandbox, with what led to it elsewhere, such as the loss of its node."""
        events = self._plane.log.since()
        causes = {event.cause for event in events if event.sandbox == sandbox and event.cause}
        told = [e for e in events if e.sandbox == sandbox or (e.sandbox is None and e.cause in causes)]
        # A node's own reports may overtake each other on their way here; the sort keeps ties in order.
        return sorted(told, key=lambda event: event.at)

    async def survey(self, timeout: float) -> dict[str, NodeSurvey]:
        """Ask every known node what runs there; answered within `timeout` seconds."""
        answers, failed = await self._ask_all("running", timeout=timeout)
        found = {node: NodeSurvey(sandboxes) for node, sandboxes in answers.items()}
        return found | {node: NodeSurvey(failure=reason) for node, reason in failed.items()}

    async def metrics(self) -> dict[str, list[dict[str, Any]]]:
        """Return the newest samples of each node, oldest first."""
        return {node: list(samples) for node, samples in self._plane.samples.items()}

    async def alerts(self) -> list[Alert]:
        """Return the alerts that are pending or firing, then those that are resolved."""
        return [*self._plane.alarms.book.active, *self._plane.alarms.book.over]

    async def acknowledge(self, alert: str, by: str, note: str | None = None) -> Alert:
        """Note that somebody knows of an alert."""
        return self._plane.alarms.acknowledge(alert, by, note)

    async def health(self) -> ClusterScore:
        """Score the cluster."""
        return self._plane.alarms.score(quorum=has_quorum(*self._plane.state.reach))

    async def bottlenecks(self) -> Bottlenecks:
        """Return which resources hold others up."""
        return self._plane.alarms.bottlenecks()

    async def inventory(self) -> dict[str, dict[str, list[str]]]:
        """Return what the control plane and each living node hold of sandboxes.

        When all have been destroyed, each list is empty; it is how to see that nothing was left behind.
        """
        nodes = self._plane.state.nodes
        answers = await asyncio.gather(
            *(self._plane.nodes.ask(n.address, "inventory") for n in nodes.values())
        )
        return {SCHEDULER: self._plane.inventory(), **dict(zip(nodes, answers, strict=True))}

    async def add_node(self, node: str, labels: Mapping[str, str] | None = None) -> NodeInfo:
        """Start a node; answered when it has joined."""
        node_id(node)
        labels = validate_labels(labels or {}, "labels")
        if node in self._plane.known:
            raise InvalidSpec(f"There is a node {node!r} already; nothing was added. Choose another name.")
        await self._launcher().add(node, labels)
        await self._plane.wait_for_nodes([node])
        return self._node(node)

    async def remove_node(self, node: str) -> None:
        """Stop a node for good; its sandboxes go on elsewhere."""
        launcher = self._launcher()
        self._address(node)
        await launcher.remove(node)
        while self._plane.known[node]["up"]:
            await self._plane.changed()
        self._plane.forget(node)

    async def drain(self, node: str) -> list[str]:
        """Move everything off a node, then retire its worker; answered when it is gone."""
        moved = await self._ask("drain", c.DrainRequested, node)
        address = self._address(node)
        await self._plane.retire(node, address)
        while self._plane.known.get(node, {}).get("up"):
            await self._plane.changed()
        self._plane.forget(node)
        return list(moved)

    async def rebalance(self, *, dry_run: bool) -> list[Suggestion]:
        """Return which sandboxes would move, or have moved; a move that fails ends it, and is raised."""
        state = self._plane.state
        suggested = plan(state.sandboxes.values(), [node.load for node in state.nodes.values()])
        if not dry_run:
            for suggestion in suggested:
                await self.move(suggestion.sandbox, suggestion.target)
        return suggested

    async def signal_sandbox(self, sandbox: str, number: int) -> int | None:
        """Send a signal to a sandbox's OS process; one that kills is answered when its instance has noticed."""
        record = self._plane.state.sandboxes.get(sandbox)
        if record is None:
            raise NoSandbox(sandbox)
        if record.address is None or record.pid is None:
            raise SandboxDown(sandbox, record.status)
        self._note_fault(number, sandbox=sandbox, node=record.node, pid=record.pid)
        await self._plane.faults.signal_sandbox(record.address, sandbox, record.epoch, number)
        return record.pid

    async def signal_node(self, node: str, number: int) -> int:
        """Send a signal to a node's worker process; one that kills is answered when the loss is noticed."""
        self._address(node)
        pid: int = self._plane.known[node]["pid"]
        self._note_fault(number, node=node, pid=pid)
        await self._plane.faults.signal_node(node, number)
        while (
            number == signal.SIGKILL
            and not self._plane.faults.rules.hides(node)
            and self._plane.known[node]["up"]
            and self._plane.known[node]["pid"] == pid
        ):
            await self._plane.changed()
        return pid

    async def signal_scheduler(self, number: int) -> int:
        """Send a signal to the scheduler's own process, if somebody starts it again."""
        if self._plane.launcher is None:
            raise Unsupported(
                "This cluster's scheduler was started by somebody else, and nobody here would start it again; "
                "nothing was done. Kill the scheduler of a cluster made by superlearner.Cluster()."
            )
        pid = os.getpid()
        self._note_fault(number, node=None, pid=pid)
        os.kill(pid, number)
        return pid

    async def inject(self, kind: str, detail: dict[str, Any]) -> FaultRecord:
        """Make a fault; answered when it acts."""
        return await self._plane.faults.inject(kind, detail)

    async def revert(self, id: str) -> bool:
        """End one fault; answered when it does not act any more."""
        return await self._plane.faults.revert(id)

    async def heal(self) -> list[str]:
        """End every fault."""
        return await self._plane.faults.heal()

    async def faults(self) -> list[FaultRecord]:
        """Return the faults that act now, oldest first."""
        return self._plane.faults.active()

    # -- Helpers -----------------------------------------------------------------------------------

    async def _offer(self, channel: ServedChannel, by: str, offer: Offer, *, replace: bool) -> None:
        """Take the offer of a client, for as long as its channel is open."""
        self._offers.add(channel, by, offer, replace=replace)
        self._tell_of(offer, "operation_registered")

    def _tell_of(self, offer: Offer, kind: str, reason: str | None = None) -> None:
        detail = {"route": offer.place}
        self._plane.record(Event(kind, at=self._plane.now(), name=offer.name, reason=reason, detail=detail))

    async def _ask(self, what: str, event: type[c.ControlEvent], *fields: Any) -> Any:
        """Give a request to the machine under a fresh cause and wait for its outcome."""
        return await self._plane.ask(event(*fields, cause=self._plane.new_cause(what), at=self._plane.now()))

    async def _on_instance(self, address: str, sandbox: str, epoch: int, method: str, *args: Any) -> Any:
        """Run a method of an instance; its node may be lost meanwhile."""
        try:
            return await self._plane.on_instance(address, sandbox, epoch, method, *args)
        except (OSError, InstanceGone) as error:
            raise NoConnection(sandbox, "its instance is gone") from error

    async def _until_stored(self, sandbox: str, epoch: int, stored: dict[str, Any]) -> None:
        """Wait until the registry knows a checkpoint."""
        version = (stored["epoch"], stored["seq"])

        def known(record: SandboxRecord) -> bool:
            newest = record.checkpoint
            return newest is not None and (newest.epoch, newest.seq) >= version

        await self._until(sandbox, epoch, known)

    async def _ask_all(
        self, command: str, *args: Any, timeout: float
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Ask every known node at once; return the answers, and why the others did not answer, by node."""

        async def ask(node: str) -> Any:
            try:
                async with asyncio.timeout(timeout):
                    return await self._plane.nodes.ask(self._address(node), command, *args)
            except UnknownNode:  # it is known, and down
                return NoConnection(node, "it is down")
            except TimeoutError:
                return NoConnection(node, f"it has not answered within {timeout:g} s")
            except OSError:
                return NoConnection(node, "its connection broke")

        names = sorted(self._plane.known)
        told = dict(zip(names, await asyncio.gather(*map(ask, names)), strict=True))
        failed = {node: str(e.reason) for node, e in told.items() if isinstance(e, NoConnection)}
        return {node: answer for node, answer in told.items() if node not in failed}, failed

    async def _until(self, sandbox: str, epoch: int, arrived: Callable[[SandboxRecord], bool]) -> None:
        """Wait until what an instance has reported is in the registry, or the instance is not the owner any more.

        Its reports come over another connection than its answers.
        """
        while (record := self._plane.state.sandboxes.get(sandbox)) and record.epoch == epoch:
            if arrived(record):
                return
            await self._plane.changed_from(record)

    def _note_fault(
        self, number: int, *, node: str | None, pid: int | None, sandbox: str | None = None
    ) -> None:
        """Record a fault before it acts."""
        detail = {"signal": signal.Signals(number).name, "pid": pid}
        cause = self._plane.new_cause("chaos")
        self._plane.record(
            Event(
                "fault_injected", at=self._plane.now(), sandbox=sandbox, node=node, cause=cause, detail=detail
            )
        )

    def _launcher(self) -> Any:
        if self._plane.launcher is None:
            raise Unsupported(
                "This cluster's nodes are started by somebody else (Dask's own commands, Kubernetes, a job queue): "
                "add and remove them there; superlearner notices by itself."
            )
        return self._plane.launcher

    def _address(self, node: str) -> str:
        """Return the address of a living node."""
        facts = self._plane.known.get(node)
        if facts is None or not facts["up"]:
            raise self._plane.not_up(node)
        return str(facts["address"])

    def _info(self, record: SandboxRecord) -> SandboxInfo:
        samples = self._plane.samples.get(record.node or "")
        sample = samples[-1]["sandboxes"].get(record.id, {}) if samples else {}
        return record.info(
            memory=sample.get("memory"),
            cpu=sample.get("cpu"),
            responsive=sample.get("responsive") if record.status == "running" else None,
            lease=None if record.node is None else self._plane.state.lease_of(record.node),
            move=self._plane.state.move_of(record.id),
        )

    def _node(self, name: str) -> NodeInfo:
        facts = self._plane.known[name]
        samples = self._plane.samples[name]
        sample = samples[-1] if samples and facts["up"] else {}
        seen = self._plane.last_seen(name)
        lease = self._plane.state.lease_of(name)
        suspected = lease is not None and lease.suspected
        verdict = node_health(
            reachable=facts["up"],
            suspected=suspected,
            processes=sample.get("processes"),
            memory=sample.get("memory"),
            thresholds=self._plane.alarms.thresholds,
        )
        return NodeInfo(
            name=name,
            address=facts["address"],
            pid=facts["pid"],
            status=self._node_status(name),
            health=verdict.health,
            cpu=sample.get("cpu"),
            memory=sample.get("memory"),
            network=sample.get("network"),
            uptime=self._plane.now() - facts["joined_at"] if facts["up"] else 0.0,
            sandboxes=tuple(sorted(self._plane.state.carried(name))),
            last_seen=seen or (samples[-1]["at"] if samples else facts["joined_at"]),
            memory_limit=facts["memory"],
            labels=facts["labels"],
            lease=lease,
            reason=None if facts["up"] else self._why_down(name),
        )

    def _why_down(self, node: str) -> Any:
        """Return the reason with which a node was last lost."""
        lost = self._plane.log.since(kind="node_lost")
        return next((event.reason for event in reversed(lost) if event.node == node), None)

    def _node_status(self, name: str) -> NodeStatus:
        node = self._plane.state.nodes.get(name)
        if node is None:
            return "down"
        if node.load.draining:
            return "draining"
        return "suspected" if node.suspected else "up"


#: What a client may ask by name.
VERBS = frozenset(
    name for name in vars(Requests) if not name.startswith("_") and name not in {"serve", "push"}
)
