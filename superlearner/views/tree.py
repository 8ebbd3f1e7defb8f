"""A supervision tree as a picture: nodes with stable keys and places, and the same tree as text.

>>> from superlearner.core.snapshots import ProcessInfo
>>> counter = ProcessInfo("counter", "<alpha.shop.2>", "counter", "worker", "waiting", restarts=1)
>>> root = ProcessInfo("root", "<alpha.shop.1>", None, "supervisor", "waiting", children=(counter,),
...                    strategy="one_for_one", max_restarts=3, max_seconds=5.0)
>>> print(tree(root, real=True, title="shop").text())
shop (real)
● root  supervisor one_for_one, 3 restarts in 5 s  waiting  <alpha.shop.1>
└─ ● counter  worker  waiting  <alpha.shop.2>  1 restart
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from superlearner.core.snapshots import ProcessInfo
from superlearner.views.format import count, number, shorten
from superlearner.views.marks import Tone, mark, origin

#: The size of a node's box and the room between boxes, in pixels.
BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, MARGIN = 168, 46, 28, 12, 10


@dataclass(frozen=True, slots=True)
class TreeNode:
    """One process in the picture."""

    #: The path of child ids from the root: the same before and after a restart, unlike the pid.
    key: str
    parent: str | None
    label: str
    pid: str | None
    type: str
    #: Its type and, for a supervisor, its strategy and restart budget.
    kind: str
    status: str
    symbol: str
    word: str
    tone: Tone
    restarts: int
    mailbox: int
    #: One sentence for screen readers and the tool tip.
    description: str
    depth: int
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class TreeView:
    """A whole tree, ready to be drawn; parents stand before their children."""

    title: str
    #: False when the tree was made by the simulator; every rendering says which.
    real: bool
    nodes: tuple[TreeNode, ...]
    width: float
    height: float
    #: What is wrong with the picture itself, such as that it is the last one known; empty if nothing.
    note: str = ""

    def text(self) -> str:
        """Return the tree as indented text with box-drawing characters."""
        lines = [f"{self.title} ({origin(self.real)})"]
        if self.note:
            lines.append(self.note)
        if not self.nodes:
            lines.append("no processes")
        last = _last_children(self.nodes)
        open_at: list[bool] = []
        for node in self.nodes:
            del open_at[max(0, node.depth - 1) :]
            lines.append(_indent(open_at, node, is_last=node.key in last) + _line(node))
            if node.depth:
                open_at.append(node.key not in last)
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the view as plain data, for a widget's trait."""
        return asdict(self) | {"nodes": [asdict(node) for node in self.nodes], "text": self.text()}

    def find(self, key: str) -> TreeNode | None:
        """Return the node of that key, None if it is not (any longer) in the tree."""
        return next((node for node in self.nodes if node.key == key), None)


def tree(root: ProcessInfo | None, *, real: bool, title: str = "", note: str = "") -> TreeView:
    """Lay out a process tree from left to right, as OTP's observer does.

    Parameters
    ----------
    root
        What ``sb.tree()`` or ``rt.tree()`` returned; None draws an empty picture.
    real
        Whether these are real processes. There is no default: a picture must know.
    title
        What the picture shows, such as a sandbox's id.
    note
        A remark on the picture itself, shown with it.
    """
    if root is None:
        return TreeView(title, real, (), 2 * MARGIN + BOX_WIDTH, 2 * MARGIN + BOX_HEIGHT, note)
    placed = list(_walk(root, None, 0))
    rows = _rows(placed)
    nodes = tuple(_node(info, key, parent, depth, rows[key]) for info, key, parent, depth in placed)
    return TreeView(
        title,
        real,
        nodes,
        width=max(node.x for node in nodes) + BOX_WIDTH + MARGIN,
        height=max(node.y for node in nodes) + BOX_HEIGHT + MARGIN,
        note=note,
    )


_Placed = tuple[ProcessInfo, str, str | None, int]


def _walk(info: ProcessInfo, parent: str | None, depth: int, twin: int = 0) -> Iterator[_Placed]:
    """Yield each process with its key; children of a dynamic supervisor may share an id and are numbered."""
    key = (f"{parent}/" if parent else "") + str(info.id) + (f"#{twin}" if twin else "")
    yield info, key, parent, depth
    seen: dict[str, int] = {}
    for child in info.children:
        seen[str(child.id)] = seen.get(str(child.id), -1) + 1
        yield from _walk(child, key, depth + 1, seen[str(child.id)])


def _rows(placed: list[_Placed]) -> dict[str, float]:
    """Give each leaf its own row, and each parent the middle of its children."""
    children: dict[str, list[str]] = {}
    for _, key, parent, _ in placed:
        if parent is not None:
            children.setdefault(parent, []).append(key)
    rows: dict[str, float] = {}
    leaves = iter(range(len(placed)))
    # Leaves are numbered in reading order first; then, backwards, every child is placed before its parent.
    for _, key, _, _ in placed:
        if key not in children:
            rows[key] = float(next(leaves))
    for _, key, _, _ in reversed(placed):
        if key in children:
            rows[key] = (rows[children[key][0]] + rows[children[key][-1]]) / 2
    return rows


def _node(info: ProcessInfo, key: str, parent: str | None, depth: int, row: float) -> TreeNode:
    look = mark(info.status)
    return TreeNode(
        key=key,
        parent=parent,
        label=info.name or str(info.id),
        pid=info.pid,
        type=info.type,
        kind=_kind(info),
        status=info.status,
        symbol=look.symbol,
        word=look.word,
        tone=look.tone,
        restarts=info.restarts,
        mailbox=info.mailbox,
        description=_description(info),
        depth=depth,
        x=MARGIN + depth * (BOX_WIDTH + GAP_X),
        y=MARGIN + row * (BOX_HEIGHT + GAP_Y),
    )


def _kind(info: ProcessInfo) -> str:
    """Say what it is: its type, and for a supervisor its strategy and budget."""
    if info.strategy is None:
        return info.type
    budget = ""
    if info.max_restarts is not None and info.max_seconds is not None:
        budget = f", {count(info.max_restarts, 'restart')} in {info.max_seconds:g} s"
    return f"{info.type} {info.strategy}{budget}"


def _description(info: ProcessInfo) -> str:
    parts = [_kind(info), mark(info.status).word, info.pid or "no pid"]
    if info.behaviour:
        parts.append(f"runs {info.behaviour}")
    if info.current:
        parts.append(f"is in {info.current}")
    if info.restarts:
        parts.append(count(info.restarts, "restart"))
    if info.mailbox:
        parts.append(f"{count(info.mailbox, 'message')} waiting")
    if info.handled:
        parts.append(f"{number(info.handled)} handled")
    return f"{info.name or info.id}: {', '.join(parts)}"


def _last_children(nodes: tuple[TreeNode, ...]) -> set[str]:
    last: dict[str | None, str] = {node.parent: node.key for node in nodes}
    return set(last.values())


def _indent(open_at: list[bool], node: TreeNode, *, is_last: bool) -> str:
    if not node.depth:
        return ""
    stems = "".join("│  " if is_open else "   " for is_open in open_at)
    return stems + ("└─ " if is_last else "├─ ")


def _line(node: TreeNode) -> str:
    parts = [f"{node.symbol} {node.label}", node.kind, node.word, node.pid or "no pid"]
    if node.restarts:
        parts.append(count(node.restarts, "restart"))
    if node.mailbox:
        parts.append(f"{count(node.mailbox, 'message')} waiting")
    return "  ".join(parts)


def box_label(node: TreeNode) -> str:
    """Return the label cut to what fits into a box."""
    return shorten(node.label, 17)
