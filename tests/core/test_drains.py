"""Nodes that are emptied before they are retired, and plans that even them out."""

from __future__ import annotations

from core_sim import Sim

from superlearner.core.control import QuiesceInstance, StartInstance
from superlearner.core.control_drains import TOGETHER, TRIES
from superlearner.core.control_records import SandboxRecord
from superlearner.core.loads import NodeLoad
from superlearner.core.rebalance import plan, pressure
from superlearner.core.spec import Resources, SandboxSpec
from superlearner.errors import DrainFailed, NoPlacement, UnknownNode


def cluster(*nodes, sandboxes=0):
    sim = Sim()
    for name in nodes:
        sim.join(name)
    for n in range(sandboxes):
        sim.create(f"s{n}", node=nodes[0])
    sim.rest()
    return sim


def at(sim, node):
    return sorted(id for id, record in sim.state.sandboxes.items() if record.node == node)


def test_an_empty_node_is_drained_at_once():
    sim = cluster("alpha", "beta")
    assert sim.values[sim.drain("alpha")] == ()


def test_everything_moves_off_a_few_at_a_time():
    sim = cluster("alpha", "beta", "gamma", sandboxes=10)
    cause = sim.drain("alpha")
    assert sum(isinstance(order, QuiesceInstance) for order in sim.orders) == TOGETHER
    sim.rest()
    assert at(sim, "alpha") == []
    assert sorted(sim.values[cause]) == [f"s{n}" for n in range(10)]
    assert all(record.restarts == 0 for record in sim.state.sandboxes.values()), (
        "a planned move is no restart"
    )
    assert [event.kind for event in sim.records if event.node == "alpha"][-1] == "node_drained"


def test_a_node_that_is_drained_gets_nothing_new():
    sim = cluster("alpha", "beta", sandboxes=1)
    sim.drain("alpha")
    refused = sim.values[sim.create("new", node="alpha")]
    assert isinstance(refused, NoPlacement)
    assert "drained" in refused.what()
    sim.rest()
    assert at(sim, "alpha") == []


def test_what_is_starting_there_is_waited_for_and_moved():
    sim = cluster("alpha", "beta")
    sim.create("shop", node="alpha")
    cause = sim.drain("alpha")
    assert cause not in sim.answers
    sim.rest()
    assert at(sim, "beta") == ["shop"]
    assert sim.values[cause] == ("shop",)


def test_a_sandbox_that_fits_nowhere_ends_the_drain_and_the_node_serves_on():
    sim = cluster("alpha", sandboxes=1)
    cause = sim.drain("alpha")
    assert isinstance(sim.values[cause], DrainFailed)
    assert "moved away: No node can take the sandbox 's0'" in sim.values[cause].what()
    assert at(sim, "alpha") == ["s0"]
    sim.create("new", node="alpha")
    sim.rest()
    assert at(sim, "alpha") == ["new", "s0"]


def test_a_move_that_fails_is_tried_again_before_the_drain_is_given_up():
    sim = cluster("alpha", "beta", sandboxes=1)
    cause = sim.drain("alpha")
    for _ in range(TRIES):
        assert cause not in sim.answers
        sim.perform(0)  # at rest
        sim.deliver(0)
        starts = [n for n, order in enumerate(sim.orders) if isinstance(order, StartInstance)]
        sim.perform(starts[0], well=False)
        while sim.reports:
            sim.deliver(0)
    assert "could not be moved away: no luck." in sim.values[cause].what()
    sim.rest()
    assert at(sim, "alpha") == ["s0"]


def test_a_node_that_is_lost_meanwhile_ends_the_drain():
    sim = cluster("alpha", "beta", sandboxes=2)
    cause = sim.drain("alpha")
    sim.lose("alpha")
    assert str(sim.values[cause]).endswith(
        "it was lost meanwhile. Its sandboxes go on elsewhere, from their newest checkpoints."
    )
    assert "lost" in sim.values[cause].what()
    sim.rest()
    assert at(sim, "beta") == ["s0", "s1"]


def test_what_cannot_be_drained_is_refused():
    sim = cluster("alpha", "beta", sandboxes=1)
    assert type(sim.values[sim.drain("delta")]) is UnknownNode
    sim.drain("alpha")
    assert "already" in sim.values[sim.drain("alpha")].what()


def test_without_a_majority_nothing_is_drained():
    sim = cluster("alpha", "beta")
    sim.state.policy = type(sim.state.policy)(partition="quorum")
    sim.lose("beta")
    assert sim.values[sim.drain("alpha")].code == "no_quorum"


# -- Plans ------------------------------------------------------------------------------------------


def records(node, *ids, status="running", **options):
    return [SandboxRecord(id, SandboxSpec(id, **options), status, node, f"tcp://{node}", 1) for id in ids]


def loads(records, *nodes):
    made = {name: NodeLoad(name, memory_total=1000, cpus=2.0) for name in nodes}
    for record in records:
        made[record.node] = made[record.node].reserve(record.spec)
    return list(made.values())


def test_a_plan_evens_out_the_nodes_and_stops():
    here = records("alpha", *"abcdef")
    moves = plan(here, loads(here, "alpha", "beta", "gamma"))
    assert [move.source for move in moves] == ["alpha"] * 4
    assert sorted(move.target for move in moves) == ["beta", "beta", "gamma", "gamma"]
    assert moves[0].reason == "alpha is 30% full and beta 0%"


def test_balanced_nodes_stay_as_they_are():
    here = records("alpha", "a") + records("beta", "b")
    assert plan(here, loads(here, "alpha", "beta")) == []
    assert plan([], []) == []


def test_only_what_runs_is_moved_and_only_where_it_fits():
    resting = records("alpha", "a", "b", status="restarting")
    assert plan(resting, loads(resting, "alpha", "beta")) == []
    large = records("alpha", "a", "b", resources=Resources(memory=400))
    small = NodeLoad("beta", memory_total=300)
    assert plan(large, [*loads(large, "alpha"), small]) == []


def test_the_fuller_of_memory_and_cores_counts():
    assert pressure(NodeLoad("alpha", memory_total=100, reserved_memory=50, reserved_cpu=0.1)) == 0.5
    assert pressure(NodeLoad("alpha", reserved_cpu=0.1)) == 0.1


def test_a_plan_keeps_apart_what_its_labels_keep_apart():
    db = {"labels": {"app": "db"}, "anti_affinity": {"app": "db"}}
    here = [
        SandboxRecord("one", SandboxSpec("one", **db), "running", "alpha", "tcp://alpha", 1),
        SandboxRecord("web", SandboxSpec("web"), "running", "alpha", "tcp://alpha", 1),
        SandboxRecord(
            "two", SandboxSpec("two", resources=Resources(cpu=0.0), **db), "running", "beta", "tcp://beta", 1
        ),
    ]
    lost = SandboxRecord("lost", SandboxSpec("lost", **db), "lost", None, None, 1)
    moves = plan([*here, lost], loads(here, "alpha", "beta"))
    assert [move.sandbox for move in moves] == ["web"]
