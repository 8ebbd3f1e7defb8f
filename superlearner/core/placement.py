"""Where a sandbox goes: filters refuse nodes, scores rank the others, and every choice can be explained.

A node's score is its own matter, whoever it is compared with. So the nodes can be kept in the order of their
scores (`Ranking`), and a choice among many looks at the first few only: it costs the same among 1,000 as among
ten. Rendezvous hashing has no such order, as each sandbox ranks the nodes anew; a weight costs some 0.2 us.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from heapq import nlargest
from typing import NamedTuple

from superlearner.core.loads import NodeLoad, Ranking, Shares, unmeasured
from superlearner.core.snapshots import PlacementRow
from superlearner.core.spec import SandboxSpec


class Placement(NamedTuple):
    """A choice, or a rejection, with its reasons: one row for each node, the best first."""

    #: The chosen node; None when every node was refused.
    node: str | None
    rows: tuple[PlacementRow, ...]

    @property
    def refusals(self) -> tuple[tuple[str, str], ...]:
        """Each node with why it was not chosen."""
        return tuple((row.node, row.reason) for row in self.rows if not row.chosen)


def _no_neighbour(_node: str) -> None:
    """Find nobody."""


def place(
    spec: SandboxSpec,
    ranking: Ranking,
    *,
    node: str | None = None,
    avoid: Mapping[str, str] | None = None,
    neighbour: Callable[[str], str | None] = _no_neighbour,
    among: int | None = None,
) -> Placement:
    """Choose a node for a sandbox.

    Parameters
    ----------
    spec
        ``spec.placement`` names the strategy, ``spec.resources`` what it needs. ``spec.node`` is left to
        the caller, who may have to fall back on another node.
    ranking
        The living nodes.
    node
        Only this node will do.
    avoid
        Nodes that will not do, with the reason.
    neighbour
        Gives for a node the id of a sandbox there which this one must not share a node with, or None.
    among
        How many rows are wanted of nodes that will do, and of a named node no other row. The choice is the same,
        and found without a look at the others. None: all rows.

    >>> ranking = Ranking(NodeLoad(n, 1000, used, cpu=0.5) for n, used in (("alpha", 500), ("beta", 900)))
    >>> choice = place(SandboxSpec("shop"), ranking)
    >>> choice.node
    'alpha'
    >>> choice.refusals
    (('beta', 'ranks 2; not measured, so counted as half: network'),)
    """
    by_hash = spec.placement == "uniform"
    fit: list[PlacementRow] = []
    refused: list[PlacementRow] = []
    if node is not None and among is not None:
        candidates: Iterable[NodeLoad] = ranking.only(node)
    else:
        candidates = _by_hash(spec, ranking) if by_hash else ranking
    for load in candidates:
        reason = _refusal(spec, load, node, avoid or {}, neighbour)
        if reason is not None:
            refused.append(PlacementRow(load.node, None, None, None, 0.0, reason))
            continue
        rank = len(fit) + 1
        verdict = _verdict(spec, rank, node)
        if by_hash:
            row = PlacementRow(load.node, None, None, None, weight(spec.id, load.node), verdict, rank == 1)
        else:
            shares = Shares.of(load)
            reason = "; ".join(filter(None, (verdict, unmeasured(load))))
            row = PlacementRow(load.node, *shares, shares.total, reason, rank == 1)
        fit.append(row)
        if rank == among:
            break
    refused.sort(key=lambda row: row.node)
    return Placement(fit[0].node if fit else None, (*fit, *refused))


def peers_for(sandbox: str, node: str | None, nodes: Iterable[str], copies: int) -> tuple[str, ...]:
    """Return which nodes other than `node` are to hold the checkpoints of `sandbox`, at most `copies`.

    They come in rendezvous order, so a node that leaves changes only the sandboxes it held copies of.

    >>> peers_for("shop", "alpha", ["alpha", "beta", "gamma", "delta"], 2)
    ('delta', 'beta')
    """
    weights = _weights(sandbox, (name for name in nodes if name != node))
    return tuple(name for _weight, name in nlargest(copies, weights))


def weight(sandbox: str, node: str) -> float:
    """Return the rendezvous weight of a node for a sandbox, 0 to 1: the same in every process and at any time."""
    return next(_weights(sandbox, (node,)))[0] / 2**64


def _weights(sandbox: str, nodes: Iterable[str]) -> Iterator[tuple[int, str]]:
    # The hash of the pair is a product of the hashes of both, so that each name is digested only once.
    digest = _digest(sandbox)
    return (((digest ^ _digest(node)) * _FACTOR % 2**64, node) for node in nodes)


#: 2**64 divided by the golden ratio, made odd (Knuth, "The Art of Computer Programming", volume 3, 6.4).
_FACTOR = 0x9E37_79B9_7F4A_7C15


@lru_cache(maxsize=100_000)
def _digest(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest())


def _refusal(
    spec: SandboxSpec,
    load: NodeLoad,
    node: str | None,
    avoid: Mapping[str, str],
    neighbour: Callable[[str], str | None],
) -> str | None:
    needed = spec.resources.memory_bytes
    if node is not None and load.node != node:
        return f"node {node!r} was asked for"
    if load.node in avoid:
        return avoid[load.node]
    if load.draining:
        return "it is being drained"
    if load.suspected:
        return "it is suspected: it has not been heard of for a while"
    for label, value in spec.node_selector.items():
        if load.labels.get(label) != value:
            has = f"its {label} is {load.labels[label]!r}" if label in load.labels else f"it has no {label}"
            return f"{has}, and {label}={value!r} is selected"
    if (other := neighbour(load.node)) is not None:
        return f"it carries {other!r}, and their labels keep the two apart"
    if needed and load.memory is not None and load.reserved_memory + needed > load.memory:
        left = max(0, load.memory - load.reserved_memory)
        return f"it needs {needed:,} bytes of memory and {left:,} of {load.memory:,} are not reserved"
    return None


def _by_hash(spec: SandboxSpec, ranking: Ranking) -> list[NodeLoad]:
    loads = {load.node: load for load in ranking}
    return [loads[name] for _weight, name in sorted(_weights(spec.id, loads), reverse=True)]


def _verdict(spec: SandboxSpec, rank: int, node: str | None) -> str:
    if rank > 1:
        return f"ranks {rank}"
    if node is not None:
        return "it was asked for"
    return "highest hash" if spec.placement == "uniform" else "the freest"


def spare_hosts(checkpoints: int, most: int) -> int:
    """Return how many hosts shall stand by on a node, for the sandboxes that it may inherit.

    A sandbox has its checkpoints on two other nodes by default, and goes to one of them when its node is lost.

    Parameters
    ----------
    checkpoints
        Of how many sandboxes that run elsewhere the node holds checkpoints.
    most
        As many at most: each takes memory, about 5 MB with CPython 3.11.

    >>> spare_hosts(checkpoints=5, most=12), spare_hosts(checkpoints=300, most=12)
    (3, 12)
    """
    return min(most, (checkpoints + 1) // 2)
