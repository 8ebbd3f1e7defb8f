"""The invariants, checked after every step, by bookkeeping that knows nothing of how the machine decides.

Whatever the clocks of the cluster show, these use the true time and the true state of every process.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from superlearner.core import control as c
from superlearner.core.checkpoints import CheckpointVersion
from superlearner.core.history import Event

if TYPE_CHECKING:
    from superlearner.testing.cluster import SimulatedCluster
    from superlearner.testing.instance import SimulatedInstance, Written
    from superlearner.testing.node import SimulatedNode

ONE_OWNER = "no two instances of a sandbox hold a valid lease at the same time"
EPOCHS = "a name resolves to at most one (node, epoch), and epochs never go down"
DURABLE = "an acknowledged durable write is not lost while fewer nodes fail than there are copies"
INTENSITY = "nothing is restarted more often than its intensity allows"
LIVENESS = "once faults end and a quorum is back, every sandbox that should run does run"
NOTHING_LEFT = "nothing is left behind of what was stopped"
QUORUM = "without a quorum nothing is started"
OUTWAITED = "a silent node is given up only when its lease has surely ended"
ONCE = "a call takes effect at most once"
CONSISTENT = "the machine is consistent"
STALE = "a store accepts no checkpoint of an epoch that is over"


class Violation(Exception):
    """An invariant is broken.

    Parameters
    ----------
    invariant
        Which one, as a sentence.
    what
        How.
    """

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant, self.what = invariant, what


@dataclass(frozen=True, slots=True)
class _Ack:
    """An acknowledged write, and when it was."""

    written: Written
    at: float


class Checks:
    """What was seen of one simulated cluster."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._acks: defaultdict[str, list[_Ack]] = defaultdict(list)
        #: Destroyed sandbox -> its last epoch: what its instances still say counts no longer.
        self._over: dict[str, int] = {}
        #: Sandbox -> its highest epoch in the registry; (sandbox, epoch) -> its node.
        self._epochs: dict[str, int] = {}
        self._homes: dict[tuple[str, int], str] = {}
        #: Address -> when the control plane gave it up.
        self._given_up: dict[str, float] = {}
        #: Address -> the life of it that has joined last.
        self._lives: dict[str, int] = {}
        #: (address, sandbox) -> the lowest epoch that the store there may still take.
        self._fences: Counter[tuple[str, str]] = Counter()
        self._members: set[str] = set()
        self._heard: set[str] = set()
        #: Sandbox -> when a restart in the cluster was granted, by the control plane's clock.
        self._restarts: defaultdict[str, list[float]] = defaultdict(list)
        self._in_place: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
        self._executed: Counter[str] = Counter()

    def after_step(self) -> None:
        """Check what any step may break: that each sandbox has one owner."""
        for sandbox in self._cluster.twice:
            owners = [instance for instance in self._cluster.hosts[sandbox] if instance.answers]
            if len(owners) > 1:
                where = [f"{i.node.address} (epoch {i.epoch})" for i in owners]
                raise Violation(ONE_OWNER, f"{sandbox!r} answers on {' and on '.join(where)}")

    # -- The control plane --

    def handled(self, event: c.ControlEvent, out: Sequence[c.Instruction]) -> None:
        """Look at an event and at what the machine made of it."""
        if isinstance(event, c.NodeJoined):
            self._lives[event.address] = event.incarnation
        for instruction in out:
            match instruction:
                case c.StartInstance():
                    self._started(instruction)
                case c.GiveUpNode(_, address):
                    self._given_up[address] = self._cluster.engine.now
                    if isinstance(event, c.TimerFired):
                        self._outwaited(address)
                case c.Record(logged):
                    self._recorded(logged)
        self._count_restarts(event, out)

    def _outwaited(self, address: str) -> None:
        node = self._cluster.node_at(address)
        if node is not None and node.incarnation == self._lives[address] and node.lease.holds:
            left = node.lease.until - node.process.time()
            raise Violation(OUTWAITED, f"{address} is given up, and may answer for {left:.3f} s more")

    def _started(self, start: c.StartInstance) -> None:
        key = (start.spec.id, start.epoch)
        if key in self._homes:
            raise Violation(EPOCHS, f"epoch {start.epoch} of {start.spec.id!r} was given out twice")
        self._homes[key] = start.node
        if 2 * len(self._heard) <= len(self._members):
            seen = f"{len(self._heard)} of {len(self._members)} nodes are heard of"
            raise Violation(QUORUM, f"{start.spec.id!r} is started on {start.node!r} while {seen}")

    def _recorded(self, event: Event) -> None:
        match event.kind:
            case "node_joined" | "node_recovered":
                self._members.add(str(event.node))
                self._heard.add(str(event.node))
            case "node_suspected" | "node_lost":
                self._heard.discard(str(event.node))
            case "sandbox_destroyed":
                self._acks.pop(str(event.sandbox), None)
                self._restarts.pop(str(event.sandbox), None)
                self._over[str(event.sandbox)] = max(
                    epoch for sandbox, epoch in self._homes if sandbox == event.sandbox
                )

    def _count_restarts(self, event: c.ControlEvent, out: Sequence[c.Instruction]) -> None:
        if isinstance(event, c.RestartRequested):
            self._restarts.pop(event.sandbox, None)  # whoever asks gives it its whole budget again
        ended = {
            i.event.sandbox
            for i in out
            if isinstance(i, c.Record) and i.event.kind in ("sandbox_exited", "start_failed")
        }
        for sandbox in filter(None, ended):
            again = any(
                (isinstance(i, c.StartInstance) and i.spec.id == sandbox)
                or (isinstance(i, c.SetTimer) and i.token.startswith(f"{sandbox}#"))
                or (isinstance(i, c.Record) and (i.event.kind, i.event.sandbox) == ("sandbox_lost", sandbox))
                for i in out
            )
            if again:
                policy = self._cluster.plane.state.policy
                self._spend(
                    self._restarts[sandbox], event.at, policy.max_restarts, policy.max_seconds, sandbox
                )

    @staticmethod
    def _spend(spent: list[float], at: float, most: int, seconds: float, what: str) -> None:
        spent.append(at)
        recent = sum(at - seconds <= then for then in spent)
        if recent > most:
            raise Violation(INTENSITY, f"{what!r} was restarted {recent} times in {seconds} s, not {most}")

    def look_at_registry(self) -> None:
        """Compare the whole registry with what was seen of it before."""
        for sandbox, record in self._cluster.plane.state.sandboxes.items():
            if record.epoch < self._epochs.get(sandbox, 0):
                raise Violation(EPOCHS, f"the epoch of {sandbox!r} went down to {record.epoch}")
            self._epochs[sandbox] = record.epoch
            home = self._homes.get((sandbox, record.epoch))
            if record.node is not None and record.node != home:
                raise Violation(
                    EPOCHS, f"epoch {record.epoch} of {sandbox!r} is on {record.node}, not {home}"
                )

    # -- Nodes and instances --

    def stored(self, node: SimulatedNode, version: CheckpointVersion) -> None:
        """A store took a version."""
        key = (node.address, version.sandbox)
        if version.epoch < self._fences[key]:
            what = f"{node.address} took epoch {version.epoch} of {version.sandbox!r}"
            raise Violation(STALE, f"{what} after epoch {self._fences[key]}")
        self._fences[key] = version.epoch

    def dropped(self, node: SimulatedNode, sandbox: str, epoch: int) -> None:
        """A store dropped what it had of a destroyed sandbox."""
        key = (node.address, sandbox)
        self._fences[key] = max(self._fences[key], epoch + 1)

    def acknowledged(self, written: Written) -> None:
        """A node answers a call: what was written is promised to be kept."""
        if written.holders and written.epoch > self._over.get(written.sandbox, 0):
            self._acks[written.sandbox].append(_Ack(written, self._cluster.engine.now))

    def serving(self, instance: SimulatedInstance) -> None:
        """An instance begins to serve: it must have every write that some node still has, and no other."""
        over = self._over.get(instance.spec.id, 0)
        if instance.epoch > over >= instance.restored[0] > 0:
            what = f"epoch {instance.epoch} of {instance.spec.id!r} has the state of epoch {instance.restored[0]}"
            raise Violation(NOTHING_LEFT, f"{what}, which was destroyed")
        for ack in self._acks.get(instance.spec.id, ()):
            if ack.written.value > instance.value:
                kept = [address for address in ack.written.holders if self._has_it(address, ack)]
                if kept:
                    where = f"epoch {instance.epoch} on {instance.node.address}"
                    what = f"{ack.written}, which {kept} had, is not in {where}: {instance.value}"
                    raise Violation(DURABLE, what)

    def _has_it(self, address: str, ack: _Ack) -> bool:
        """Tell whether a holder has not failed since: neither died nor been given up. A cut link is no excuse."""
        return self._cluster.node_at(address) is not None and self._given_up.get(address, -1.0) < ack.at

    def restarted_in_place(self, instance: SimulatedInstance, ended_at: float) -> None:
        """An instance has started its host again by itself."""
        spec = instance.spec
        spent = self._in_place[instance.key]
        self._spend(
            spent, ended_at, spec.max_restarts, spec.max_seconds, f"{spec.id} on {instance.node.name}"
        )

    def executed(self, call: str) -> None:
        """An instance has carried a call out; the name of one with a request id ends with ``*``.

        That one may be carried out again where its effect was lost.
        """
        self._executed[call] += 1
        if self._executed[call] > 1 and not call.endswith("*"):
            raise Violation(ONCE, f"call {call} was carried out {self._executed[call]} times")

    def applied(self, instance: SimulatedInstance, call: str) -> None:
        """An instance carries a call with a request id out: its state must not have the effect of that yet."""
        if call in instance.applied:
            where = f"epoch {instance.epoch} on {instance.node.address}"
            raise Violation(ONCE, f"call {call} takes effect a second time in {where}")

    # -- The end --

    def unsettled(self) -> Violation | None:
        """Return what is not as it must be once everything has come to rest."""
        cluster = self._cluster
        wanted = set()
        for sandbox, record in cluster.plane.state.sandboxes.items():
            if record.status == "running":
                wanted.add((sandbox, record.epoch))
                live = [i for i in cluster.hosts.get(sandbox, ()) if i.answers and i.epoch == record.epoch]
                if not live:
                    return Violation(
                        LIVENESS, f"{sandbox!r} is said to run as epoch {record.epoch} and does not"
                    )
            elif record.status not in ("failed", "stopped"):
                return Violation(LIVENESS, f"{sandbox!r} is still {record.status}: {record.reason}")
        there = {key for node in cluster.nodes.values() for key in node.instances}
        hosts = {instance.key for instances in cluster.hosts.values() for instance in instances}
        if left := (there | hosts) - wanted:
            return Violation(NOTHING_LEFT, f"instances {sorted(left)} are left")
        if timers := [token for token in cluster.plane.timers if not token.startswith("lease of ")]:
            return Violation(NOTHING_LEFT, f"timers {timers} are left")
        if owed := list(cluster.plane.waiting):
            return Violation(NOTHING_LEFT, f"requests {owed} are not answered")
        return None
