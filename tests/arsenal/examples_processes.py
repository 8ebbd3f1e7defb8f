"""Examples of the operations on processes."""

from __future__ import annotations

import pytest
from arsenal_kit import Example, World
from trees import shop

import superlearner as sl


def opened(world: World, **options):
    return world.cluster.create_sandbox(world.fresh(), shop(), **options)


def clerk(world: World):
    return {"id": opened(world).id, "process": "ann"}


# -- Looking


def one_sandbox(world: World):
    return {"sandbox": opened(world, node="gamma").id, "node": "gamma", "sort": "messages", "details": True}


def lists_it(world: World, result, given) -> None:
    rows = result["processes"]
    assert {row["name"] for row in rows} == {"shop", "till", "desk", "ann", "bob"}
    assert [row["messages"] for row in rows] == sorted((row["messages"] for row in rows), reverse=True)
    assert (result["total"], result["next"]) == (5, None)
    assert (result["nodes_queried"], result["nodes_failed"], result["sandbox_failures"]) == (
        ["gamma"],
        [],
        [],
    )
    (ann,) = [row for row in rows if row["name"] == "ann"]
    assert ann["details"]["path"] == ["desk", "ann"]


def some_keys(world: World):
    return {**clerk(world), "keys": ["name", "path", "mailbox", "sandbox"]}


def has_the_keys(world: World, result, given) -> None:
    assert result["process"] == {"name": "ann", "path": ["desk", "ann"], "mailbox": 0, "sandbox": given["id"]}


# -- Ending


def a_pid(world: World):
    sandbox = opened(world, node="beta")
    return {"node": "beta", "pid": sandbox.process("till").pid, "reason": "tired"}


def is_dead(world: World, result, given) -> None:
    assert (result["terminated"], result["pid"], result["node"]) == (True, given["pid"], "beta")
    assert result["reason"] == "tired"
    sandbox = world.cluster.sandbox(given["pid"].split(".")[1])
    with pytest.raises(sl.NoProcess):
        sandbox.process(given["pid"])
    sandbox.which_children("shop")  # its supervisor has decided by then
    assert sandbox.process("till").restarts == 1


# -- Holding


def holds(world: World, result, given) -> None:
    sandbox = world.cluster.sandbox(given["id"])
    assert result["suspended"]
    assert result["pid"] == sandbox.process("ann").pid
    with pytest.raises(sl.CallTimeout):
        sandbox.call("ann", "hello", timeout=0.01)


def held(world: World):
    given = clerk(world)
    world.cluster.sandbox(given["id"]).suspend("ann")
    return given


def goes_on(world: World, result, given) -> None:
    assert not result["suspended"]
    assert world.cluster.sandbox(given["id"]).call("ann", "hello") == "hello"


EXAMPLES = {
    "list_processes": Example(one_sandbox, lists_it),
    "get_process": Example(some_keys, has_the_keys),
    "terminate_process": Example(a_pid, is_dead),
    "suspend_process": Example(clerk, holds),
    "resume_process": Example(held, goes_on),
}
