"""The nodes of a cluster as cards: each figure with its unit, and "–" where nothing was measured.

>>> from superlearner.core.snapshots import NodeInfo
>>> alpha = NodeInfo("alpha", "tls://127.0.0.1:1", 42, "up", "healthy", cpu=3.0, uptime=75.0, sandboxes=("shop",))
>>> print(nodes([alpha], real=True, now=100.0).text())
1 node (real)
node   status  health     lease  cpu    memory  network  uptime      sandboxes
alpha  ● up    ● healthy  –      3.0 %  –       –        1 min 15 s  shop
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import tzinfo
from typing import Any

from superlearner.core.faults import SCHEDULER
from superlearner.core.snapshots import ClusterStatus, LeaseInfo, NodeInfo
from superlearner.views import format as fmt
from superlearner.views.faults import AnyFault, cut_off, ends, frozen
from superlearner.views.marks import Tone, mark, origin


@dataclass(frozen=True, slots=True)
class NodeCard:
    """One node's card; every field but `key`, `load` and the tones is ready-made text."""

    key: str
    name: str
    address: str
    pid: str
    status: str
    symbol: str
    status_tone: Tone
    health: str
    health_symbol: str
    tone: Tone
    #: What is done to it on purpose: ``paused``, ``cut off``.
    flags: tuple[str, ...]
    #: Its right to answer.
    lease: str
    cpu: str
    memory: str
    network: str
    uptime: str
    last_seen: str
    sandboxes: tuple[str, ...]
    #: What is wrong with it, in sentences.
    trouble: str
    #: Bars: shares from 0 to 1, None where nothing was measured (then no bar is drawn).
    cpu_load: float | None
    memory_load: float | None
    #: One sentence for screen readers and the tool tip.
    description: str


@dataclass(frozen=True, slots=True)
class NodesView:
    """All cards, in the order of the names."""

    real: bool
    cards: tuple[NodeCard, ...]
    #: The cluster in one line, empty where it is not known.
    summary: str = ""
    tone: Tone = "quiet"
    note: str = ""

    def text(self) -> str:
        """Return the cards as an aligned table."""
        heading = f"{fmt.count(len(self.cards), 'node')} ({origin(self.real)})"
        heading = "\n".join(line for line in (heading, self.summary, self.note) if line)
        if not self.cards:
            return heading
        header = ("node", "status", "health", "lease", "cpu", "memory", "network", "uptime", "sandboxes")
        rows = [
            (
                card.name,
                ", ".join((f"{card.symbol} {card.status}", *card.flags)),
                f"{card.health_symbol} {card.health}",
                card.lease,
                card.cpu,
                card.memory,
                card.network,
                card.uptime,
                ", ".join(card.sandboxes) or "none",
            )
            for card in self.cards
        ]
        troubles = [f"{card.name}: {card.trouble}" for card in self.cards if card.trouble]
        return "\n".join([heading, fmt.table(header, rows), *troubles])

    def as_dict(self) -> dict[str, Any]:
        """Return the view as plain data, for a widget's trait."""
        return {
            "real": self.real,
            "note": self.note,
            "summary": self.summary,
            "tone": self.tone,
            "cards": [_plain(card) for card in self.cards],
            "text": self.text(),
        }


def nodes(
    infos: Sequence[NodeInfo],
    *,
    real: bool,
    now: float,
    status: ClusterStatus | None = None,
    faults: Sequence[AnyFault] = (),
    note: str = "",
    tz: tzinfo | None = None,
) -> NodesView:
    """Turn ``cluster.nodes()`` into cards, sorted by name so that a card keeps its place.

    Parameters
    ----------
    infos
        The nodes.
    real
        Whether these are real machines' processes. There is no default: a picture must know.
    now
        The time of the snapshot, Unix seconds; ages are counted from it.
    status
        ``cluster.status()``, for the line that sums it up.
    faults
        ``cluster.chaos.faults()``, for what is done to the nodes on purpose.
    note
        A remark on the picture itself, shown with it.
    tz
        The time zone of the clock; the reader's own unless given.
    """
    cards = tuple(_card(info, now, faults, tz) for info in sorted(infos, key=lambda info: info.name))
    if status is None:
        return NodesView(real, cards, note=note)
    return NodesView(real, cards, cluster(status), mark(status.cluster_health).tone, note)


def cluster(status: ClusterStatus) -> str:
    """Sum up ``cluster.status()`` in one line.

    >>> cluster(ClusterStatus(("alpha", "beta"), 2, 2, "healthy", True, "running", reachable_nodes=2, lease=3.0))
    '● healthy: 2 of 2 nodes healthy, quorum (2 of 2 reachable, policy quorum), lease 3 s, control plane running'
    """
    look = mark(status.cluster_health)
    quorum = "quorum" if status.quorum else "NO quorum"
    reach = f"{status.reachable_nodes} of {status.total_nodes} reachable, policy {status.partition}"
    well = f"{status.healthy_nodes} of {fmt.count(status.total_nodes, 'node')} healthy"
    lease = "" if status.lease is None else f" lease {status.lease:g} s,"
    return (
        f"{look.symbol} {look.word}: {well}, {quorum} ({reach}),{lease} control plane {status.control_plane}"
    )


def lease(held: LeaseInfo | None, tz: tzinfo | None = None) -> str:
    """Say how a lease stands.

    >>> from datetime import UTC
    >>> lease(LeaseInfo(0.0, 3.1)), lease(LeaseInfo(0.0, 43_384.12, suspected=True), UTC), lease(None)
    ('held', 'ends 12:03:04.120', '–')
    """
    if held is None:
        return fmt.UNKNOWN
    return f"ends {fmt.clock(held.ends_at, tz)}" if held.suspected else "held"


def _trouble(info: NodeInfo, cut: Sequence[str], tz: tzinfo | None) -> str:
    """Say what is wrong with a node, each in a sentence; empty when nothing is."""
    said = []
    if info.lease is not None and info.lease.suspected:
        since, over = fmt.clock(info.lease.heard_at, tz), fmt.clock(info.lease.ends_at, tz)
        said.append(f"Silent since {since}; its lease has surely ended at {over}.")
    if info.reason is not None:
        said.append(f"Lost: {info.reason}.")
    if cut:
        said.append(f"Cut off from {ends(cut)}.")
    return " ".join(said)


def _card(info: NodeInfo, now: float, faults: Sequence[AnyFault], tz: tzinfo | None = None) -> NodeCard:
    status, health = mark(info.status), mark(info.health)
    gone = info.status == "down"
    memory_load = info.memory / info.memory_limit if info.memory is not None and info.memory_limit else None
    # What a dead node last measured is no longer true of it.
    cpu, memory, network = (None, None, None) if gone else (info.cpu, info.memory, info.network)
    uptime = None if gone else info.uptime
    cut = cut_off(info.name, faults)
    flags = ["paused"] if frozen(info.name, faults) else []
    flags += ["cut off"] if SCHEDULER in cut else []
    words = [status.word, *flags, health.word, f"cpu {fmt.percent(cpu)}", f"memory {fmt.size(memory)}"]
    return NodeCard(
        key=info.name,
        name=info.name,
        address=info.address,
        pid=fmt.UNKNOWN if info.pid is None else str(info.pid),
        status=status.word,
        symbol=status.symbol,
        status_tone=status.tone,
        health=health.word,
        health_symbol=health.symbol,
        tone=health.tone if health.tone != "good" else status.tone,
        flags=tuple(flags),
        lease=lease(info.lease, tz),
        cpu=fmt.percent(cpu),
        memory=fmt.size(memory),
        network=fmt.rate(network),
        uptime=fmt.seconds(uptime),
        last_seen=fmt.age(info.last_seen, now),
        sandboxes=tuple(info.sandboxes),
        trouble=_trouble(info, cut, tz),
        cpu_load=None if cpu is None else min(1.0, cpu / 100),
        memory_load=None if gone or memory_load is None else min(1.0, memory_load),
        description=f"node {info.name}: {', '.join(words)}, {fmt.count(len(info.sandboxes), 'sandbox', 'sandboxes')}",
    )


def _plain(card: NodeCard) -> dict[str, Any]:
    return asdict(card) | {"sandboxes": list(card.sandboxes), "flags": list(card.flags)}
