"""The registry: who owns which sandbox, with the indexes that keep the cost of an event flat.

An event touches only the sandboxes it concerns: those on a node, those moving to it, those with a copy or
a peer on it. Each index is changed by one method here and re-checked by ``control_validate``.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from superlearner.core.control_events import ControlEvent
from superlearner.core.control_index import Index
from superlearner.core.control_instructions import (
    Addresses,
    Answer,
    Instruction,
    Record,
    Refuse,
    SetPeers,
    SetTimer,
    StopInstance,
)
from superlearner.core.control_labels import Labels
from superlearner.core.control_records import (
    OWNED,
    ControlPolicy,
    Drain,
    NodeRecord,
    Phase,
    SandboxRecord,
    Work,
)
from superlearner.core.control_starts import ROWS
from superlearner.core.history import Event
from superlearner.core.loads import Ranking
from superlearner.core.placement import Placement, peers_for, place
from superlearner.core.quorum import has_quorum
from superlearner.core.snapshots import CheckpointInfo
from superlearner.core.spec import SandboxSpec
from superlearner.errors import InvalidTransition, NoQuorum, SuperlearnerError, UnknownNode, no_such_node


class Registry:
    """The records and their indexes; the layers above decide."""

    def __init__(self, policy: ControlPolicy | None = None) -> None:
        self.policy = policy or ControlPolicy()
        #: The living nodes; only `_set_node` and `_drop_node` change them.
        self.nodes: dict[str, NodeRecord] = {}
        #: Their loads, the freest first.
        self._ranking = Ranking()
        #: Those that are silent.
        self._suspected: set[str] = set()
        #: The registry as everybody may read it.
        self.sandboxes: dict[str, SandboxRecord] = {}
        #: The same sandboxes with what is under way.
        self._work: dict[str, Work] = {}
        #: Node -> the sandboxes whose owner is there.
        self._by_node = Index()
        #: Node -> the sandboxes that are moving to it.
        self._by_target = Index()
        #: Node -> the sandboxes that want copies there.
        self._by_peer = Index()
        #: Node -> the sandboxes that have copies there.
        self._by_holder = Index()
        #: Node -> the (sandbox, epoch) that are being stopped there.
        self._by_stop = Index()
        #: Owned sandboxes with fewer peers than they wish, in the order of their coming.
        self._short: dict[str, None] = {}
        #: The labels of the sandboxes on each node.
        self._labels = Labels()
        #: How many sandboxes wait for an instance to start.
        self.starting = 0
        #: Sandboxes that no node can take, the longest waiting first.
        self._lost: dict[str, None] = {}
        #: Every node that belongs to the cluster, there or not: the quorum is more than half of them.
        self.members: dict[str, None] = {}
        #: Node -> how far it is emptied.
        self._drains: dict[str, Drain] = {}
        #: Token -> the node to look at, and when.
        self._looks: dict[str, tuple[str, float]] = {}
        #: Token -> sandbox.
        self._timers: dict[str, str] = {}
        self._timers_made = 0
        #: Destroyed sandbox -> its highest epoch.
        self._tombstones: OrderedDict[str, int] = OrderedDict()
        #: The highest epoch among the forgotten tombstones.
        self._floor = 0
        #: Whether memory was freed in this step, so that a lost sandbox may fit now.
        self._freed = False
        self._out: list[Instruction] = []
        self._told: deque[tuple[ControlEvent, tuple[Instruction, ...]]] = deque(maxlen=self.policy.story)

    # -- What is said --

    def _say(self, instruction: Instruction) -> None:
        self._out.append(instruction)

    def _note(self, kind: str, event: ControlEvent, work: Work | None = None, **fields: Any) -> None:
        """Record an event; where, which epoch and why come from the sandbox's record unless given."""
        if work is not None:
            fields.setdefault("node", work.record.node)
            fields.setdefault("epoch", work.record.epoch)
            fields["sandbox"] = work.id
        self._say(Record(Event(kind, at=event.at, cause=event.cause, **fields)))

    def _answer(self, work: Work, value: Any = None) -> None:
        waiters, work.waiters = work.waiters, []
        for waiter in waiters:
            self._say(Answer(waiter.cause, value))

    def _refuse(self, work: Work, errors: Mapping[str, SuperlearnerError]) -> None:
        """Refuse those who wait for one of these verbs; the others go on waiting."""
        waiters, work.waiters = work.waiters, [w for w in work.waiters if w.verb not in errors]
        for waiter in waiters:
            if waiter.verb in errors:
                self._say(Refuse(waiter.cause, errors[waiter.verb]))

    # -- Sandboxes --

    def _next_epoch(self, sandbox: str) -> int:
        return max(self._tombstones.get(sandbox, 0), self._floor) + 1

    def _enter(self, work: Work) -> None:
        self._work[work.id] = work
        self.sandboxes[work.id] = work.record
        self._tombstones.pop(work.id, None)

    def _leave(self, work: Work) -> None:
        """Forget a sandbox, save its highest epoch."""
        for node in list(work.copies):
            self._uncopy(work, node)
        self._want_peers(work, ())
        del self._work[work.id], self.sandboxes[work.id]
        self._tombstones[work.id] = work.highest
        while len(self._tombstones) > self.policy.tombstones:
            _sandbox, epoch = self._tombstones.popitem(last=False)
            self._floor = max(self._floor, epoch)

    def _set(self, work: Work, phase: Phase | None = None, **changes: Any) -> None:
        """Change a sandbox's phase and record: the only place where either changes."""
        if changes.get("epoch", work.record.epoch) < work.record.epoch:
            raise InvalidTransition(f"The epoch of {work.id!r} would go down to {changes['epoch']}.")
        if phase is not None:
            if work.phase == "lost" and phase != "lost":
                del self._lost[work.id]
            if work.timer is not None:
                del self._timers[work.timer]
                work.timer = None
            if phase == "lost":
                self._lost[work.id] = None
            self.starting += (phase == "starting") - (work.phase == "starting")
            work.phase = phase
        work.record = self.sandboxes[work.id] = replace(work.record, status=work.status, **changes)
        self._mark_short(work)

    def _set_timer(self, work: Work, delay: float) -> None:
        self._timers_made += 1
        work.timer = f"{work.id}#{self._timers_made}"
        self._timers[work.timer] = work.id
        self._say(SetTimer(work.timer, delay))

    # -- Nodes and what they carry --

    @property
    def reach(self) -> tuple[int, int]:
        """How many of the known nodes are heard of, and how many are known."""
        return len(self.nodes) - len(self._suspected), len(self.members)

    @property
    def no_quorum(self) -> NoQuorum | None:
        """Why nothing may be decided now: half of the known nodes, or more, are not heard of; None when they are."""
        alive, known = self.reach
        if self.policy.partition == "availability" or not known or has_quorum(alive, known):
            return None
        return NoQuorum(alive, known)

    def _not_there(self, node: str) -> UnknownNode:
        """Return the error for a node that carries nothing: it is down, or there never was one of that name."""
        return no_such_node(node, self.nodes, known=node in self.members)

    def _set_node(self, node: NodeRecord) -> None:
        """Add a node, or change its record."""
        self.nodes[node.name] = node
        self._ranking.put(node.load)
        (self._suspected.add if node.suspected else self._suspected.discard)(node.name)

    def _drop_node(self, name: str) -> None:
        del self.nodes[name]
        self._ranking.remove(name)
        self._suspected.discard(name)

    def _own(self, work: Work, node: str, at: float) -> None:
        self._by_node.add(node, work.id)
        work.placed_at = at
        self._reserve(work, node)

    def _disown(self, work: Work) -> None:
        """Take the sandbox off its owner's node; its record still says where that was until it is set."""
        node = str(work.record.node)
        self._by_node.remove(node, work.id)
        self._release(work, node, work.placed_at)

    def _place(
        self,
        spec: SandboxSpec,
        node: str | None = None,
        avoid: Mapping[str, str] | None = None,
        among: int | None = ROWS,
    ) -> Placement:
        """Choose among the living nodes, beside the sandboxes that they carry."""
        neighbour = partial(self._labels.neighbour, spec)
        return place(spec, self._ranking, node=node, avoid=avoid, neighbour=neighbour, among=among)

    def _reserve(self, work: Work, node: str) -> None:
        record = self.nodes[node]
        self._labels.add(node, work.record.spec)
        self._set_node(replace(record, load=record.load.reserve(work.record.spec)))

    def _release(self, work: Work, node: str, placed_at: float) -> None:
        spec = work.record.spec
        kept_others_away = self._labels.remove(node, spec)
        record = self.nodes.get(node)
        if record is not None:
            fresh = record.sampled_at is None or placed_at > record.sampled_at
            self._set_node(replace(record, load=record.load.release(spec, fresh=fresh)))
            self._freed = self._freed or kept_others_away or spec.resources.memory is not None

    def _stop(self, work: Work, epoch: int, node: str, event: ControlEvent, reason: str) -> None:
        """Stop one instance and remember it until nothing of it is left; one on a lost node is gone already."""
        record = self.nodes.get(node)
        if record is not None and epoch not in work.stopping:
            work.stopping[epoch] = node
            self._by_stop.add(node, (work.id, epoch))
            self._say(StopInstance(work.id, node, record.address, epoch, reason, event.cause))

    def _unstop(self, work: Work, epoch: int) -> bool:
        """Tell whether that instance was being stopped; it is gone now."""
        node = work.stopping.pop(epoch, None)
        if node is None:
            return False
        work.again.discard(epoch)
        self._by_stop.remove(node, (work.id, epoch))
        return True

    # -- Copies and peers --

    def _copy(self, work: Work, node: str, checkpoint: CheckpointInfo) -> None:
        if node not in work.copies:
            self._by_holder.add(node, work.id)
        work.copies[node] = checkpoint

    def _uncopy(self, work: Work, node: str) -> None:
        del work.copies[node]
        self._by_holder.remove(node, work.id)

    def _newest(self, work: Work) -> CheckpointInfo | None:
        """Return the newest checkpoint that is left, with its holders."""
        best = max(work.copies.values(), key=_version, default=None)
        if best is None:
            return None
        holders = (node for node, copy in work.copies.items() if _version(copy) == _version(best))
        return replace(best, nodes=tuple(holders))

    def _sources(self, work: Work, first: str | None) -> Addresses:
        """Return who may hold checkpoints: the newest first, `first` before its equals, then the last peers,
        which may have got one whose report was lost with its sender.
        """
        known = sorted(
            work.copies, key=lambda node: (_version(work.copies[node]), node == first), reverse=True
        )
        return self._addresses(dict.fromkeys([*known, *work.peers]))

    def heirs(self, sandbox: str) -> Addresses:
        """Return the nodes that get its checkpoints, one of which takes it over when its own is lost."""
        return self._addresses(self._work[sandbox].peers)

    def _addresses(self, nodes: Iterable[str]) -> Addresses:
        return tuple((node, self.nodes[node].address) for node in nodes if node in self.nodes)

    def _wish(self, work: Work, node: str | None, keep: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the peers that the sandbox should have on `node`: the living ones it has, then the next."""
        copies = work.record.spec.checkpoint.copies
        kept = tuple(peer for peer in keep if peer in self.nodes and peer != node)[:copies]
        if len(kept) == copies:
            return kept
        others = (name for name in self.nodes if name not in kept)
        return kept + peers_for(work.id, node, others, copies - len(kept))

    def _want_peers(self, work: Work, peers: tuple[str, ...]) -> None:
        for peer in work.peers:
            self._by_peer.remove(peer, work.id)
        for peer in peers:
            self._by_peer.add(peer, work.id)
        work.peers = peers
        self._mark_short(work)

    def _mark_short(self, work: Work) -> None:
        if work.phase in OWNED and len(work.peers) < work.record.spec.checkpoint.copies:
            self._short[work.id] = None
        else:
            self._short.pop(work.id, None)

    def _tell_peers(self, work: Work) -> None:
        """Tell the owner its peers where they are not those it knows; a starting one is told when it runs."""
        peers = self._addresses(work.peers)
        record = work.record
        if peers != work.told and work.phase in OWNED and work.phase != "starting":
            work.told = peers
            self._say(SetPeers(work.id, str(record.node), str(record.address), record.epoch, peers))


def _version(checkpoint: CheckpointInfo) -> tuple[int, int]:
    return checkpoint.epoch, checkpoint.seq
