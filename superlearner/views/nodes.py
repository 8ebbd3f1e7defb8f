"""The nodes of a cluster as cards: each figure with its unit, and "–" where nothing was measured.

>>> from superlearner.core.snapshots import NodeInfo
>>> alpha = NodeInfo("alpha", "tls://127.0.0.1:1", 42, "up", "healthy", cpu=3.0, uptime=75.0, sandboxes=("shop",))
>>> print(nodes([alpha], real=True, now=100.0).text())
1 node (real)
node   status  health     cpu    memory  network  uptime       sandboxes
alpha  ● up    ● healthy  3.0 %  –       –        1 min 15 s   shop
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from superlearner.core.snapshots import ClusterStatus, NodeInfo
from superlearner.views import format as fmt
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
    cpu: str
    memory: str
    network: str
    uptime: str
    last_seen: str
    sandboxes: tuple[str, ...]
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
        header = ("node", "status", "health", "cpu", "memory", "network", "uptime", "sandboxes")
        rows = [
            (
                card.name,
                f"{card.symbol} {card.status}",
                f"{card.health_symbol} {card.health}",
                card.cpu,
                card.memory,
                card.network,
                card.uptime,
                ", ".join(card.sandboxes) or "none",
            )
            for card in self.cards
        ]
        return f"{heading}\n{fmt.table(header, rows)}"

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
    infos: Sequence[NodeInfo], *, real: bool, now: float, status: ClusterStatus | None = None, note: str = ""
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
    note
        A remark on the picture itself, shown with it.
    """
    cards = tuple(_card(info, now) for info in sorted(infos, key=lambda info: info.name))
    if status is None:
        return NodesView(real, cards, note=note)
    return NodesView(real, cards, cluster(status), mark(status.cluster_health).tone, note)


def cluster(status: ClusterStatus) -> str:
    """Sum up ``cluster.status()`` in one line.

    >>> cluster(ClusterStatus(("alpha", "beta"), 2, 2, "healthy", quorum=True, control_plane="running"))
    '● healthy: 2 of 2 nodes healthy, quorum, control plane running'
    """
    look = mark(status.cluster_health)
    quorum = "quorum" if status.quorum else "NO quorum"
    well = f"{status.healthy_nodes} of {fmt.count(status.total_nodes, 'node')} healthy"
    return f"{look.symbol} {look.word}: {well}, {quorum}, control plane {status.control_plane}"


def _card(info: NodeInfo, now: float) -> NodeCard:
    status, health = mark(info.status), mark(info.health)
    gone = info.status == "down"
    memory_load = info.memory / info.memory_limit if info.memory is not None and info.memory_limit else None
    # What a dead node last measured is no longer true of it.
    cpu, memory, network = (None, None, None) if gone else (info.cpu, info.memory, info.network)
    uptime = None if gone else info.uptime
    words = [status.word, health.word, f"cpu {fmt.percent(cpu)}", f"memory {fmt.size(memory)}"]
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
        cpu=fmt.percent(cpu),
        memory=fmt.size(memory),
        network=fmt.rate(network),
        uptime=fmt.seconds(uptime),
        last_seen=fmt.age(info.last_seen, now),
        sandboxes=tuple(info.sandboxes),
        cpu_load=None if cpu is None else min(1.0, cpu / 100),
        memory_load=None if gone or memory_load is None else min(1.0, memory_load),
        description=f"node {info.name}: {', '.join(words)}, {fmt.count(len(info.sandboxes), 'sandbox', 'sandboxes')}",
    )


def _plain(card: NodeCard) -> dict[str, Any]:
    return asdict(card) | {"sandboxes": list(card.sandboxes)}
