"""The sandboxes of a cluster as the rows of a table.

>>> from superlearner.core.snapshots import SandboxInfo
>>> shop = SandboxInfo("shop", "running", node="alpha", pid=77, epoch=2, created_at=90.0, restarts=1)
>>> print(sandboxes([shop], real=True, now=100.0).text())
1 sandbox (real)
sandbox  status     node   epoch  lease  restarts  memory  cpu  checkpoint  age     last move
shop     ▶ running  alpha  2      –      1         –       –    none yet    10.0 s  –
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import tzinfo
from typing import Any

from superlearner.core.snapshots import CheckpointInfo, Migration, MoveInfo, SandboxInfo
from superlearner.views import format as fmt
from superlearner.views.marks import Tone, mark, origin
from superlearner.views.nodes import lease

#: The columns: the row's field, and its heading.
COLUMNS = (
    ("id", "sandbox"),
    ("status", "status"),
    ("node", "node"),
    ("epoch", "epoch"),
    ("lease", "lease"),
    ("restarts", "restarts"),
    ("memory", "memory"),
    ("cpu", "cpu"),
    ("checkpoint", "checkpoint"),
    ("age", "age"),
    ("move", "last move"),
)

#: The steps of a move; `MoveInfo` tells of the first two, the others follow at once with the end of the second.
STEPS = ("quiesce", "copy", "flip", "resume")


@dataclass(frozen=True, slots=True)
class SandboxRow:
    """One line of the table; every field but `key` and `tone` is ready-made text."""

    key: str
    id: str
    status: str
    symbol: str
    tone: Tone
    node: str
    epoch: str
    lease: str
    restarts: str
    memory: str
    cpu: str
    checkpoint: str
    age: str
    #: The planned move that is under way, else the last one.
    move: str
    #: Why it is not running, empty where it runs.
    reason: str
    #: One sentence for screen readers and the tool tip.
    description: str


@dataclass(frozen=True, slots=True)
class SandboxesView:
    """The whole table, in the order of the ids."""

    real: bool
    rows: tuple[SandboxRow, ...]
    note: str = ""

    def text(self) -> str:
        """Return the table as aligned text."""
        heading = f"{fmt.count(len(self.rows), 'sandbox', 'sandboxes')} ({origin(self.real)})"
        if self.note:
            heading += f"\n{self.note}"
        if not self.rows:
            return heading
        cells = [tuple(_cell(row, name) for name, _ in COLUMNS) for row in self.rows]
        lines = [heading, fmt.table(tuple(title for _, title in COLUMNS), cells)]
        lines += [f"{row.id}: {row.reason}" for row in self.rows if row.reason]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the view as plain data, for a widget's trait."""
        return {
            "real": self.real,
            "note": self.note,
            "columns": [list(column) for column in COLUMNS],
            "rows": [asdict(row) for row in self.rows],
            "text": self.text(),
        }


def sandboxes(
    infos: Sequence[SandboxInfo], *, real: bool, now: float, note: str = "", tz: tzinfo | None = None
) -> SandboxesView:
    """Turn the infos of all sandboxes into rows, sorted by id so that a row keeps its place.

    Parameters
    ----------
    infos
        One `SandboxInfo` each.
    real
        Whether these are real sandboxes. There is no default: a picture must know.
    now
        The time of the snapshot, Unix seconds; ages are counted from it.
    note
        A remark on the picture itself, shown with it.
    tz
        The time zone of the clock; the reader's own unless given.
    """
    return SandboxesView(
        real, tuple(_row(info, now, tz) for info in sorted(infos, key=lambda info: info.id)), note
    )


def _row(info: SandboxInfo, now: float, tz: tzinfo | None) -> SandboxRow:
    look = mark(info.status)
    lives = info.status in ("running", "suspended", "migrating")
    where = info.node or fmt.UNKNOWN
    move = moving(info.move) if info.move else moved(info.moved) if info.moved else fmt.UNKNOWN
    return SandboxRow(
        key=info.id,
        id=info.id,
        status=look.word,
        symbol=look.symbol,
        tone=look.tone,
        node=where,
        epoch=str(info.epoch) if info.epoch else fmt.UNKNOWN,
        lease=lease(info.lease, tz),
        restarts=fmt.number(info.restarts),
        # The figures of a process that is gone say nothing about the one that comes.
        memory=fmt.size(info.memory if lives else None),
        cpu=fmt.share(info.cpu if lives else None),
        checkpoint=_checkpoint(info.checkpoint, now),
        age=fmt.seconds(max(0.0, now - info.created_at)) if info.created_at else fmt.UNKNOWN,
        move=move,
        reason="" if info.reason is None else str(info.reason),
        description=f"sandbox {info.id}: {look.word} on {where}, {fmt.count(info.restarts, 'restart')}"
        + (f", moving {move}" if info.move else ""),
    )


def moving(move: MoveInfo) -> str:
    """Say how far a move is.

    >>> moving(MoveInfo("alpha", "beta", "quiesce", since=0.0))
    'to beta: quiesce (step 1 of 4)'
    >>> moving(MoveInfo("alpha", "beta", "start", since=0.0, bytes=812))
    'to beta: copy (step 2 of 4), 812 B'
    """
    step = 1 if move.phase == "quiesce" else 2
    much = "" if move.bytes is None else f", {fmt.size(move.bytes)}"
    return f"to {move.target}: {STEPS[step - 1]} (step {step} of {len(STEPS)}){much}"


def moved(move: Migration) -> str:
    """Say how a move went.

    >>> moved(Migration("shop", "alpha", "beta", 2, {"quiesce": 0.01, "start": 0.03}, bytes=812, pause=0.04))
    'from alpha: 812 B, callers waited 40 ms'
    """
    return f"from {move.source}: {fmt.size(move.bytes)}, callers waited {fmt.seconds(move.pause)}"


def _checkpoint(newest: CheckpointInfo | None, now: float) -> str:
    if newest is None:
        return "none yet"
    copies = fmt.count(len(newest.nodes), "copy", "copies")
    return f"{newest.epoch}.{newest.seq}, {fmt.size(newest.size)}, {copies}, {fmt.age(newest.at, now)}"


def _cell(row: SandboxRow, name: str) -> str:
    return f"{row.symbol} {row.status}" if name == "status" else str(getattr(row, name))
