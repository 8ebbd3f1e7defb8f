"""Examples of the operations on messages and states."""

from __future__ import annotations

from arsenal_kit import Example, World
from examples_processes import clerk


def a_tuple(world: World):
    return {**clerk(world), "message": {"tuple": ["add", 5]}}


def is_added(world: World, result, given) -> None:
    assert result == {"form": "call", "reply": {"tuple": ["added", 5]}, "in_words": []}
    assert world.cluster.sandbox(given["id"]).get_state("ann") == [5]


def with_a_state(world: World):
    given = clerk(world)
    world.cluster.sandbox(given["id"]).cast("ann", "hello")
    return given


def is_told(world: World, result, given) -> None:
    assert result == {"value": [{"tuple": ["cast", "hello"]}], "in_words": []}


def another_state(world: World):
    return {**clerk(world), "value": [{"tuple": ["x", None]}, {"y": 1.5}]}


def is_replaced(world: World, result, given) -> None:
    assert result == {"value": given["value"], "in_words": []}
    assert world.cluster.sandbox(given["id"]).get_state("ann") == [("x", None), {"y": 1.5}]


EXAMPLES = {
    "send_message": Example(a_tuple, is_added),
    "get_process_state": Example(with_a_state, is_told),
    "replace_process_state": Example(another_state, is_replaced),
}
