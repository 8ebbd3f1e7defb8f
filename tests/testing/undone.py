"""Mistakes put back into the parts that are played: each must be caught by an invariant."""

from __future__ import annotations

from dataclasses import replace

from superlearner.core import control_leases
from superlearner.core.checkpoints import CheckpointStore
from superlearner.core.control import ControlState, Quiesced
from superlearner.core.durability import Holders, ReplyGate
from superlearner.core.lease import HeldLease
from superlearner.core.request_ids import RequestMemory
from superlearner.testing import Parts, instance
from superlearner.testing.checks import Checks
from superlearner.testing.instance import SimulatedInstance
from superlearner.testing.node import SimulatedNode
from superlearner.testing.plane import SimulatedPlane


class TrustingStore(CheckpointStore):
    """Takes what it is given, of whatever epoch."""

    def epoch(self, sandbox):
        return 0


class LeaseFromArrival(HeldLease):
    """Counts from when the grant came, not from when it was asked for."""

    def granted(self, number, now):
        if self._asked.pop(number, None) is None:
            return False
        self.until = max(self.until, now + self.length)
        return True


class AlwaysQuorum(ControlState):
    """Decides with whatever nodes are left."""

    @property
    def no_quorum(self):
        return None


class HastyGate(ReplyGate):
    """Lets answers go when their checkpoint is taken, not when it is stored."""

    def mark(self):
        mark = super().mark()
        self.stored(mark)
        return mark


class ForgetfulMemory(RequestMemory):
    """Does not go with the state."""

    def restore(self, remembered, now):
        pass


class OnlyOwners(Checks):
    """Does not look at leases, only at what comes of them."""

    def _outwaited(self, address):
        pass


class MovesWithoutQuorum(ControlState):
    """Goes on with a move whose quorum was lost meanwhile."""

    def _quiesced(self, event):
        work = self._quiescing(event)
        if work is not None:
            self._at_rest(work, event)


MovesWithoutQuorum._HANDLERS = {**ControlState._HANDLERS, Quiesced: MovesWithoutQuorum._quiesced}


def starts_of_any_life(monkeypatch):
    begin = SimulatedNode._begin
    monkeypatch.setattr(
        SimulatedNode, "_begin", lambda node, order: begin(node, replace(order, incarnation=node.incarnation))
    )


def clocks_of_one_speed(monkeypatch):
    monkeypatch.setattr(control_leases, "DRIFT", 0.0)


def state_of_a_namesake(monkeypatch):
    init = SimulatedInstance.__init__
    monkeypatch.setattr(
        SimulatedInstance, "__init__", lambda self, node, order: init(self, node, replace(order, above=0))
    )


class NobodyComesFirst(Holders):
    """Never has the registry told of a copy that is missing."""

    def must_tell(self, seq, asked, confirmed):
        return False


def registry_hears_of_it_later(monkeypatch):
    monkeypatch.setattr(instance, "Holders", NobodyComesFirst)


class FormerPeersForgotten(Holders):
    """Thinks of those only who get the copy of which the registry is told, though others have the same."""

    def must_tell(self, seq, asked, confirmed):
        self.latest = asked
        return super().must_tell(seq, asked, confirmed)

    def told(self, seq):
        super().told(seq)
        self._asked = dict.fromkeys(self.latest, seq)


def former_peers_are_forgotten(monkeypatch):
    monkeypatch.setattr(instance, "Holders", FormerPeersForgotten)


def what_has_ended_is_restarted(monkeypatch):
    restart = SimulatedInstance._restart

    async def anyway(instance):
        if instance.status in ("stopped", "failed"):
            instance.status = "running"
        return await restart(instance)

    monkeypatch.setattr(SimulatedInstance, "_restart", anyway)


def broken_means_gone(monkeypatch):
    async def ask_once(plane, i, *words):
        try:
            return await plane._commands.ask(i.address, "instance", i.sandbox, i.epoch, *words)
        except OSError as error:
            raise LookupError(*error.args) from error

    monkeypatch.setattr(SimulatedPlane, "_insist", ask_once)


def older_states_will_do(monkeypatch):
    init = SimulatedInstance.__init__
    monkeypatch.setattr(
        SimulatedInstance,
        "__init__",
        lambda self, node, order: init(self, node, replace(order, expects=None)),
    )


def moves_without_quorum(monkeypatch):
    monkeypatch.setattr(ControlState, "_HANDLERS", MovesWithoutQuorum._HANDLERS)


#: The fences: the mistake -> the parts that make it.
FENCES = {
    "the store trusts every epoch": Parts(store=TrustingStore),
    "a node is replaced when it is suspected": Parts(patience=lambda lease: lease / 2),
    "a node is replaced when it is suspected, seen by its sandboxes": Parts(
        patience=lambda lease: lease / 2, checks=OnlyOwners
    ),
    "a lease counts from the grant's arrival": Parts(lease=LeaseFromArrival),
    "the quorum is not asked for": Parts(machine=AlwaysQuorum),
    "an answer leaves before it is stored": Parts(gate=HastyGate),
    "request ids are forgotten on a restore": Parts(memory=ForgetfulMemory),
}
