"""Examples of the operations on the cluster."""

from __future__ import annotations

from arsenal_kit import Example, World, nothing

import superlearner as sl

NODES = ["alpha", "beta", "gamma"]


def check_status(world: World, result, given) -> None:
    assert result["cluster"]["total_nodes"] == 3


def has_quorum(world: World, result, given) -> None:
    assert (result["quorum"], result["reachable"], result["known"], result["needed"]) == (True, 3, 3, 2)
    assert result["unreachable"] == []


def with_copies_and_a_cut(world: World):
    world.stored = world.sandbox(node="alpha")
    world.stored.checkpoint()
    world.afterwards(world.cluster.chaos.heal)
    world.cluster.chaos.cut("alpha", "beta", one_way=True)
    return {}


def shows_them(world: World, result, given) -> None:
    assert [place["name"] for place in result["nodes"]] == NODES
    assert world.stored.id in result["nodes"][0]["sandboxes"]
    assert [(cut["source"], cut["target"]) for cut in result["cuts"]] == [("alpha", "beta")]
    (to_gamma,) = (one for one in result["copies"] if (one["source"], one["target"]) == ("alpha", "gamma"))
    assert world.stored.id in to_gamma["sandboxes"]


def one_on_gamma(world: World):
    world.stored = world.sandbox(node="gamma")
    return {"node": "gamma", "limit": 1000}


def shows_its_tree(world: World, result, given) -> None:
    (mine,) = (tree for tree in result["trees"] if tree["id"] == world.stored.id)
    assert (mine["node"], mine["epoch"]) == ("gamma", 1)
    assert [child["name"] for child in mine["tree"]["children"]] == ["Counter"]
    assert result["failed"] == []


def shows_its_entry(world: World, result, given) -> None:
    (mine,) = (entry for entry in result["entries"] if entry["id"] == world.stored.id)
    assert (mine["node"], mine["epoch"], mine["status"]) == ("gamma", 1, "running")
    assert {entry["node"] for entry in result["entries"]} == {"gamma"}


def a_named_process(world: World):
    return {"target": f"{world.sandbox(node='beta').id}/Counter"}


def is_found(world: World, result, given) -> None:
    assert (result["found"], result["node"], result["epoch"]) == (True, "beta", 1)
    assert result["pid"] == str(world.cluster.whereis(given["target"]).pid)


def far_too_large(world: World):
    return {"resources": {"memory": "900000 GiB"}, "placement": "uniform"}


def no_node_takes_it(world: World, result, given) -> None:
    assert [row["node"] for row in result["rows"]] == NODES
    assert result["chosen"] is None
    assert all("memory" in row["reason"] for row in result["rows"])


def three_on_one(world: World):
    for _ in range(3):
        world.sandbox(node="alpha", resources=sl.Resources(cpu=0.4))
    return {}


def moves_off_it(world: World, result, given) -> None:
    assert result["moves"]
    assert result["moves"][0]["source"] == "alpha"


def a_plan(world: World):
    three_on_one(world)
    return {"plan": world.cluster.ops.plan_rebalance().plan}


def it_was_done(world: World, result, given) -> None:
    assert result["moved"]
    assert result["failed"] == []
    assert all(world.cluster.sandbox(m["sandbox"]).info().node == m["target"] for m in result["moved"])


def from_the_beginning(world: World):
    return {"node": world.sandbox(node="beta").info().node, "kind": "sandbox_created", "limit": 1}


def tells_the_first(world: World, result, given) -> None:
    first = world.cluster.events(kind="sandbox_created", node="beta")[0]
    assert [event["seq"] for event in result["events"]] == [first.seq] == [result["last"]]
    assert result["forgotten"] is False


EXAMPLES = {
    "cluster_status": Example(nothing, check_status),
    "cluster_quorum": Example(nothing, has_quorum),
    "cluster_topology": Example(with_copies_and_a_cut, shows_them),
    "cluster_trees": Example(one_on_gamma, shows_its_tree),
    "list_registry": Example(one_on_gamma, shows_its_entry),
    "whereis": Example(a_named_process, is_found),
    "explain_placement": Example(far_too_large, no_node_takes_it),
    "plan_rebalance": Example(three_on_one, moves_off_it),
    "rebalance": Example(a_plan, it_was_done),
    "list_events": Example(from_the_beginning, tells_the_first),
}
