"""Examples of the operations on many sandboxes at once."""

from __future__ import annotations

from arsenal_kit import Example, World

COUNTER = "superlearner.cli.demo_app:Counter"


def two_and_one_that_exists(world: World):
    there = world.sandbox().id
    return {"sandboxes": [{"id": id, "application": COUNTER} for id in (world.fresh(), there, world.fresh())]}


def two_were_made(world: World, result, given) -> None:
    first, there, last = (wanted["id"] for wanted in given["sandboxes"])
    assert [row["id"] for row in result["created"]] == [first, last]
    (failed,) = result["failed"]
    assert (failed["id"], failed["error"]["code"]) == (there, "sandbox_exists")


def two_and_nobody(world: World):
    return {"ids": [world.sandbox().id, "nobody", world.sandbox().id]}


def two_are_gone(world: World, result, given) -> None:
    assert result["destroyed"] == [given["ids"][0], given["ids"][2]]
    assert [one["error"]["code"] for one in result["failed"]] == ["no_sandbox"]
    assert not {info.id for info in world.cluster.sandboxes()} & set(result["destroyed"])


def calls(world: World):
    a, b = world.sandbox().id, world.sandbox().id
    targets = [f"{a}/Counter", f"{b}/Counter", f"{a}/nobody"]
    return {"calls": [{"target": target, "request": "increment"} for target in targets]}


def two_have_answered(world: World, result, given) -> None:
    assert [one["reply"] for one in result["answered"]] == [1, 1]
    assert [one["error"]["code"] for one in result["failed"]] == ["no_process"]


EXAMPLES = {
    "create_sandboxes": Example(two_and_one_that_exists, two_were_made),
    "destroy_sandboxes": Example(two_and_nobody, two_are_gone),
    "call_sandboxes": Example(calls, two_have_answered),
}
