"""The pump: the control machine at work in some process, a scheduler's or a manager's own.

Reports and requests become events, ``handle`` passes each to the machine, and one ``match`` turns its
instructions into effects, whose outcome comes back as the next event. Nothing is decided here. The module is
long because it has one method for each effect.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Protocol

from superlearner import config
from superlearner.cluster.agent import (
    BACK_OP,
    GONE_OP,
    LEASE_OP,
    PEER_TIMEOUT,
    SETTLED_OP,
)
from superlearner.cluster.commands import InstanceGone, NodeDoor
from superlearner.cluster.faults import FaultControl
from superlearner.cluster.node import why
from superlearner.cluster.recorder import Recorder
from superlearner.cluster.reports import control_event, version
from superlearner.cluster.requests import Requests
from superlearner.cluster.state_dir import StateDirectory
from superlearner.core import control as c
from superlearner.core.checkpoints import CheckpointVersion
from superlearner.core.history import Event, EventLog
from superlearner.core.spec import SandboxSpec
from superlearner.errors import StartFailed, SuperlearnerError
from superlearner.sandbox.instance import StartRequest

logger = logging.getLogger(__name__)
#: Seconds until a node whose connection broke is asked again.
AGAIN = 0.2
#: Bytes per second that count as a full network when placement compares nodes: 1 Gbit/s.
FULL_NETWORK = 125_000_000


class NodeLauncher(Protocol):
    """Starts and stops nodes where the platform allows it: on this machine."""

    async def add(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Start a node with these labels."""

    async def remove(self, name: str) -> None:
        """Stop a node for good."""

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a node's worker process, if it lives."""


class Pump:
    """The machine at work in some process: it takes requests and reports, and carries out what is decided.

    How instances are made, and who else is told what happened, is up to those who inherit from it.
    """

    #: Commands to the nodes.
    nodes: NodeDoor
    #: What is broken on purpose.
    faults: FaultControl
    #: Where it can be asked.
    address: str
    launcher: NodeLauncher | None = None
    #: Whether a creation is refused that cannot be written to the directory: somebody has asked for one.
    must_keep = False

    def __init__(self, directory: StateDirectory | None = None) -> None:
        #: The file that keeps the events; None: they are kept in memory only.
        self._journal_path: str | None = None
        #: Whether what is in that file is this cluster's own history.
        self._takes_over = False
        #: Where sandboxes are kept beyond the end of this process.
        self._directory = directory

    def begin(self, policy: c.ControlPolicy) -> None:
        """Make what belongs to one run; in the loop that it is going to live on."""
        self._clock = time.time() - time.monotonic()
        self.state = c.ControlState(policy)
        #: The newest samples of each node, oldest first.
        self.samples: dict[str, deque[dict[str, Any]]] = {}
        #: What each node said of itself when it was last ready; lost nodes stay until they are removed.
        self.known: dict[str, dict[str, Any]] = {}
        #: The nodes that could not start, with the reason.
        self.failed: dict[str, str] = {}
        self.requests = Requests(self)
        limit = config.get("events.limit")
        self._recorder = Recorder(self._journal_path, limit, self._publish, recall=self._takes_over)
        self._causes = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._changed = asyncio.Event()
        #: Who waits for a change of one sandbox, with what it is now: a few, woken alone, where many wait.
        self._watching: dict[asyncio.Future[None], c.SandboxRecord] = {}
        #: Each effect under way, with the address of the node that it waits for.
        self._tasks: dict[asyncio.Task[None], str | None] = {}
        #: The last order to a sandbox about its rest, and the last one about its peers.
        self._orders: dict[tuple[str, str], c.InstanceInstruction] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        #: The addresses of nodes that were given up and have not joined again, as the other nodes know them.
        self._given_up: set[str] = set()
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._ended = False

    async def end(self) -> None:
        """Give up what is under way, and begin nothing any more."""
        self._ended = True
        for timer in self._timers.values():
            timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.faults.close()
        await self.nodes.close()

    def now(self) -> float:
        """Return Unix time in seconds, by a clock that never jumps: leases are reckoned with it."""
        return self._clock + time.monotonic()

    async def make(self, i: c.StartInstance, request: StartRequest) -> None:
        """Make the instance, which starts by itself and reports how that went."""
        raise NotImplementedError

    def release(self, sandbox: str, epoch: int) -> None:
        """Forget an instance of which nothing is left."""

    def watch(self, facts: dict[str, Any]) -> bool:
        """Learn of the end of a node's process from the kernel; return False when that cannot tell."""
        return False

    def tell_node(self, to: str, op: str, **fields: Any) -> None:
        """Send a node what it does not answer."""

    def abandon(self, address: str) -> None:
        """Give up every effect on a lost node at once."""
        self.nodes.abandon(address)
        for task, waits_for in list(self._tasks.items()):
            if waits_for == address:
                task.cancel()

    def publish(self, topic: str, message: Any) -> None:
        """Tell everybody who listens to `topic` outside of superlearner."""

    async def retire(self, node: str, address: str) -> None:
        """End the worker of a node that carries nothing any more."""
        raise NotImplementedError

    def last_seen(self, node: str) -> float | None:
        """Return when a node last gave a sign of life beside its samples, None when that is not known."""

    # -- What the nodes tell ---------------------------------------------------------------------

    def on_report(self, kind: str, fields: dict[str, Any], worker: str) -> None:
        """Turn a report of a node agent into an event."""
        now = self.now()
        cause = self.new_cause(kind)
        match kind:
            case "node_ready":
                node = fields["node"]
                self.failed.pop(node, None)
                self.known[node] = {**fields, "up": True, "joined_at": now, "watched": self.watch(fields)}
                self.samples.setdefault(fields["node"], deque(maxlen=config.get("telemetry.samples")))
                self._welcome(fields["address"])
                self.handle(control_event(kind, fields, cause, now))
            case "node_left":
                self._node_ended(fields["node"], fields["address"], "it has left")
                if self.launcher is None:  # who started it has ended it: it is not expected back
                    self.forget(fields["node"])
            case "node_failed":
                self.failed[fields["node"]] = fields["reason"]
                self.record(
                    Event("node_failed", at=now, node=fields["node"], reason=fields["reason"], cause=cause)
                )
                self._tell_changed()
            case "node_sampled":
                self._on_sample(fields, cause)
            case "instance_start_failed":
                self._start_failed(
                    fields["sandbox"], fields["node"], fields["epoch"], fields["reason"], fields["cause"]
                )
            case "settle":
                self.tell_node(worker, SETTLED_OP, number=fields["number"])
            case "events":
                for plain in fields["events"]:
                    self._note_health(event := Event.from_dict(plain))
                    self.record(event)
            case _:
                self.handle(control_event(kind, fields, cause, now))

    def _welcome(self, address: str) -> None:
        """Tell the nodes that one is back which they were told to be gone, before anything is asked of them.

        Those that are given up now are told, too: that it was gone may still be on its way to them.
        """
        if address in self._given_up:
            self._given_up.discard(address)
            for facts in self.known.values():
                self.tell_node(facts["address"], BACK_OP, address=address)

    def _note_health(self, event: Event) -> None:
        """Correct the newest sample by an event that is newer."""
        samples = self.samples.get(event.node or "")
        if event.kind in {"sandbox_unresponsive", "sandbox_responsive"} and samples:
            figures = samples[-1]["sandboxes"].get(event.sandbox)
            if figures is not None:
                figures["responsive"] = event.kind == "sandbox_responsive"

    def _on_sample(self, sample: dict[str, Any], cause: str) -> None:
        node = sample["node"]
        if node not in self.samples:
            return  # its node_ready has not arrived: this plane is newer than the node
        self.samples[node].append(sample)
        cpu, network = sample["cpu"], sample["network"]
        self.handle(
            c.NodeSampled(
                node,
                sample["memory_used"],
                sample["memory_total"],
                None if cpu is None else min(1.0, cpu / 100),
                None if network is None else min(1.0, network / FULL_NETWORK),
                cause=cause,
                at=sample["at"],
            )
        )
        self.publish("cluster_metrics", sample)
        self.requests.push("metrics", sample)

    def inventory(self) -> dict[str, Any]:
        """Return what is held of sandboxes here: when all have been destroyed, each of these is empty."""
        return {
            "sandboxes": sorted(self.state.sandboxes),
            "timers": sorted(token for token in self._timers if not token.startswith("lease of ")),
            "requests": sorted(self._waiting),
            "orders": sorted(f"{sandbox}: {what}" for sandbox, what in self._orders),
            "files": [] if self._directory is None else sorted(f.name for f in self._directory.folders()),
        }

    # -- The pump ----------------------------------------------------------------------------------

    def new_cause(self, what: str) -> str:
        """Return a fresh id for a request or a report."""
        return f"{what}-{next(self._causes)}"

    async def ask(self, event: c.ControlEvent) -> Any:
        """Handle a request and wait for its `Answer`, or raise what it was refused with."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting[event.cause] = future
        try:
            self.handle(event)
            return await future
        finally:
            self._waiting.pop(event.cause, None)

    async def changed(self) -> None:
        """Wait until the next event has been handled."""
        await self._changed.wait()

    async def changed_from(self, record: c.SandboxRecord) -> None:
        """Wait until a sandbox is not as `record` says any more."""
        future = self._loop.create_future()
        self._watching[future] = record
        try:
            await future
        finally:
            del self._watching[future]

    async def calm(self, node: str) -> None:
        """Wait until the end of a node's worker has been noticed and no sandbox is being started."""
        while self._is_up(node) or self.state.starting:
            await self.changed()

    def _is_up(self, node: str) -> bool:
        return node in self.known and bool(self.known[node]["up"])

    async def wait_for_nodes(self, names: Iterable[str]) -> None:
        """Wait until the nodes with these names have joined; raise `StartFailed` when one cannot."""
        wanted = set(names)
        while not wanted <= set(self.state.nodes):
            for name in wanted & set(self.failed):
                raise StartFailed(self.failed[name], f"node {name}")
            await self.changed()

    @property
    def log(self) -> EventLog:
        """The events in memory."""
        return self._recorder.log

    def record(self, event: Event) -> None:
        """Append an event to the log and the journal, and publish it."""
        self._recorder.record(event)

    def _publish(self, event: Event) -> None:
        plain = event.as_dict()
        self.publish("sandboxes" if event.sandbox else "cluster_health", plain)
        self.requests.push("event", plain)

    def handle(self, event: c.ControlEvent) -> None:
        """Give one event to the machine and carry out what it says, in order."""
        if self._ended:
            return
        before: list[asyncio.Task[None]] = []
        instructions = self.state.handle(event)
        if isinstance(event, c.ApplicationReplaced):
            self._keep_version(event)
        for instruction in instructions:
            match instruction:
                case c.Record(logged):
                    self.record(logged)
                case c.StartInstance():
                    self._spawn(self._start(instruction), instruction.address)
                case c.StopInstance():
                    self._spawn(self._stop(instruction), instruction.address)
                case c.RestartInstance():
                    self._spawn(self._restart(instruction), instruction.address)
                case c.QuiesceInstance():
                    self._spawn(self._quiesce(instruction), instruction.address)
                case c.ResumeInstance():
                    before.append(self._spawn(self._tell(instruction, "resume"), instruction.address))
                case c.SetPeers():
                    work = self._tell(instruction, "set_peers", instruction.peers)
                    before.append(self._spawn(work, instruction.address))
                case c.DropCheckpoints():
                    before.append(self._spawn(self._drop(instruction)))
                case c.GrantLease():
                    self.tell_node(instruction.address, LEASE_OP, verb="granted", number=instruction.number)
                case c.Rejoin():
                    number = instruction.incarnation
                    self.tell_node(instruction.address, LEASE_OP, verb="rejoin", number=number)
                case c.GiveUpNode(node, address):
                    if node in self.known and self.known[node]["address"] == address:
                        self.known[node]["up"] = False
                    self.abandon(address)
                    self._given_up.add(address)
                    for other in self.state.nodes.values():
                        self.tell_node(other.address, GONE_OP, address=address)
                case c.KeepSandbox(kept):
                    self._keep(kept)
                case c.KeepGroup(kept):
                    self._keep_group(kept)
                case c.ForgetGroup(group):
                    self._forget_group(group)
                case c.SetTimer(token, delay):
                    self._set_timer(token, delay)
                case c.Answer(cause, value):
                    self._spawn(self._settle(cause, before, value=value))
                case c.Refuse(cause, error):
                    self._spawn(self._settle(cause, before, error=error))
        self._tell_changed()

    def _tell_changed(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        for future, record in self._watching.items():
            if self.state.sandboxes.get(record.id) is not record and not future.done():
                future.set_result(None)

    def _node_ended(self, node: str, address: str, reason: str) -> None:
        """Take note that a node is gone for certain, with everything on it."""
        if self._is_up(node) and self.known[node]["address"] == address and not self._stopping:
            cause = self.new_cause("node-lost")
            self.handle(c.NodeLost(node, address, reason, cause=cause, at=self.now()))

    def forget(self, node: str) -> None:
        """Let a node that is gone for good count no longer."""
        if not self._is_up(node):
            self.known.pop(node, None)
            self.samples.pop(node, None)
            self.handle(c.NodeForgotten(node, cause=self.new_cause("forget"), at=self.now()))

    # -- Effects -------------------------------------------------------------------------------------

    def _spawn(self, effect: Coroutine[Any, Any, None], address: str | None = None) -> asyncio.Task[None]:
        task = asyncio.create_task(effect)
        self._tasks[task] = address
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("superlearner: an effect of the control plane failed", exc_info=error)

    async def _start(self, i: c.StartInstance) -> None:
        if i.seed is not None and (refused := await self._sow(i, i.seed)):
            self._start_failed(i.spec.id, i.node, i.epoch, refused, i.cause)
            return
        if self._directory is not None:
            try:
                self._directory.remember(c.KeptSandbox(self._asked(i.spec), i.epoch))
            except OSError as error:
                reason = self._why_not_kept(error)
                if self.must_keep and self.state.sandboxes[i.spec.id].status == "starting":
                    self._start_failed(i.spec.id, i.node, i.epoch, reason, i.cause)
                    return
                # It runs all the same: a full disk must not keep anything from being started again.
                self._not_kept(i.spec.id, reason)
        spec = i.spec
        request = StartRequest(
            spec,
            i.node,
            i.epoch,
            i.peers,
            i.sources,
            i.first_serial,
            i.cause,
            i.on_trial,
            i.incarnation,
            i.above,
            i.expects,
        )
        await self.make(i, request)

    def bring_back(self, sandboxes: Iterable[c.KeptSandbox], groups: Iterable[c.KeptGroup] = ()) -> None:
        """Go on with the sandboxes and groups of an earlier run; whoever asks for one waits until it runs."""
        cause = self.new_cause("remembered")
        self.handle(c.RunRemembered(tuple(sandboxes), tuple(groups), cause=cause, at=self.now()))

    def not_restored(self, sandbox: str, why: str) -> None:
        """Tell that a sandbox of an earlier run is not started again."""
        self.record(Event("sandbox_not_restored", at=self.now(), sandbox=sandbox, reason=why))

    def tell_unreadable(self, directory: StateDirectory) -> None:
        """Tell what of an earlier run cannot be brought back."""
        for sandbox, reason in directory.unreadable:
            self.not_restored(sandbox, reason)
        for group, reason in directory.unreadable_groups:
            self.record(Event("group_not_restored", at=self.now(), reason=reason, detail={"group": group}))

    def _keep_version(self, event: c.ApplicationReplaced) -> None:
        """Keep a new version of an application for later runs."""
        record = self.state.sandboxes.get(event.sandbox)
        if record is None or record.spec.application != event.application:
            return
        self._keep(c.KeptSandbox(record.spec, record.epoch))

    def _asked(self, spec: SandboxSpec) -> SandboxSpec:
        """Return a sandbox's spec as it was asked for: an instance's may differ."""
        record = self.state.sandboxes.get(spec.id)
        return spec if record is None else record.spec

    def _keep(self, kept: c.KeptSandbox) -> None:
        if self._directory is not None:
            try:
                self._directory.remember(kept)
            except OSError as error:
                self._not_kept(kept.spec.id, self._why_not_kept(error))

    def _keep_group(self, kept: c.KeptGroup) -> None:
        if self._directory is not None:
            try:
                self._directory.remember_group(kept)
            except OSError as error:
                detail = {"group": kept.spec.id}
                reason = self._why_not_kept(error)
                self.record(Event("group_not_kept", at=self.now(), reason=reason, detail=detail))

    def _forget_group(self, group: str) -> None:
        if self._directory is not None:
            self._directory.forget_group(group)

    def _why_not_kept(self, error: OSError) -> str:
        assert self._directory is not None
        return f"it could not be written to {self._directory.path}: {error}"

    def _not_kept(self, sandbox: str, reason: str) -> None:
        self.record(Event("sandbox_not_kept", at=self.now(), sandbox=sandbox, reason=reason))

    async def _sow(self, i: c.StartInstance, seed: CheckpointVersion) -> str | None:
        """Store a checkpoint from elsewhere on the node and its peers; return why the node has not got it."""
        plain, keep = asdict(seed), i.spec.checkpoint.keep

        async def store(address: str) -> str | None:
            try:
                async with asyncio.timeout(PEER_TIMEOUT):
                    refused: str | None = await self.nodes.ask(address, "store", plain, keep)
            except (OSError, TimeoutError) as error:
                return f"its checkpoint could not be stored there ({type(error).__name__}: {error})"
            return refused

        places = [(i.node, i.address), *i.peers]
        refusals = await asyncio.gather(*(store(address) for _, address in places))
        holders = tuple(node for (node, _), no in zip(places, refusals, strict=True) if no is None)
        if refusals[0] is None:
            fields = (seed.sandbox, seed.epoch, seed.seq, seed.size, holders)
            self.handle(c.CheckpointStored(*fields, cause=i.cause, at=seed.at))
        return refusals[0]

    def _start_failed(self, sandbox: str, node: str, epoch: int, reason: Any, cause: str) -> None:
        self.release(sandbox, epoch)
        self.handle(c.InstanceStartFailed(sandbox, node, epoch, reason, cause=cause, at=self.now()))

    async def _stop(self, i: c.StopInstance) -> None:
        with suppress(InstanceGone, SuperlearnerError):  # one that is not there any more is stopped
            await self._insist(i, "stop", i.reason)
        self.release(i.sandbox, i.epoch)
        self.handle(c.InstanceStopped(i.sandbox, i.epoch, cause=i.cause, at=self.now()))

    async def _restart(self, i: c.RestartInstance) -> None:
        try:
            info = await self._insist(i, "restart", i.reason)
        except Exception as error:
            reason = why(error)
            self.handle(
                c.InstanceStartFailed(i.sandbox, i.node, i.epoch, reason, cause=i.cause, at=self.now())
            )
            return
        restored = version(info["restored"])
        self.handle(
            c.InstanceRestarted(
                i.sandbox, i.epoch, info["pid"], i.reason, restored, cause=i.cause, at=self.now()
            )
        )

    async def _quiesce(self, i: c.QuiesceInstance) -> None:
        self._orders[i.topic] = i
        try:
            async with asyncio.timeout(config.get("move-timeout")):
                # Not asked again: by then the move may be over, and nobody would resume it.
                info = await self.on_instance(i.address, i.sandbox, i.epoch, "quiesce")
        except Exception as error:
            self.handle(
                c.QuiesceFailed(
                    i.sandbox, i.epoch, str(error) or type(error).__name__, cause=i.cause, at=self.now()
                )
            )
            return
        self.handle(c.Quiesced(i.sandbox, i.epoch, info["seq"], info["size"], cause=i.cause, at=self.now()))

    async def _tell(self, i: c.ResumeInstance | c.SetPeers, method: str, *args: Any) -> None:
        self._orders[i.topic] = i
        with suppress(
            OSError, InstanceGone, SuperlearnerError
        ):  # gone meanwhile: its loss is an event of its own
            await self._insist(i, method, *args)

    async def _insist(self, i: c.InstanceInstruction, method: str, *args: Any) -> Any:
        """Have an instance do what must be done; a broken connection leaves open whether it was.

        So it is asked again, until it answers, a later order is given that this one would undo, or its node is
        lost, which cancels this. Each method may be carried out twice.
        """
        while True:
            try:
                return await self.on_instance(i.address, i.sandbox, i.epoch, method, *args)
            except OSError:
                await asyncio.sleep(AGAIN)
                if self._orders.get(i.topic, i) is not i:
                    raise

    async def _drop(self, i: c.DropCheckpoints) -> None:
        for topic in ("move", "peers"):
            self._orders.pop((i.sandbox, topic), None)

        async def drop(address: str) -> None:
            with suppress(OSError):  # a node that is gone has taken its copies along
                await self.nodes.ask(address, "drop", i.sandbox, i.epoch)

        await asyncio.gather(*map(drop, i.addresses))
        if self._directory is not None:
            self._directory.forget(i.sandbox, i.epoch)

    async def _settle(
        self,
        cause: str,
        before: list[asyncio.Task[None]],
        *,
        value: Any = None,
        error: Exception | None = None,
    ) -> None:
        """Answer or refuse a request, after the effects that came before it."""
        await asyncio.gather(*before, return_exceptions=True)
        future = self._waiting.get(cause)
        if future is None or future.done():
            return  # whoever asked has gone away
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def _set_timer(self, token: str, delay: float) -> None:
        def fire() -> None:
            del self._timers[token]
            self.handle(c.TimerFired(token, cause=self.new_cause("timer"), at=self.now()))

        if token in self._timers:
            self._timers[token].cancel()
        self._timers[token] = self._loop.call_later(delay, fire)

    async def on_instance(self, address: str, sandbox: str, epoch: int, method: str, *args: Any) -> Any:
        """Run a method of an instance on its worker, and return its result or raise its error."""
        return await self.nodes.ask(address, "instance", sandbox, epoch, method, *args)
