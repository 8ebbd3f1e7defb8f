"""Examples of the operations on traces."""

from __future__ import annotations

import pytest
from arsenal_kit import Example, World
from examples_processes import opened

from superlearner.errors import NoTrace


def a_shop(world: World):
    return {"id": opened(world).id, "duration": 30.0, "limit": 100, "only": ["ann"]}


def takes(world: World, result, given) -> None:
    sandbox = world.cluster.sandbox(given["id"])
    sandbox.call("bob", "hello")
    sandbox.call("ann", "hello")
    assert {event.message for event in sandbox.read_trace(result["trace"]).events} == {"'hello'"}
    assert sandbox.stop_trace(result["trace"]).total == 4


def taken(world: World):
    sandbox = opened(world)
    id = sandbox.start_trace()
    sandbox.call("ann", ("add", 5))
    return {"id": sandbox.id, "trace": id}


def in_parts(world: World):
    return {**taken(world), "since": 1, "limit": 2}


def is_the_middle(world: World, result, given) -> None:
    assert (result["running"], result["total"], result["next"]) == (True, 4, 3)
    assert [(event["kind"], event["form"]) for event in result["events"]] == [
        ("receive", "call"),
        ("send", "reply"),
    ]
    assert "takes from" in result["text"].splitlines()[0]


def is_over(world: World, result, given) -> None:
    assert (result["running"], result["total"], len(result["events"])) == (False, 4, 4)
    with pytest.raises(NoTrace):
        world.cluster.sandbox(given["id"]).read_trace(given["trace"])


EXAMPLES = {
    "start_trace": Example(a_shop, takes),
    "read_trace": Example(in_parts, is_the_middle),
    "stop_trace": Example(taken, is_over),
}
