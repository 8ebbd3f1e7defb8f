"""Examples of the operations on nodes."""

from __future__ import annotations

from arsenal_kit import Example, World, nothing


def lists_three(world: World, result, given) -> None:
    assert [node["name"] for node in result["nodes"]] == ["alpha", "beta", "gamma"]
    assert (result["total"], result["next"]) == (3, None)


def beta(world: World):
    return {"name": "beta"}


def is_beta(world: World, result, given) -> None:
    (info,) = (node for node in world.cluster.nodes() if node.name == "beta")
    assert (result["node"]["address"], result["node"]["pid"]) == (info.address, info.pid)


def a_name(world: World):
    name = world.fresh()
    world.afterwards(lambda: world.cluster.remove_node(name))
    return {"name": name, "labels": {"made": "by an example"}}


def has_joined(world: World, result, given) -> None:
    assert (result["node"]["status"], result["node"]["labels"]) == ("up", given["labels"])
    assert given["name"] in world.cluster.status().nodes


def one_more(world: World):
    name = world.fresh()
    world.cluster.add_node(name)

    def take_away() -> None:
        if name in world.cluster.status().nodes:
            world.cluster.remove_node(name)

    world.afterwards(take_away)
    world.stored = world.sandbox(node=name)
    world.stored.call("Counter", "increment")
    return {"name": name}


def is_empty_and_gone(world: World, result, given) -> None:
    assert result["moved"] == [world.stored.id]
    assert given["name"] not in world.cluster.status().nodes
    assert world.stored.get_state("Counter") == 1


def is_gone(world: World, result, given) -> None:
    assert given["name"] not in world.cluster.status().nodes
    assert world.stored.call("Counter", "increment", timeout=20.0) >= 1


EXAMPLES = {
    "list_nodes": Example(nothing, lists_three),
    "get_node": Example(beta, is_beta),
    "add_node": Example(a_name, has_joined),
    "drain_node": Example(one_more, is_empty_and_gone),
    "remove_node": Example(one_more, is_gone),
}
