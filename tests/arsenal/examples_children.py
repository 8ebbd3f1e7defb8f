"""Examples of the operations on the children of supervisors."""

from __future__ import annotations

from arsenal_kit import Example, World
from examples_supervisors import desk

COUNTER = "superlearner.cli.demo_app:Counter"


def ann(world: World):
    return {**desk(world), "child": "ann"}


def ended(world: World):
    given = ann(world)
    world.cluster.sandbox(given["id"]).terminate_child("desk", "ann")
    return given


def lists_two(world: World, result, given) -> None:
    assert [child["id"] for child in result["children"]] == ["ann", "bob"]


def is_ann(world: World, result, given) -> None:
    assert result["row"]["pid"] == world.cluster.sandbox(given["id"]).process("ann").pid


def a_counter(world: World):
    options = {"child": "counter", "name": "counter", "restart": "transient", "shutdown": 1.0}
    return {**desk(world), "start": COUNTER, "arguments": [41], **options}


def counts(world: World, result, given) -> None:
    sandbox = world.cluster.sandbox(given["id"])
    assert result["child"] == "counter"
    assert result["pid"] == sandbox.process("counter").pid
    assert sandbox.call("counter", "increment") == 42


def is_down(world: World, result, given) -> None:
    assert (result["row"]["pid"], result["row"]["status"]) == (None, "exited")
    assert world.cluster.sandbox(given["id"]).count_children("desk").active == 1


def runs_again(world: World, result, given) -> None:
    assert result["row"]["pid"] == world.cluster.sandbox(given["id"]).process("ann").pid


def is_forgotten(world: World, result, given) -> None:
    assert [child.id for child in world.cluster.sandbox(given["id"]).which_children("desk")] == ["bob"]


EXAMPLES = {
    "list_children": Example(desk, lists_two),
    "get_child": Example(ann, is_ann),
    "start_child": Example(a_counter, counts),
    "terminate_child": Example(ann, is_down),
    "restart_child": Example(ended, runs_again),
    "delete_child": Example(ended, is_forgotten),
}
