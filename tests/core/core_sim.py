"""A tiny cluster that carries out the machine's instructions, late, out of order, twice, or not at all."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from superlearner.core.control import (
    Answer,
    CheckpointStored,
    ControlState,
    CreateRequested,
    DestroyRequested,
    DrainRequested,
    DropCheckpoints,
    ForgetGroup,
    GiveUpNode,
    GroupCreateRequested,
    GroupDestroyRequested,
    GroupRestartRequested,
    InstanceExited,
    InstanceRestarted,
    InstanceStarted,
    InstanceStartFailed,
    InstanceStopped,
    KeepGroup,
    KeepSandbox,
    KeptGroup,
    KeptSandbox,
    MoveRequested,
    NodeJoined,
    NodeLost,
    NodeSampled,
    Quiesced,
    QuiesceFailed,
    QuiesceInstance,
    Record,
    Refuse,
    RestartInstance,
    RestartRequested,
    ResumeInstance,
    RunRemembered,
    SetPeers,
    SetTimer,
    StartInstance,
    StopInstance,
    TimerFired,
)
from superlearner.core.spec import GroupSpec, SandboxSpec
from superlearner.core.strategy_events import ChildExited

REQUESTS = (
    CreateRequested,
    DestroyRequested,
    RestartRequested,
    MoveRequested,
    DrainRequested,
    GroupCreateRequested,
    GroupDestroyRequested,
    GroupRestartRequested,
)


def _comes_back(kept):
    """Whether a member of a group still is one in the next run."""
    return kept.down is not None or kept.spec.restart != "temporary"


#: The phases of members that are still to start.
DOWN = ("held", "waiting", "lost", "starting")


@dataclass
class Living:
    """An instance on a node."""

    node: str
    status: str = "serving"
    peers: tuple = ()
    seq: int = 0
    #: It stores nothing until it is told its peers.
    on_trial: bool = False


@dataclass
class Sim:
    state: ControlState = field(default_factory=ControlState)

    def __post_init__(self):
        self.now = 0.0
        self.count = itertools.count(1)
        self.nodes: dict[str, str] = {}
        self.instances: dict[tuple[str, int], Living] = {}
        #: Orders that nobody has begun, and reports that have not arrived.
        self.orders: list[Any] = []
        self.reports: list[Any] = []
        self.timers: list[str] = []
        self.dropped: list[Any] = []
        self.asked: list[str] = []
        self.answers: Counter[str] = Counter()
        self.values: dict[str, Any] = {}
        self.records: list[Any] = []
        self.epochs: dict[str, int] = {}
        self.started: set[tuple[str, int]] = set()
        #: What the next run of the control plane will know.
        self.kept: dict[str, KeptSandbox] = {}
        self.kept_groups: dict[str, KeptGroup] = {}

    # -- The machine --

    def tell(self, event):
        """Hand an event to the machine, carry out what is done at once, and check the invariants."""
        if isinstance(event, REQUESTS):
            self.asked.append(event.cause)
        out = self.state.handle(event)
        for instruction in out:
            self._take(instruction)
            self._check_order(instruction, event)
        self._check_labels()
        self.state.validate()
        for sandbox, record in self.state.sandboxes.items():
            assert record.epoch >= self.epochs.get(sandbox, 0), "an epoch went down"
            self.epochs[sandbox] = record.epoch
        assert max(self.answers.values(), default=0) <= 1, "answered twice"
        return out

    def _take(self, instruction):
        match instruction:
            case Record(event):
                self.records.append(event)
            case Answer(cause, value) | Refuse(cause, value):
                self.answers[cause] += 1
                self.values[cause] = value
            case SetTimer(token, _delay):
                self.timers.append(token)
            case ResumeInstance():
                # The old instance is resumed in order, before anything that was ordered later.
                living = self.instances.get((instruction.sandbox, instruction.epoch))
                if living is not None and living.status == "quiesced":
                    living.status = "serving"
                self.orders = [
                    o
                    for o in self.orders
                    if not (
                        isinstance(o, QuiesceInstance)
                        and (o.sandbox, o.epoch) == (instruction.sandbox, instruction.epoch)
                    )
                ]
            case SetPeers():
                living = self.instances.get((instruction.sandbox, instruction.epoch))
                if living is not None:
                    living.peers, living.on_trial = instruction.peers, False
            case DropCheckpoints():
                self.dropped.append(instruction)
                self.kept.pop(instruction.sandbox, None)
            case KeepSandbox(kept):
                self.kept[kept.spec.id] = kept
            case KeepGroup(kept):
                self.kept_groups[kept.spec.id] = kept
            case ForgetGroup(group):
                del self.kept_groups[group]
            case StartInstance():
                key = (instruction.spec.id, instruction.epoch)
                assert instruction.epoch >= self.epochs.get(instruction.spec.id, 0), "an epoch went down"
                assert key not in self.started, "an epoch was handed out twice"
                self.started.add(key)
                spec = self.state.sandboxes[instruction.spec.id].spec
                self.kept[spec.id] = KeptSandbox(spec, instruction.epoch)
                self.orders.append(instruction)
            case GiveUpNode():
                pass  # nothing is under way to a node here
            case StopInstance() | RestartInstance() | QuiesceInstance():
                self.orders.append(instruction)
            case _:
                raise AssertionError(instruction)

    def _check_order(self, instruction, event):
        """Whoever starts in an ordered group starts after all before it; a new one comes when it comes.

        A start under way goes on elsewhere when its node is lost, and a move until it is its turn to be stopped.
        """
        if not isinstance(instruction, StartInstance) or isinstance(event, NodeLost | NodeJoined):
            return
        spec = instruction.spec
        group = self.state._groups.get(spec.group or "")
        work = self.state._work[spec.id]
        asked = instruction.on_trial or work.fresh or any(waiter.verb == "restart" for waiter in work.waiters)
        if group is None or group.spec.strategy == "one_for_one" or asked:
            return
        before = list(group.members)[: list(group.members).index(spec.id)]
        # An end that waits for its turn is not known to the supervisor yet, as in OTP.
        unheard = {heard.event.key for heard in group.inbox if isinstance(heard.event, ChildExited)}
        phases = {id: self.state._work[id].phase for id in before if id not in unheard}
        assert not set(phases.values()) & set(DOWN), f"{spec.id} {phases}\n{self.state.story()}"

    def _check_labels(self):
        for name in self.state.nodes:
            here = [self.state.sandboxes[id] for id in self.state._by_node.at(name)]
            for one, other in itertools.permutations(here, 2):
                unwanted = one.spec.anti_affinity.items()
                assert not (unwanted and unwanted <= other.spec.labels.items()), (name, one, other)

    def at(self):
        self.now += 0.01
        return self.now

    def cause(self):
        return f"c{next(self.count)}"

    # -- Requests --

    def create(self, sandbox, **options):
        cause = self.cause()
        self.tell(CreateRequested(SandboxSpec(sandbox, **options), cause=cause, at=self.at()))
        return cause

    def destroy(self, sandbox):
        self.tell(DestroyRequested(sandbox, cause=self.cause(), at=self.at()))

    def restart(self, sandbox):
        self.tell(RestartRequested(sandbox, cause=self.cause(), at=self.at()))

    def move(self, sandbox, node="auto"):
        self.tell(MoveRequested(sandbox, node, cause=self.cause(), at=self.at()))

    def drain(self, node):
        cause = self.cause()
        self.tell(DrainRequested(node, cause=cause, at=self.at()))
        return cause

    def group(self, id, **options):
        self.tell(GroupCreateRequested(GroupSpec(id, **options), cause=self.cause(), at=self.at()))

    def destroy_group(self, id):
        self.tell(GroupDestroyRequested(id, cause=self.cause(), at=self.at()))

    def restart_group(self, id):
        self.tell(GroupRestartRequested(id, cause=self.cause(), at=self.at()))

    # -- Nodes --

    def join(self, name):
        """A node comes, or comes back under a new address before its loss was noticed."""
        self._vanish(name)
        self.nodes[name] = f"tcp://{name}:{next(self.count)}"
        self.tell(NodeJoined(name, self.nodes[name], cause=self.cause(), at=self.at()))

    def lose(self, name):
        address = self.nodes[name]
        self._vanish(name)
        del self.nodes[name]
        self.tell(NodeLost(name, address, cause=self.cause(), at=self.at()))

    def crash(self):
        """The control plane ends, with its nodes and all that they run; the next one has what was kept."""
        self.instances, self.orders, self.reports, self.timers = {}, [], [], []
        self.asked = [cause for cause in self.asked if self.answers[cause]]  # the others know nothing
        groups = {id: group for id, group in self.state._groups.items() if not group.dying}
        for id in set(self.epochs) - set(self.kept):
            del self.epochs[id]
        self.started = {key for key in self.started if key[0] in self.kept}
        before, self.state = self.state, ControlState(self.state.policy)
        for name in list(self.nodes):
            self.join(name)
        sandboxes, kept = tuple(self.kept.values()), dict(self.kept)
        self.tell(
            RunRemembered(sandboxes, tuple(self.kept_groups.values()), cause=self.cause(), at=self.at())
        )
        for id, group in groups.items():
            # One that was being destroyed comes back like the others: nobody was told that it is gone.
            named = [member for member, was in kept.items() if was.spec.group == id]
            members = [member for member in dict.fromkeys([*group.members, *named]) if member in named]
            members = tuple(member for member in members if _comes_back(kept[member]))
            reason = group.reason if group.status == "failed" else None
            wanted = replace(group.info, members=members, restarts=0, reason=reason)
            assert self.state.groups[id] == wanted, f"{before.story()}\n{wanted}"
        for id, was in kept.items():
            if was.down is not None:
                now = self.state.sandboxes[id]
                assert (now.status, now.reason) == (was.down, was.reason), "what was down stays down"

    def sample(self, name, **measured):
        self.tell(NodeSampled(name, **measured, cause=self.cause(), at=self.at()))

    def _vanish(self, name):
        address = self.nodes.get(name)
        self.instances = {key: living for key, living in self.instances.items() if living.node != name}
        self.orders = [order for order in self.orders if order.address != address]

    # -- Effects: each takes an order or a report by its place in the queue --

    def perform(self, index, *, well=True, cancelled=True):
        """Carry out one order; `cancelled` tells whether a stop reaches a start that has not begun."""
        order = self.orders.pop(index)
        node = order.node
        common = {"cause": order.cause, "at": self.at()}
        match order:
            case StartInstance() if well:
                key = (order.spec.id, order.epoch)
                assert key not in self.instances, "an epoch was used twice"
                self.instances[key] = Living(node, peers=order.peers, on_trial=order.on_trial)
                self.reports.append(InstanceStarted(*self._who(order), pid=next(self.count), **common))
            case StartInstance():
                self.reports.append(InstanceStartFailed(*self._who(order), "no luck", **common))
            case StopInstance():
                key = (order.sandbox, order.epoch)
                self.instances.pop(key, None)
                if cancelled:
                    self.orders = [
                        o
                        for o in self.orders
                        if not (isinstance(o, StartInstance) and (o.spec.id, o.epoch) == key)
                    ]
                self.reports.append(InstanceStopped(*key, **common))
            case RestartInstance() if (order.sandbox, order.epoch) in self.instances:
                living = self.instances[order.sandbox, order.epoch]
                if well and living.status != "ended":
                    living.status = "serving"
                    self.reports.append(
                        InstanceRestarted(order.sandbox, order.epoch, next(self.count), "restart", **common)
                    )
                else:
                    living.status = "ended"
                    self.reports.append(
                        InstanceStartFailed(order.sandbox, node, order.epoch, "no luck", **common)
                    )
            case QuiesceInstance() if (order.sandbox, order.epoch) in self.instances:
                living = self.instances[order.sandbox, order.epoch]
                if well and living.status == "serving":
                    living.status = "quiesced"
                    self.reports.append(Quiesced(order.sandbox, order.epoch, 1, 10, **common))
                else:
                    self.reports.append(QuiesceFailed(order.sandbox, order.epoch, "no luck", **common))
            case _:  # its instance has been stopped meanwhile
                pass

    def _who(self, order):
        return order.spec.id, order.node, order.epoch

    def deliver(self, index, *, again=False):
        """Deliver one report; `again` keeps it, to be delivered once more."""
        report = self.reports[index] if again else self.reports.pop(index)
        self.tell(report)

    def fire(self, index):
        self.now += 0.1
        self.tell(TimerFired(self.timers.pop(index), cause=self.cause(), at=self.now))

    def exit(self, key, *, gave_up=False, reason="crash"):
        """An instance ends by itself; it holds its place until it is stopped."""
        self.instances[key].status = "ended"
        self.reports.append(InstanceExited(*key, reason, gave_up, cause=self.cause(), at=self.at()))

    def reboot(self, key):
        """An instance starts its OS process again by itself."""
        self.reports.append(
            InstanceRestarted(*key, next(self.count), "crash", cause=self.cause(), at=self.at())
        )

    def checkpoint(self, key):
        living = self.instances[key]
        if living.on_trial:
            return
        living.seq += 1
        nodes = (living.node, *(peer for peer, _address in living.peers))
        self.reports.append(CheckpointStored(*key, living.seq, 10, nodes, cause=self.cause(), at=self.at()))

    def rest(self):
        """Let everything happen that waits for no timer."""
        while self.orders or self.reports:
            if self.orders:
                self.perform(0)
            else:
                self.deliver(0)

    # -- The end --

    def settle(self):
        """End all faults, let everything happen, and check that the cluster is whole."""
        for name in ("alpha", "beta", "gamma"):
            if name not in self.nodes:
                self.join(name)
        for _ in range(10_000):
            if self.reports:
                self.deliver(0)
            elif self.orders:
                self.perform(0)
            elif self.timers:
                self.fire(0)
            else:
                break
        else:
            raise AssertionError("it never comes to rest")
        self.check_whole()

    def check_whole(self):
        wanted, homeless = {}, self._homeless()
        for sandbox, record in self.state.sandboxes.items():
            statuses = ("lost", "restarting") if sandbox in homeless else ("running", "failed", "stopped")
            assert record.status in statuses, f"{record}\n{self.state.story(sandbox)}"
            if record.status == "running":
                wanted[sandbox, record.epoch] = record
            if record.status == "stopped":
                assert record.spec.restart != "permanent"
            group = self.state.groups.get(record.spec.group or "")
            if group is not None and group.status == "failed":
                assert record.status != "running", record
        for group in self.state._groups.values():
            under_way = (group.todo, group.inbox, group.ending, group.starts)
            assert not any(under_way), group
        story = self.state.story()
        assert set(self.instances) == set(wanted), f"{self.instances}\n{wanted}\n{story}"
        for key, living in self.instances.items():
            assert living.node == wanted[key].node
            assert not living.on_trial, (
                f"{key} does not know that it is the owner\n{self.state.story(key[0])}"
            )
            assert living.status == "serving", f"{key}: {living}\n{self.state.story(key[0])}"
            peers = self.state._work[key[0]].peers
            assert [peer for peer, _ in living.peers] == list(peers), f"{key}: {living} {peers}\n{story}"
            assert len(peers) == min(len(self.nodes) - 1, wanted[key].spec.checkpoint.copies)
        owed = {waiter.cause for id in homeless for waiter in self.state._work[id].waiters}
        for group in self.state._groups.values():
            owed |= set(group.restarters) if homeless & set(group.members) else set()
        unanswered = [cause for cause in self.asked if not self.answers[cause] and cause not in owed]
        assert not unanswered, f"{unanswered}\n{story}"

    def _homeless(self):
        """Return the sandboxes that wait for a node, as no arrangement is made for labels, and those behind them."""
        lost = {id for id, record in self.state.sandboxes.items() if record.status == "lost"}
        for id in lost:
            assert self.state._place(self.state.sandboxes[id].spec).node is None, self.state.story(id)
        behind = [set(group.members) for group in self.state._groups.values() if lost & set(group.members)]
        held = {id for members in behind for id in members if self.state._work[id].phase == "held"}
        return lost | held
