"""Where a sandbox goes: filters refuse nodes, scores rank the others, and every choice can be explained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
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


class Placement(NamedTuple):
    """A choice, or a rejection, with its reasons: one row for each node, the best first."""

    #: The chosen node; None when every node was refused.
    node: str | None
    rows: tuple[PlacementRow, ...]

    @property
    def refusals(self) -> tuple[tuple[str, str], ...]:
        """Each node with why it was not chosen."""
        return tuple((row.node, row.reason) for row in self.rows if not row.chosen)


def place(
    spec: SandboxSpec,
    loads: Iterable[NodeLoad],
    *,
    node: str | None = None,
    avoid: Mapping[str, str] | None = None,
    neighbours: Mapping[str, str] | None = None,
) -> Placement:
    """Choose a node for a sandbox.

    Parameters
    ----------
    spec
        ``spec.placement`` names the strategy, ``spec.resources`` what it needs. ``spec.node`` is left to
        the caller, who may have to fall back on another node.
    loads
        The living nodes.
    node
        Only this node will do.
    avoid
        Nodes that will not do, with the reason.
    neighbours
        Nodes that carry a sandbox which this one must not share a node with, with that one's id.

    >>> half, full = (NodeLoad(n, 1000, used, cpu=0.5) for n, used in (("alpha", 500), ("beta", 900)))
    >>> choice = place(SandboxSpec("shop"), [full, half])
    >>> choice.node
    'alpha'
    >>> choice.refusals
    (('beta', 'ranks 2 of 2; not measured, so counted as half: network'),)
    """
    fit, refused = [], []
    for load in loads:
        reason = _refusal(spec, load, node, avoid or {}, neighbours or {})
        if reason is None:
            fit.append(load)
        else:
            refused.append(PlacementRow(load.node, None, None, None, 0.0, reason))
    ranked = _by_hash(spec, fit) if spec.placement == "uniform" else _by_load(spec, fit)
    rows = tuple(_ranked(spec, rank, len(ranked), row, node) for rank, row in enumerate(ranked, start=1))
    return Placement(rows[0].node if rows else None, (*rows, *sorted(refused, key=lambda row: row.node)))


def peers_for(sandbox: str, node: str | None, nodes: Iterable[str], copies: int) -> tuple[str, ...]:
    """Return which nodes other than `node` are to hold the checkpoints of `sandbox`, at most `copies`.

    They come in rendezvous order, so a node that leaves changes only the sandboxes it held copies of.

    >>> peers_for("shop", "alpha", ["alpha", "beta", "gamma", "delta"], 2)
    ('delta', 'beta')
    """
    others = (name for name in nodes if name != node)
    return tuple(sorted(others, key=lambda name: weight(sandbox, name), reverse=True)[:copies])


def weight(sandbox: str, node: str) -> float:
    """Return the rendezvous weight of a node for a sandbox, 0 to 1: the same in every process and at any time."""
    digest = blake2b(f"{sandbox}\0{node}".encode(), digest_size=7).digest()
    return int.from_bytes(digest) / 2**56


def _refusal(
    spec: SandboxSpec,
    load: NodeLoad,
    node: str | None,
    avoid: Mapping[str, str],
    neighbours: Mapping[str, str],
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
    if load.node in neighbours:
        return f"it carries {neighbours[load.node]!r}, and their labels keep the two apart"
    if needed and load.memory is not None and load.reserved_memory + needed > load.memory:
        left = max(0, load.memory - load.reserved_memory)
        return f"it needs {needed:,} bytes of memory and {left:,} of {load.memory:,} are not reserved"
    return None


def _by_hash(spec: SandboxSpec, loads: list[NodeLoad]) -> list[PlacementRow]:
    rows = [PlacementRow(load.node, None, None, None, weight(spec.id, load.node), "") for load in loads]
    return sorted(rows, key=lambda row: row.total, reverse=True)


def _by_load(spec: SandboxSpec, loads: list[NodeLoad]) -> list[PlacementRow]:
    memory = _free_shares([_memory_load(load) for load in loads])
    cpu = _free_shares([_cpu_load(load) for load in loads])
    network = _free_shares([UNMEASURED if load.network is None else load.network for load in loads])
    rows = []
    for load, by_memory, by_cpu, by_network in zip(loads, memory, cpu, network, strict=True):
        free = {"memory": by_memory, "cpu": by_cpu, "network": by_network}
        total = sum(WEIGHTS[name] * share for name, share in free.items())
        # Equals go to the one with fewer sandboxes, then by the hash, so that not all ties go to one node.
        key = (-round(total, 9), load.sandboxes, -weight(spec.id, load.node))
        rows.append((key, PlacementRow(load.node, by_memory, by_cpu, by_network, total, _unmeasured(load))))
    return [row for _key, row in sorted(rows, key=lambda pair: pair[0])]


def _free_shares(loads: list[float]) -> list[float]:
    # Reservations may exceed what a node has. The fullest one then counts as quite full and the others in
    # relation to it; cutting all of them off at zero would make them equal and end the spreading.
    full = max([1.0, *loads])
    return [1.0 - load / full for load in loads]


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


def _ranked(spec: SandboxSpec, rank: int, among: int, row: PlacementRow, node: str | None) -> PlacementRow:
    if rank > 1:
        verdict = f"ranks {rank} of {among}"
    elif node is not None:
        verdict = "it was asked for"
    elif spec.placement == "uniform":
        verdict = f"highest hash of {among}"
    else:
        verdict = f"the freest of {among}"
    return replace(row, reason="; ".join(filter(None, (verdict, row.reason))), chosen=rank == 1)
