"""Examples of the operations on sandboxes."""

from __future__ import annotations

from arsenal_kit import Example, World


def one(world: World):
    return {"id": world.sandbox().id}


def is_it(world: World, result, given) -> None:
    assert result["sandbox"]["id"] == given["id"]


EXAMPLES = {"get_sandbox": Example(one, is_it)}
