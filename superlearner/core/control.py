"""The machine that runs a cluster: events in, instructions out; it never waits, asks or does anything itself.

The registry (``control_registry``) holds who owns what; ``control_life`` and ``control_moves`` say what becomes
of one sandbox, ``control_groups`` of those that are supervised together; this module takes the events, one
method each, by the table at its end. Rules that hold throughout, and that ``validate`` checks:

- **One owner.** A sandbox has at most one owner, named by its record: node and epoch. Every other instance
  that is heard of is told to stop.
- **Epochs only grow**, also over destruction and over moves that were rolled back. Each new instance has the
  next one, in place or elsewhere; only a restart of the OS process inside a living instance keeps it.
- **Reports of another epoch are late** and change nothing. A report that overtakes the report of its own
  instance's start is kept until that comes.
- **Every change is recorded** with its cause, and **every request is answered once**, when what was asked
  for is done or will not be done.

The module is long because it lists every name of the machine twice, to import and to export it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, ClassVar

from superlearner.core.control_drains import Drains
from superlearner.core.control_events import (
    ApplicationReplaced,
    CheckpointStored,
    ControlEvent,
    CreateRequested,
    DestroyRequested,
    DrainRequested,
    GroupCreateRequested,
    GroupDestroyRequested,
    GroupRestartRequested,
    InstanceExited,
    InstanceRestarted,
    InstanceStarted,
    InstanceStartFailed,
    InstanceStopped,
    MoveRequested,
    NodeForgotten,
    NodeHeard,
    NodeJoined,
    NodeLost,
    NodeSampled,
    Quiesced,
    QuiesceFailed,
    RestartRequested,
    RunRemembered,
    TimerFired,
)
from superlearner.core.control_instructions import (
    Addresses,
    Answer,
    DropCheckpoints,
    ForgetGroup,
    GiveUpNode,
    GrantLease,
    InstanceInstruction,
    Instruction,
    KeepGroup,
    KeepSandbox,
    QuiesceInstance,
    Record,
    Refuse,
    Rejoin,
    RestartInstance,
    ResumeInstance,
    SetPeers,
    SetTimer,
    StartInstance,
    StopInstance,
)
from superlearner.core.control_kept import KeptGroup, KeptSandbox
from superlearner.core.control_members import Members
from superlearner.core.control_records import OWNED, ControlPolicy, NodeRecord, SandboxRecord, Waiter, Work
from superlearner.core.control_reports import Reports
from superlearner.core.control_starts import explain
from superlearner.core.control_validate import check
from superlearner.core.loads import NodeLoad
from superlearner.core.placement import Placement
from superlearner.core.spec import SandboxSpec
from superlearner.errors import (
    InvalidTransition,
    NoPlacement,
    NoSandbox,
    SandboxExists,
    StartFailed,
    SuperlearnerError,
)

__all__ = [
    "Addresses",
    "Answer",
    "ApplicationReplaced",
    "CheckpointStored",
    "ControlEvent",
    "ControlPolicy",
    "ControlState",
    "CreateRequested",
    "DestroyRequested",
    "DrainRequested",
    "DropCheckpoints",
    "ForgetGroup",
    "GiveUpNode",
    "GrantLease",
    "GroupCreateRequested",
    "GroupDestroyRequested",
    "GroupRestartRequested",
    "InstanceExited",
    "InstanceInstruction",
    "InstanceRestarted",
    "InstanceStartFailed",
    "InstanceStarted",
    "InstanceStopped",
    "Instruction",
    "KeepGroup",
    "KeepSandbox",
    "KeptGroup",
    "KeptSandbox",
    "MoveRequested",
    "NodeForgotten",
    "NodeHeard",
    "NodeJoined",
    "NodeLost",
    "NodeRecord",
    "NodeSampled",
    "QuiesceFailed",
    "QuiesceInstance",
    "Quiesced",
    "Record",
    "Refuse",
    "Rejoin",
    "RestartInstance",
    "RestartRequested",
    "ResumeInstance",
    "RunRemembered",
    "SandboxRecord",
    "SetPeers",
    "SetTimer",
    "StartInstance",
    "StopInstance",
    "TimerFired",
]

#: How many lost sandboxes are tried again when another one frees memory.
RETRIES = 8


class ControlState(Members):
    """The registry and every decision about it.

    >>> from superlearner.core.spec import SandboxSpec
    >>> state = ControlState()
    >>> _ = state.handle(NodeJoined("alpha", "tcp://10.0.0.1:1", cause="join", at=0.0))
    >>> got = state.handle(CreateRequested(SandboxSpec("shop"), cause="ask", at=1.0))
    >>> got[0] == StartInstance.match(node="alpha", epoch=1)
    True
    >>> got = state.handle(InstanceStarted("shop", "alpha", 1, pid=4711, cause="ask", at=1.2))
    >>> got[-1] == Answer.match(cause="ask"), state.sandboxes["shop"].status
    (True, 'running')
    """

    def handle(self, event: ControlEvent) -> list[Instruction]:
        """Take one event and return what is to be done, in order.

        Raises
        ------
        InvalidTransition
            A bug of the machine; the message tells what led to it.
        """
        self._out = []
        try:
            self._react(event)
            self._run_groups(event)
            if self._freed:
                self._freed = False
                self._take_up(event, RETRIES)
                self._run_groups(event)
            self._go_on_draining(event)
        finally:
            out, self._out = self._out, []
            self._told.append((event, tuple(out)))
        return out

    def validate(self) -> None:
        """Check every invariant; for tests after each step, as it walks through everything.

        Raises
        ------
        InvalidTransition
            One is broken; the message tells which, and what led to it.
        """
        for sandbox, complaint in check(self):
            raise InvalidTransition(f"{complaint}\n{self.story(sandbox)}\n")

    def story(self, sandbox: str | None = None) -> str:
        """Return the last events with what they led to, one per line: all, or those of one sandbox."""
        lines = []
        for event, out in self._told:
            if sandbox is None or _concerns(event, sandbox) or any(_concerns(i, sandbox) for i in out):
                lines.append(f"{event.at:.3f} {_brief(event)} -> {', '.join(map(_brief, out)) or 'nothing'}")
        return "\n".join(lines)

    def explain(self, spec: SandboxSpec) -> Placement:
        """Return where a sandbox like this one would be placed now, and why not elsewhere."""
        return self._place(spec, None if spec.node == "auto" else spec.node, among=None)

    def carried(self, node: str) -> list[str]:
        """Return the ids of the sandboxes whose owner is on a node."""
        return self._by_node.at(node)

    def _react(self, event: ControlEvent) -> None:
        handler = self._HANDLERS.get(type(event))
        if handler is None:
            raise InvalidTransition(f"There is no handler for {event!r}.\n{self.story()}\n")
        handler(self, event)

    # -- Nodes --

    def _node_joined(self, event: NodeJoined) -> None:
        known = self.nodes.get(event.node)
        same = known is not None and known.incarnation == event.incarnation
        if known is not None and same and known.address == event.address:
            load = replace(known.load, memory_limit=event.memory, cpus=event.cpus, labels=event.labels)
            self._set_node(replace(known, load=load, labels=event.labels))
            return
        if known is not None:
            why = (
                "it had stopped everything, past its lease"
                if known.address == event.address
                else "it was restarted"
            )
            self._lose_node(known, event, why)
        load = NodeLoad(event.node, memory_limit=event.memory, cpus=event.cpus, labels=event.labels)
        self.members[event.node] = None
        node = NodeRecord(
            event.node,
            event.address,
            load,
            event.labels,
            event.at,
            incarnation=event.incarnation,
            heard_at=event.at,
        )
        self._set_node(node)
        self._watch(node)
        self._note("node_joined", event, node=event.node, detail={"address": event.address})
        self._take_up(event, len(self._lost))
        for sandbox in list(self._short):
            work = self._work[sandbox]
            self._want_peers(work, self._wish(work, work.record.node, work.peers))
            self._tell_peers(work)

    def _node_lost(self, event: NodeLost) -> None:
        node = self.nodes.get(event.node)
        if node is not None and node.address == event.address:
            self._lose_node(node, event, str(event.reason))

    def _lose_node(self, node: NodeRecord, event: ControlEvent, why: str) -> None:
        name = node.name
        self._drop_node(name)
        self._unwatch(name)
        self._say(GiveUpNode(name, node.address))
        reason = f"node {name!r} was lost: {why}"
        carried = self._by_node.at(name)
        detail = {"address": node.address, "sandboxes": len(carried)}
        self._note("node_lost", event, node=name, reason=why, detail=detail)
        for sandbox in self._by_holder.at(name):
            work = self._work[sandbox]
            self._uncopy(work, name)
            self._set(work, checkpoint=self._newest(work))
        for sandbox in self._by_target.at(name):
            self._roll_back(self._work[sandbox], event, reason)
        for sandbox in carried:
            self._owner_lost(self._work[sandbox], event, reason)
        for sandbox, epoch in self._by_stop.at(name):
            work = self._work[sandbox]
            self._unstop(work, epoch)
            self._finish_destroy(work, event)
        for sandbox in self._by_peer.at(name):
            work = self._work[sandbox]
            kept = tuple(peer for peer in work.peers if peer != name)
            self._want_peers(work, self._wish(work, work.record.node, kept) if work.phase in OWNED else kept)
            self._tell_peers(work)

    def _owner_lost(self, work: Work, event: ControlEvent, reason: str) -> None:
        if work.phase == "moving":
            self._adopt(work, event, reason)
            return
        if work.phase == "quiescing":
            self._roll_back(work, event, reason, resume=False)
        self._end_adopted(work, event, reason)
        self._node_lost_under(work, event, reason)

    def _node_sampled(self, event: NodeSampled) -> None:
        node = self.nodes.get(event.node)
        if node is not None:
            load = node.load.measured(event.memory_used, event.memory_total, event.cpu, event.network)
            self._set_node(replace(node, load=load, sampled_at=event.at))

    # -- Requests --

    def _create(self, event: CreateRequested) -> None:
        spec = event.spec
        if spec.id in self._work:
            self._say(Refuse(event.cause, SandboxExists(spec.id, self.sandboxes[spec.id].node)))
            return
        if (refusal := self._group_refusal(spec) or self.no_quorum) is not None:
            self._note("placement_refused", event, sandbox=spec.id, reason=refusal.what())
            self._say(Refuse(event.cause, refusal))
            return
        wanted = None if spec.node == "auto" else spec.node
        placement = self._place(spec, wanted)
        if placement.node is None:
            error: SuperlearnerError = NoPlacement(spec.id, placement.refusals)
            if wanted is not None and wanted not in self.nodes:
                error = self._not_there(wanted)
            detail = explain(placement)
            self._note("placement_refused", event, sandbox=spec.id, reason=error.what(), detail=detail)
            self._say(Refuse(event.cause, error))
            return
        before = above = self._next_epoch(spec.id) - 1
        seed = event.checkpoint
        if seed is not None:
            # It takes the place of the instance before the first: no store here refuses it as over.
            before = max(before + 1, seed.epoch)
            seed = replace(seed, sandbox=spec.id, epoch=before)
        record = SandboxRecord(spec.id, spec, "starting", None, None, before, created_at=event.at)
        work = Work(record, "waiting", self._fresh_intensity(), highest=before, above=above, seed=seed)
        work.waiters.append(Waiter("create", event.cause))
        self._enter(work)
        self._start_new(work, event, placement)

    def _remembered(self, event: RunRemembered) -> None:
        """Bring back groups with their members, then the sandboxes that are alone; what is there already stays."""
        new = {kept.spec.id: kept for kept in event.sandboxes if kept.spec.id not in self._work}
        for group in event.groups:
            if group.spec.id not in self._groups:
                members = [kept for kept in new.values() if kept.spec.group == group.spec.id]
                for kept in members:
                    del new[kept.spec.id]
                self._recall_group(group, members, event)
        for kept in new.values():
            work = self._recall(kept._replace(spec=kept.spec.alone()), event)
            if kept.down is None:
                self._start_or_lose(work, event)

    def _destroy(self, event: DestroyRequested) -> None:
        work = self._work.get(event.sandbox)
        if work is None:
            self._say(Refuse(event.cause, NoSandbox(event.sandbox)))
            return
        work.waiters.append(Waiter("destroy", event.cause))
        if work.phase == "destroying":
            return
        self._destroy_work(work, event, "it was destroyed")

    def _destroy_work(self, work: Work, event: ControlEvent, why: str) -> None:
        """Begin to destroy a sandbox, whatever it was doing."""
        if work.phase in ("quiescing", "moving"):
            self._roll_back(work, event, why, resume=False)
        self._end_adopted(work, event, why)
        self._refuse(work, {"create": StartFailed(why, work.id), "restart": NoSandbox(work.id)})
        self._begin_destroy(work, event)

    def _restart(self, event: RestartRequested) -> None:
        work = self._work.get(event.sandbox)
        waiter = Waiter("restart", event.cause)
        match work.phase if work is not None else "destroying":
            case "destroying":
                self._say(Refuse(event.cause, NoSandbox(event.sandbox)))
            case "stopped" | "failed" | "lost":
                self._start_anew(self._work[event.sandbox], event, waiter)
            case "running":
                self._work[event.sandbox].waiters.append(waiter)
                self._reboot(self._work[event.sandbox], event)
            case _:  # it will run soon, or have moved: that is a restart as well
                self._work[event.sandbox].waiters.append(waiter)

    def _move_asked(self, event: MoveRequested) -> None:
        work = self._work.get(event.sandbox)
        if work is None or work.phase == "destroying":
            self._say(Refuse(event.cause, NoSandbox(event.sandbox)))
        elif (refusal := self.no_quorum) is not None:
            self._say(Refuse(event.cause, refusal))
        else:
            self._ask_move(work, event)

    #: The whole machine at a glance: which method takes which event.
    _HANDLERS: ClassVar[dict[type[ControlEvent], Callable[[ControlState, Any], None]]] = {
        NodeJoined: _node_joined,
        NodeHeard: Members.node_heard,
        NodeForgotten: Members.node_forgotten,
        NodeLost: _node_lost,
        NodeSampled: _node_sampled,
        CreateRequested: _create,
        RunRemembered: _remembered,
        DestroyRequested: _destroy,
        RestartRequested: _restart,
        MoveRequested: _move_asked,
        DrainRequested: Drains.drain_asked,
        GroupCreateRequested: Members.group_asked,
        GroupDestroyRequested: Members.group_unwanted,
        GroupRestartRequested: Members.group_restart_asked,
        InstanceStarted: Reports.instance_started,
        InstanceStartFailed: Reports.instance_start_failed,
        InstanceRestarted: Reports.instance_restarted,
        InstanceExited: Reports.instance_exited,
        InstanceStopped: Reports.instance_stopped,
        Quiesced: Reports.quiesced,
        QuiesceFailed: Reports.quiesce_failed,
        CheckpointStored: Reports.checkpoint_stored,
        ApplicationReplaced: Reports.application_replaced,
        TimerFired: Members.timer_fired,
    }


def _concerns(told: Any, sandbox: str) -> bool:
    """Tell whether an event or an instruction is about that sandbox."""
    spec = getattr(told, "spec", None)
    logged = getattr(told, "event", None)
    return sandbox in (
        getattr(told, "sandbox", None),
        getattr(spec, "id", None),
        getattr(logged, "sandbox", None),
    )


def _brief(told: Any) -> str:
    """Return an event or an instruction in a few words: what differs from the defaults, a spec as its id."""
    if isinstance(told, Record):
        return f"Record({told.event.kind})"
    words = []
    for field in fields(told):
        value = getattr(told, field.name)
        if field.name not in ("at", "value") and value != field.default:
            words.append(f"{field.name}={value.id if isinstance(value, SandboxSpec) else value!r}")
    return f"{type(told).__name__}({', '.join(words)})"
