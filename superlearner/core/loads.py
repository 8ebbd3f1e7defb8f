"""How full the nodes are, and the order in which they come when the freest is wanted."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

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


def unmeasured(load: NodeLoad) -> str:
    """Return in words what was not measured of a node; nothing when all was."""
    memory = load.memory_used if load.memory_total else None
    missing = [
        name for name, value in zip(WEIGHTS, (memory, load.cpu, load.network), strict=True) if value is None
    ]
    return f"not measured, so counted as half: {', '.join(missing)}" if missing else ""
