"""Which sandboxes would move so that the nodes carry equal shares: a plan, for a person to look at first."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from superlearner.core.control_labels import Labels
from superlearner.core.loads import NodeLoad, Ranking
from superlearner.core.placement import place
from superlearner.core.spec import SandboxSpec

if TYPE_CHECKING:
    from superlearner.core.control_records import SandboxRecord

#: A move must take this share of a node off the fullest one: less is not worth a pause.
WORTH = 0.02


class Suggestion(NamedTuple):
    """One move of a plan."""

    sandbox: str
    source: str
    target: str
    reason: str


def pressure(load: NodeLoad) -> float:
    """Return how full a node is by what its sandboxes reserve, as a share of it: memory or cores, the fuller."""
    memory = load.reserved_memory / load.memory if load.memory else 0.0
    return max(memory, load.reserved_cpu / load.cpus)


def plan(records: Iterable[SandboxRecord], loads: Iterable[NodeLoad]) -> list[Suggestion]:
    """Return the moves, in order, that take the fullest node nearer to the emptiest, until none is worth it.

    Only sandboxes that run are moved, each once, and only where placement lets them.

    >>> from superlearner.core.control_records import SandboxRecord
    >>> loads = [NodeLoad("alpha", reserved_cpu=0.2, sandboxes=2), NodeLoad("beta")]
    >>> spec = SandboxSpec("shop")
    >>> plan([SandboxRecord("shop", spec, "running", "alpha", "tcp://a", 1)], loads)[0][:3]
    ('shop', 'alpha', 'beta')
    """
    nodes = {load.node: load for load in loads}
    carried: dict[str, dict[str, SandboxSpec]] = {name: {} for name in nodes}
    labels = Labels()
    for record in records:
        if record.node is not None:
            labels.add(record.node, record.spec)
        if record.status == "running" and record.node in carried:
            carried[record.node][record.id] = record.spec
    moves: list[Suggestion] = []
    while (move := _best(nodes, carried, labels)) is not None:
        moves.append(move)
        spec = carried[move.source].pop(move.sandbox)
        nodes[move.source] = nodes[move.source].release(spec, fresh=False)
        nodes[move.target] = nodes[move.target].reserve(spec)
        labels.remove(move.source, spec)
        labels.add(move.target, spec)
    return moves


def _best(
    nodes: dict[str, NodeLoad], carried: dict[str, dict[str, SandboxSpec]], labels: Labels
) -> Suggestion | None:
    """Return the move that leaves the two nodes it concerns the least full, or None when none is worth it."""
    best: tuple[float, Suggestion] | None = None
    for source in sorted(nodes.values(), key=pressure, reverse=True)[:1]:
        before = pressure(source)
        for sandbox, spec in sorted(carried[source.node].items()):
            for target in sorted(nodes.values(), key=lambda load: (pressure(load), load.node)):
                neighbour = partial(labels.neighbour, spec)
                only = Ranking([target])
                if target.node == source.node or place(spec, only, neighbour=neighbour).node is None:
                    continue
                after = max(pressure(source.release(spec, fresh=False)), pressure(target.reserve(spec)))
                if before - after >= WORTH and (best is None or after < best[0]):
                    reason = f"{source.node} is {before:.0%} full and {target.node} {pressure(target):.0%}"
                    best = (after, Suggestion(sandbox, source.node, target.node, reason))
                break
    return None if best is None else best[1]
