"""Leases and quorum in the control machine: who is suspected, who is replaced, and when nothing may be decided."""

from __future__ import annotations

import pytest

from superlearner.core.control import (
    CheckpointStored,
    ControlPolicy,
    ControlState,
    CreateRequested,
    DestroyRequested,
    GiveUpNode,
    GrantLease,
    InstanceStarted,
    InstanceStopped,
    MoveRequested,
    NodeForgotten,
    NodeHeard,
    NodeJoined,
    NodeLost,
    Quiesced,
    Record,
    Refuse,
    Rejoin,
    RestartRequested,
    ResumeInstance,
    SetTimer,
    StartInstance,
    TimerFired,
)
from superlearner.core.control_leases import DRIFT, MARGIN
from superlearner.core.lease import HeldLease
from superlearner.core.snapshots import LeaseInfo
from superlearner.core.spec import SandboxSpec
from superlearner.errors import NoQuorum

LEASE = 3.0


class Cluster:
    """The machine with a clock of its own, whose timers fire in time."""

    def __init__(self, *nodes, lease=LEASE, partition="quorum"):
        self.state = ControlState(ControlPolicy(lease=lease, partition=partition))
        self.now = 0.0
        self.timers = []
        self.records = []
        for node in nodes:
            self.join(node)

    def tell(self, kind, *fields, **more):
        out = self.state.handle(kind(*fields, cause="test", at=self.now, **more))
        self.state.validate()
        self.timers += [(self.now + i.delay, i.token) for i in out if isinstance(i, SetTimer)]
        self.records += [i.event for i in out if isinstance(i, Record)]
        return out

    def join(self, node, incarnation=1):
        return self.tell(NodeJoined, node, f"tcp://{node}", incarnation=incarnation)

    def hear(self, *nodes, incarnation=1):
        return [i for n in nodes for i in self.tell(NodeHeard, n, f"tcp://{n}", incarnation, 7)]

    def lose(self, node):
        return self.tell(NodeLost, node, f"tcp://{node}")

    def wait(self, seconds, *heard):
        """Let time pass in small steps, in which these nodes are heard of."""
        out, end = [], self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(end, self.now + 0.025)
            out += self.hear(*heard)
            for due in sorted(t for t in self.timers if t[0] <= self.now):
                self.timers.remove(due)
                out += self.tell(TimerFired, due[1])
        return out

    def run(self, sandbox, node="auto"):
        self.tell(CreateRequested, SandboxSpec(sandbox, node=node))
        return self.started(sandbox)

    def started(self, sandbox):
        record = self.state.sandboxes[sandbox]
        return self.tell(InstanceStarted, sandbox, record.node, record.epoch, 1)

    def kinds(self):
        return [event.kind for event in self.records]


def of(kind, out):
    return [i for i in out if isinstance(i, kind)]


def test_a_node_that_asks_gets_its_lease():
    cluster = Cluster("alpha")
    assert cluster.hear("alpha") == [GrantLease("alpha", "tcp://alpha", 7)]


def test_a_node_that_is_heard_of_is_never_suspected():
    cluster = Cluster("alpha", "beta")
    cluster.wait(60, "alpha", "beta")
    assert set(cluster.state.nodes) == {"alpha", "beta"}
    assert "node_suspected" not in cluster.kinds()


def test_how_a_lease_stands_can_be_seen_until_its_node_is_lost():
    cluster = Cluster("alpha", "beta", "gamma")
    cluster.wait(1.0, "alpha")
    over = LEASE * (1 + DRIFT) + MARGIN
    assert cluster.state.lease_of("alpha") == LeaseInfo(1.0, 1.0 + over)
    cluster.wait(1.0, "alpha")
    assert cluster.state.lease_of("beta") == LeaseInfo(0.0, over, suspected=True)
    assert cluster.state.reach == (1, 3)
    cluster.lose("beta")
    assert cluster.state.lease_of("beta") is None
    assert Cluster("alpha", lease=None).state.lease_of("alpha") is None


def test_a_silent_node_is_suspected_after_half_of_its_lease_and_replaced_after_all_of_it():
    cluster = Cluster("alpha", "beta", "gamma")
    cluster.run("shop", "alpha")
    assert of(StartInstance, cluster.wait(LEASE / 2 - 0.2, "beta", "gamma")) == []
    assert not cluster.state.nodes["alpha"].suspected
    cluster.wait(0.3, "beta", "gamma")
    assert cluster.state.nodes["alpha"].suspected
    assert of(StartInstance, cluster.wait(LEASE / 2 - 0.2, "beta", "gamma")) == [], "its lease may still hold"
    (start,) = of(StartInstance, cluster.wait(0.3, "beta", "gamma"))
    assert start.epoch == 2
    assert start.node in {"beta", "gamma"}
    lost = [event for event in cluster.records if event.kind == "node_lost"]
    assert [event.node for event in lost] == ["alpha"]
    assert lost[0].at >= LEASE * (1 + DRIFT) + MARGIN


def test_a_suspected_node_that_speaks_in_time_has_recovered():
    cluster = Cluster("alpha", "beta")
    cluster.wait(LEASE - 0.5, "beta")
    assert cluster.state.nodes["alpha"].suspected
    assert cluster.hear("alpha") == [
        Record(cluster.records[-1]),
        GrantLease("alpha", "tcp://alpha", 7),
    ]
    assert cluster.kinds()[-1] == "node_recovered"
    cluster.wait(10, "alpha", "beta")
    assert set(cluster.state.nodes) == {"alpha", "beta"}


def test_a_node_that_was_given_up_must_join_anew():
    cluster = Cluster("alpha", "beta", "gamma")
    given_up = of(GiveUpNode, cluster.wait(LEASE + 0.2, "beta", "gamma"))
    assert given_up == [GiveUpNode("alpha", "tcp://alpha")]
    assert cluster.hear("alpha") == [Rejoin("alpha", "tcp://alpha", 1)]
    cluster.join("alpha", incarnation=2)
    assert cluster.hear("alpha", incarnation=2) == [GrantLease("alpha", "tcp://alpha", 7)]
    assert cluster.hear("alpha", incarnation=1) == [Rejoin("alpha", "tcp://alpha", 1)], (
        "late words of its former life"
    )


def test_a_node_that_stopped_everything_by_itself_loses_what_it_carried():
    cluster = Cluster("alpha", "beta", "gamma")
    cluster.run("shop", "alpha")
    out = cluster.join("alpha", incarnation=2)
    assert [i.epoch for i in of(StartInstance, out)] == [2]
    assert "node_lost" in cluster.kinds()


def test_a_machine_that_was_held_up_reads_before_it_judges():
    cluster = Cluster("alpha", "beta", "gamma")
    cluster.now = 20.0  # nothing ran meanwhile, neither its timers nor the news of its nodes
    for due in sorted(cluster.timers):
        cluster.timers.remove(due)
        cluster.tell(TimerFired, due[1])
    assert cluster.hear("alpha", "beta", "gamma") == [
        GrantLease(n, f"tcp://{n}", 7) for n in cluster.state.nodes
    ]
    cluster.wait(10, "alpha", "beta", "gamma")
    assert not {"node_suspected", "node_lost"} & set(cluster.kinds())


def test_a_lost_node_leaves_no_timer():
    cluster = Cluster("alpha", "beta", "gamma")
    cluster.lose("alpha")
    cluster.wait(10, "beta", "gamma")
    assert cluster.kinds().count("node_lost") == 1


def test_without_leases_silence_means_nothing():
    cluster = Cluster("alpha", lease=None)
    assert cluster.timers == []


# -- Quorum -----------------------------------------------------------------------------------------


def refusals(out):
    return [i.error.code for i in of(Refuse, out)]


def test_without_a_majority_nothing_is_created_or_moved():
    cluster = Cluster("alpha", "beta", "gamma")
    cluster.run("shop", "alpha")
    cluster.lose("beta")
    assert of(Refuse, cluster.run("bank")) == []
    cluster.lose("gamma")
    for request in ((CreateRequested, SandboxSpec("third")), (MoveRequested, "shop", "auto")):
        (refused,) = of(Refuse, cluster.tell(*request))
        assert refused.error.args == NoQuorum(1, 3).args
    assert cluster.state.sandboxes["shop"].status == "running", "what holds a lease goes on"


def test_without_a_majority_nothing_fails_over_until_it_is_back():
    cluster = Cluster("alpha", "beta", "gamma")
    cluster.run("shop", "alpha")
    cluster.lose("beta")
    out = cluster.lose("alpha")
    assert of(StartInstance, out) == []
    assert cluster.state.sandboxes["shop"].status == "lost"
    assert "no quorum" in cluster.state.sandboxes["shop"].reason
    (start,) = of(StartInstance, cluster.join("beta", incarnation=2))
    assert start.epoch == 2
    assert of(Refuse, cluster.started("shop")) == []


def test_restarting_what_is_down_needs_a_majority_too():
    cluster = Cluster("alpha", "beta", "gamma")
    cluster.run("shop", "alpha")
    cluster.lose("beta")
    cluster.lose("alpha")
    assert refusals(cluster.tell(RestartRequested, "shop")) == ["no_quorum"]


def test_a_creation_under_way_is_refused_when_the_majority_goes():
    cluster = Cluster("alpha", "beta", "gamma")
    cluster.lose("beta")
    cluster.tell(CreateRequested, SandboxSpec("shop", node="alpha"))
    assert refusals(cluster.lose("alpha")) == ["no_quorum"]


def test_a_node_that_is_forgotten_counts_no_longer():
    cluster = Cluster("alpha", "beta", "gamma")
    cluster.run("shop", "gamma")
    cluster.lose("gamma")
    cluster.started("shop")
    cluster.lose("beta")
    assert cluster.state.no_quorum is not None
    cluster.tell(NodeForgotten, "alpha")
    assert set(cluster.state.members) == {"alpha", "beta", "gamma"}, "it is there"
    cluster.tell(NodeForgotten, "gamma")
    assert cluster.state.no_quorum is not None, "one of two is no majority"
    cluster.tell(NodeForgotten, "beta")
    assert cluster.state.no_quorum is None
    assert refusals(cluster.tell(CreateRequested, SandboxSpec("bank"))) == []


@pytest.mark.parametrize("partition", ["quorum", "availability"])
def test_the_policy_decides_whether_the_rest_goes_on(partition):
    cluster = Cluster("alpha", "beta", "gamma", partition=partition)
    cluster.run("shop", "alpha")
    out = cluster.wait(LEASE + 0.5, "gamma")
    assert [i.node for i in of(StartInstance, out)] == ["gamma"] * (partition == "availability")


def test_the_recovery_of_a_suspected_node_can_bring_the_quorum_back():
    cluster = Cluster("alpha", "beta", "gamma")
    cluster.run("shop", "alpha")
    cluster.wait(0.5, "beta", "gamma")
    cluster.wait(LEASE - 0.3, "gamma")
    assert cluster.state.sandboxes["shop"].status == "lost", "alpha is gone, and beta is suspected"
    assert [i.epoch for i in of(StartInstance, cluster.hear("beta"))] == [2]


def test_a_suspected_node_gets_nothing_new():
    cluster = Cluster("alpha", "beta", "gamma")
    cluster.wait(LEASE - 0.5, "beta", "gamma")
    (refused,) = of(Refuse, cluster.tell(CreateRequested, SandboxSpec("shop", node="alpha")))
    assert "suspected" in refused.error.what()


def test_a_move_whose_quorum_is_lost_while_it_comes_to_rest_is_rolled_back():
    cluster = Cluster("alpha", "beta", "gamma")
    cluster.run("shop", "alpha")
    cluster.tell(MoveRequested, "shop", "beta")
    cluster.wait(LEASE / 2 + 0.1, "alpha")
    out = cluster.state.handle(Quiesced("shop", 1, 1, 10, cause="test", at=cluster.now))
    assert of(StartInstance, out) == []
    assert of(ResumeInstance, out) == [ResumeInstance.match(sandbox="shop", node="alpha", epoch=1)]
    assert cluster.state.sandboxes["shop"].status == "running"


def test_a_start_says_for_which_life_of_its_node_it_is_meant():
    cluster = Cluster("alpha", "beta", "gamma")
    cluster.join("alpha", incarnation=2)
    (start,) = of(StartInstance, cluster.tell(CreateRequested, SandboxSpec("shop", node="alpha")))
    assert (start.node, start.incarnation) == ("alpha", 2)


def test_a_sandbox_of_a_destroyed_ones_name_takes_none_of_its_checkpoints():
    cluster = Cluster("alpha", "beta", "gamma")
    cluster.run("shop", "alpha")
    cluster.tell(DestroyRequested, "shop")
    cluster.tell(InstanceStopped, "shop", 1)
    (start,) = of(StartInstance, cluster.tell(CreateRequested, SandboxSpec("shop")))
    assert (start.epoch, start.above) == (2, 1)


def test_a_held_lease_without_a_length_takes_no_grants():
    lease = HeldLease(None)
    lease.begin(now=1.0)
    assert lease.holds(now=1e9)
    assert not lease.granted(lease.ask(now=2.0), now=3.0)
    assert not lease.granted(7, now=3.0), "it has not asked for that"


def test_a_lease_that_has_ended_takes_no_grant_for_what_was_asked_before():
    lease = HeldLease(3.0)
    lease.begin(now=0.0)
    number = lease.ask(now=1.0)
    lease.end()
    assert not lease.granted(number, now=1.5)
    assert lease.until == 3.0


def test_a_start_expects_the_newest_checkpoint_that_a_living_node_holds():
    cluster = Cluster("alpha", "beta", "gamma")
    cluster.run("shop", "alpha")
    cluster.tell(CheckpointStored, "shop", 1, 4, 10, ("alpha", "beta"))
    cluster.tell(CheckpointStored, "shop", 1, 5, 10, ("alpha",))
    (start,) = of(StartInstance, cluster.lose("alpha"))
    assert start.expects == (1, 4), "the newer one was lost with its only holder"
    cluster.started("shop")
    cluster.tell(MoveRequested, "shop", "gamma" if start.node == "beta" else "beta")
    out = cluster.state.handle(Quiesced("shop", 2, 7, 10, cause="test", at=cluster.now))
    assert [i.expects for i in of(StartInstance, out)] == [(2, 7)]
