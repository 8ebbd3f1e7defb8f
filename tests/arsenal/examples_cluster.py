"""Examples of the operations on the cluster."""

from __future__ import annotations

from arsenal_kit import Example, World, nothing


def check_status(world: World, result, given) -> None:
    assert result["cluster"]["total_nodes"] == 3


EXAMPLES = {"cluster_status": Example(nothing, check_status)}
