"""Examples of the operations on supervisors."""

from __future__ import annotations

from arsenal_kit import Example, World
from examples_processes import opened


def one(world: World):
    return {"id": opened(world).id}


def desk(world: World):
    return {**one(world), "supervisor": "desk"}


# -- Looking


def of_one_sandbox(world: World):
    sandbox = opened(world, node="alpha")
    sandbox.pause_supervision("desk")
    return {"sandbox": sandbox.id, "node": "alpha", "paused": True}


def lists_the_paused(world: World, result, given) -> None:
    (row,) = result["supervisors"]
    assert (row["name"], row["paused"], row["details"]["children"]) == ("desk", True, ["ann", "bob"])
    assert result["nodes_successful"] == ["alpha"]


def is_the_tree(world: World, result, given) -> None:
    assert (result["total"], result["root"]["name"]) == (5, "shop")
    till, below = result["root"]["children"]
    assert (till["name"], till["type"]) == ("till", "worker")
    assert [child["id"] for child in below["children"]] == ["ann", "bob"]


def is_the_desk(world: World, result, given) -> None:
    row = result["supervisor"]
    assert (row["name"], row["strategy"], row["max_restarts"]) == ("desk", "one_for_one", 5)


def counted(world: World, result, given) -> None:
    assert result == {"specs": 2, "active": 2, "supervisors": 0, "workers": 2}


# -- How it decides


def other_options(world: World):
    return {**desk(world), "strategy": "one_for_all", "max_restarts": 9}


def has_them(world: World, result, given) -> None:
    sandbox = world.cluster.sandbox(given["id"])
    assert [result[when]["strategy"] for when in ("before", "after")] == ["one_for_one", "one_for_all"]
    info = sandbox.process("desk")
    assert (info.strategy, info.max_restarts, info.max_seconds) == ("one_for_all", 9, 60.0)
    before = sandbox.process("bob").pid
    sandbox.crash("ann")
    sandbox.which_children("desk")
    assert sandbox.process("bob").pid != before


def restarts_nobody(world: World, result, given) -> None:
    assert result["supervisor"]["paused"]
    sandbox = world.cluster.sandbox(given["id"])
    sandbox.terminate("ann")
    ann, bob = sandbox.which_children("desk")
    assert (ann.pid, ann.status) == (None, "exited")
    assert bob.pid is not None


def paused(world: World):
    given = desk(world)
    sandbox = world.cluster.sandbox(given["id"])
    sandbox.pause_supervision("desk")
    sandbox.terminate("ann")
    return given


def decides_again(world: World, result, given) -> None:
    assert result["decides_on"] == ["ann"]
    assert all(child["pid"] for child in result["children"])
    assert world.cluster.sandbox(given["id"]).process("ann").restarts == 1


EXAMPLES = {
    "list_supervisors": Example(of_one_sandbox, lists_the_paused),
    "get_supervision_tree": Example(one, is_the_tree),
    "get_supervisor": Example(desk, is_the_desk),
    "count_children": Example(desk, counted),
    "change_supervisor": Example(other_options, has_them),
    "pause_supervision": Example(desk, restarts_nobody),
    "resume_supervision": Example(paused, decides_again),
}
