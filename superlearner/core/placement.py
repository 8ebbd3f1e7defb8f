"""Where a sandbox goes: filters refuse nodes, scores rank the others, and every choice can be explained.

A node's score is its own matter, whoever it is compared with. So the nodes can be kept in the order of their
scores (`Ranking`), and a choice among many looks at the first few only: it costs the same among 1,000 as among
ten. Rendezvous hashing has no such order, as each sandbox ranks the nodes anew; a weight costs 0.1 us.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from heapq import nlargest
from typing import NamedTuple

from superlearner.core.snapshots import PlacementRow
from superlearner.core.spec import SandboxSpec

#: What each measure counts in ``least_loaded``.
WEIGHTS = {"memory": 0.5, "cpu": 0.3, "network": 0.2}
#: The load that a node is thought to have while it has not been measured: neither free nor full.
UNMEASURED = 0.5


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """What placement knows of one node: its last measurement, and what it was given since."""

    node: str
    #: Bytes that its last measurement was taken against: its machine's. None: not measured.
    memory_total: int | None = None
    #: Bytes in use there. None: not measured.
    memory_used: int | None = None
    #: Cores.
    cpus: float = 1.0
    #: Share of all its cores in use, 0 to 1. None: not measured.
    cpu: float | None = None
    #: Share of its network in use, 0 to 1. None: not measured.
    network: float | None = None
    #: Bytes and cores that the sandboxes placed on it reserve.
    reserved_memory: int = 0
    reserved_cpu: float = 0.0
    #: The part of it that was placed after the last measurement, which therefore does not show it yet.
    fresh_memory: int = 0
    fresh_cpu: float = 0.0
    #: How many sandboxes are placed on it.
    sandboxes: int = 0
    #: Bytes that its sandboxes may reserve together. None: all that its machine has.
    memory_limit: int | None = None
    #: It has been silent for too long to be given anything.
    suspected: bool = False
    #: It is being emptied.
    draining: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def memory(self) -> int | None:
        """Bytes that may be reserved on it; None: unknown, never a reason to refuse."""
        return self.memory_limit or self.memory_total

    def reserve(self, spec: SandboxSpec) -> NodeLoad:
        """Return the load with one more sandbox."""
        return self._add(spec, 1, fresh=True)

    def release(self, spec: SandboxSpec, *, fresh: bool) -> NodeLoad:
        """Return the load with one sandbox less; `fresh` if it was placed after the last measurement."""
        load = self._add(spec, -1, fresh=fresh)
        # Floats do not come back to zero exactly; an empty node has nothing reserved.
        return load if load.sandboxes else replace(load, reserved_cpu=0.0, fresh_memory=0, fresh_cpu=0.0)

    def measured(
        self, memory_used: int | None, memory_total: int | None, cpu: float | None, network: float | None
    ) -> NodeLoad:
        """Return the load by a new measurement, which shows all that was placed before it."""
        return replace(
            self,
            memory_used=memory_used,
            memory_total=self.memory_total if memory_total is None else memory_total,
            cpu=cpu,
            network=network,
            fresh_memory=0,
            fresh_cpu=0.0,
        )

    def _add(self, spec: SandboxSpec, sign: int, *, fresh: bool) -> NodeLoad:
        memory, cpu = sign * (spec.resources.memory_bytes or 0), sign * spec.resources.cpu
        return replace(
            self,
            reserved_memory=self.reserved_memory + memory,
            reserved_cpu=self.reserved_cpu + cpu,
            fresh_memory=self.fresh_memory + memory * fresh,
            fresh_cpu=self.fresh_cpu + cpu * fresh,
            sandboxes=self.sandboxes + sign,
        )


class Shares(NamedTuple):
    """How much of a node is free by each measure: 1 is all of it, below 0 more is reserved than there is."""

    memory: float
    cpu: float
    network: float

    @classmethod
    def of(cls, load: NodeLoad) -> Shares:
        """Return the shares of a node that are free."""
        network = UNMEASURED if load.network is None else load.network
        return cls(1.0 - _memory_load(load), 1.0 - _cpu_load(load), 1.0 - network)

    @property
    def total(self) -> float:
        """The score of ``least_loaded``."""
        weights = WEIGHTS.values()
        return sum(weight * share for weight, share in zip(weights, self, strict=True))


class Rank(NamedTuple):
    """What nodes are ordered by: the freest first; of equals the one with fewer sandboxes, then by name."""

    used: float
    sandboxes: int
    node: str

    @classmethod
    def of(cls, load: NodeLoad) -> Rank:
        """Return the rank of a node; what differs by rounding alone is equal."""
        return cls(-round(Shares.of(load).total, 9), load.sandboxes, load.node)


class Ranking:
    """The loads of nodes, kept in the order of their ranks while they change.

    >>> ranking = Ranking([NodeLoad("alpha", cpu=0.5), NodeLoad("beta", cpu=0.1)])
    >>> ranking.put(NodeLoad("alpha", cpu=0.0))
    >>> [load.node for load in ranking]
    ['alpha', 'beta']
    """

    def __init__(self, loads: Iterable[NodeLoad] = ()) -> None:
        self._loads = {load.node: load for load in loads}
        self._ranks = {name: Rank.of(load) for name, load in self._loads.items()}
        self._order = sorted(self._ranks.values())

    def __iter__(self) -> Iterator[NodeLoad]:
        return (self._loads[rank.node] for rank in self._order)

    def only(self, node: str) -> list[NodeLoad]:
        """Return the load of one node; nothing when it is not there."""
        return [self._loads[node]] if node in self._loads else []

    def put(self, load: NodeLoad) -> None:
        """Add a node, or change its load."""
        rank, known = Rank.of(load), self._ranks.get(load.node)
        self._loads[load.node] = load
        if rank != known:
            if known is not None:
                self._drop(known)
            self._ranks[load.node] = rank
            insort(self._order, rank)

    def remove(self, node: str) -> None:
        """Forget a node."""
        del self._loads[node]
        self._drop(self._ranks.pop(node))

    def _drop(self, rank: Rank) -> None:
        del self._order[bisect_left(self._order, rank)]


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
            reason = "; ".join(filter(None, (verdict, _unmeasured(load))))
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


def _memory_load(load: NodeLoad) -> float:
    room = load.memory or float("inf")
    if load.memory_used is None or not load.memory_total:
        return UNMEASURED + load.reserved_memory / room
    measured = load.memory_used / load.memory_total + load.fresh_memory / room
    return max(measured, load.reserved_memory / room)


def _cpu_load(load: NodeLoad) -> float:
    if load.cpu is None:
        return UNMEASURED + load.reserved_cpu / load.cpus
    return max(load.cpu + load.fresh_cpu / load.cpus, load.reserved_cpu / load.cpus)


def _unmeasured(load: NodeLoad) -> str:
    memory = load.memory_used if load.memory_total else None
    missing = [
        name for name, value in zip(WEIGHTS, (memory, load.cpu, load.network), strict=True) if value is None
    ]
    return f"not measured, so counted as half: {', '.join(missing)}" if missing else ""


def _verdict(spec: SandboxSpec, rank: int, node: str | None) -> str:
    if rank > 1:
        return f"ranks {rank}"
    if node is not None:
        return "it was asked for"
    return "highest hash" if spec.placement == "uniform" else "the freest"
