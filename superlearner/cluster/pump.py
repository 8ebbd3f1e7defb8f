"""The pump: the control machine at work in some process, a scheduler's or a manager's own.

Reports and requests become events, ``handle`` passes each to the machine, and one ``match`` turns its
instructions into effects, whose outcome comes back as the next event. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from superlearner import config
from superlearner.cluster.agent import (
    BACK_OP,
    GONE_OP,
    LEASE_OP,
    SETTLED_OP,
)
from superlearner.cluster.alarms import FULL_NETWORK, Alarms
from superlearner.cluster.effects import Effects
from superlearner.cluster.faults import FaultControl
from superlearner.cluster.recorder import Recorder
from superlearner.cluster.reports import control_event
from superlearner.cluster.requests import Requests
from superlearner.cluster.state_dir import StateDirectory
from superlearner.cluster.versions import Versions
from superlearner.core import control as c
from superlearner.core.history import Event, EventLog
from superlearner.errors import StartFailed, UnknownNode, no_such_node


class NodeLauncher(Protocol):
    """Starts and stops nodes where the platform allows it: on this machine."""

    async def add(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Start a node with these labels."""

    async def remove(self, name: str) -> None:
        """Stop a node for good."""

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a node's worker process, if it lives."""


class Pump(Effects):
    """The machine at work in some process: it takes requests and reports, and carries out what is decided.

    How instances are made, and who else is told what happened, is up to those who inherit from it.
    """

    #: What is broken on purpose.
    faults: FaultControl
    #: Where it can be asked.
    address: str
    launcher: NodeLauncher | None = None
    #: What the ids of its alerts begin with.
    prefix = ""

    def __init__(self, directory: StateDirectory | None = None) -> None:
        super().__init__(directory)
        #: The file that keeps the events; None: they are kept in memory only.
        self._journal_path: str | None = None
        #: Whether what is in that file is this cluster's own history.
        self._takes_over = False

    def begin(self, policy: c.ControlPolicy) -> None:
        """Make what belongs to one run; in the loop that it is going to live on."""
        super().begin(policy)
        #: The newest samples of each node, oldest first.
        self.samples: dict[str, deque[dict[str, Any]]] = {}
        #: What each node said of itself when it was last ready; lost nodes stay until they are removed.
        self.known: dict[str, dict[str, Any]] = {}
        #: The nodes that could not start, with the reason.
        self.failed: dict[str, str] = {}
        #: Which versions of their applications sandboxes have had.
        self.versions = Versions()
        self.requests = Requests(self)
        limit = config.get("events.limit")
        self._recorder = Recorder(self._journal_path, limit, self._publish, recall=self._takes_over)
        #: What is wrong now.
        self.alarms = Alarms(self, self.prefix)
        self._changed = asyncio.Event()
        #: Who waits for a change of one sandbox, with what it is now: a few, woken alone, where many wait.
        self._watching: dict[asyncio.Future[None], c.SandboxRecord] = {}
        #: The addresses of nodes that were given up and have not joined again, as the other nodes know them.
        self._given_up: set[str] = set()
        self._stopping = False
        self._ended = False

    async def end(self) -> None:
        """Give up what is under way, and begin nothing any more."""
        self._ended = True
        await self.alarms.close()
        for timer in self._timers.values():
            timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.faults.close()
        await self.nodes.close()

    def watch(self, facts: dict[str, Any]) -> bool:
        """Learn of the end of a node's process from the kernel; return False when that cannot tell."""
        return False

    def tell_node(self, to: str, op: str, **fields: Any) -> None:
        """Send a node what it does not answer."""

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
                self.nodes.prepare(fields["address"])
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

    def _give_up(self, node: str, address: str) -> None:
        """Count a node as gone, and tell the others; not one that is there again already, with nothing on it."""
        if node in self.known and self.known[node]["address"] == address:
            self.known[node]["up"] = False
        self._given_up.add(address)
        for other in self.state.nodes.values():
            self.tell_node(other.address, GONE_OP, address=address)

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

    def not_up(self, node: str) -> UnknownNode:
        """Return the error for a node that is down, or that nobody has heard of."""
        up = (name for name, facts in self.known.items() if facts["up"])
        return no_such_node(node, up, known=node in self.known)

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
        """Append an event to the log and the journal, publish it, and see whether it is cause for alarm."""
        self._recorder.record(event)
        if not self._stopping:
            self.alarms.note(event)

    def _publish(self, event: Event) -> None:
        plain = event.as_dict()
        self.publish("sandboxes" if event.sandbox else "cluster_health", plain)
        self.requests.push("event", plain)

    def handle(self, event: c.ControlEvent) -> None:
        """Give one event to the machine and carry out what it says, in order."""
        if self._ended:
            return
        before: list[asyncio.Task[None]] = []
        if isinstance(event, c.ApplicationReplaced):
            self.versions.replaced(self.state.sandboxes, event)
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
                case c.QuiesceInstance(target=(_, target)):
                    self._spawn(self._expect(target), target)
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
                    self.abandon(address)
                    if not (isinstance(event, c.NodeJoined) and event.address == address):
                        self._give_up(node, address)
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
