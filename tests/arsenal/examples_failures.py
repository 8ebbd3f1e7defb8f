"""Examples of the operations on failures below supervisors."""

from __future__ import annotations

from arsenal_kit import Example, World
from examples_supervisors import desk
from trees import after


def with_a_restart(world: World):
    given = desk(world)
    sandbox = world.cluster.sandbox(given["id"])
    after(sandbox, "process_restarted", lambda: sandbox.crash("ann", "paper jam"))
    return given


def has_the_restart(world: World, result, given) -> None:
    (row,) = result["restarts"]
    assert (row["child"], row["reason"], row["outcome"]) == ("ann", "paper jam", "restarted")
    assert (row["restart"], row["budget_left"], row["strategy"]) == (1, 4, "one_for_one")
    assert row["new_pid"] == world.cluster.sandbox(given["id"]).process("ann").pid


def has_the_rate(world: World, result, given) -> None:
    assert (result["failures"], result["restarts"], result["spent"]) == (1, 1, 1)
    assert result["per_minute"] == 1.0
    assert (result["by_child"], result["by_reason"]) == ({"ann": 1}, {"paper jam": 1})


def a_child(world: World):
    return {**desk(world), "child": "bob", "reason": "paper jam"}


def has_failed(world: World, result, given) -> None:
    assert (result["target"], result["failed"], result["reason"]) == ("child", "bob", "paper jam")
    (again,) = [child["pid"] for child in result["children"] if child["id"] == "bob"]
    assert again == world.cluster.sandbox(given["id"]).process("bob").pid != result["pid"]


EXAMPLES = {
    "list_restarts": Example(with_a_restart, has_the_restart),
    "get_failure_rate": Example(with_a_restart, has_the_rate),
    "simulate_failure": Example(a_child, has_failed),
}
