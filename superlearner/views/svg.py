"""A supervision tree as a still SVG picture, for pages without a kernel.

The live widget draws the same boxes at the same places; this one carries its own colours, because a
still page has no JupyterLab theme to take them from.
"""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from superlearner.views.format import shorten
from superlearner.views.marks import origin
from superlearner.views.tree import BOX_HEIGHT, BOX_WIDTH, TreeNode, TreeView, box_label

_HEADER = 26
_COLOURS = {"good": "#2e7d5b", "busy": "#2f6fb2", "warn": "#a86a00", "bad": "#b3362c", "quiet": "#6b7280"}


def tree_svg(view: TreeView) -> str:
    """Return the picture as a complete SVG document.

    >>> from superlearner.views.tree import tree
    >>> tree_svg(tree(None, real=True, title="shop")).startswith("<svg ")
    True
    """
    width, height = max(view.width, 260), view.height + _HEADER
    places = {node.key: node for node in view.nodes}
    edges = [_edge(places[node.parent], node) for node in view.nodes if node.parent is not None]
    heading = f"{view.title} · {origin(view.real)}" + (f" · {view.note}" if view.note else "")
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label={quoteattr(view.text())} '
        'font-family="system-ui, sans-serif">'
    )
    return "\n".join(
        [
            opening,
            f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#ffffff" stroke="#d8dce2"/>',
            f'<text x="12" y="19" font-size="12" fill="#5b6470">{escape(heading)}</text>',
            f'<g transform="translate(0 {_HEADER})">',
            *edges,
            *(_box(node) for node in view.nodes),
            "</g></svg>",
        ]
    )


def _edge(parent: TreeNode, child: TreeNode) -> str:
    x1, y1 = parent.x + BOX_WIDTH, parent.y + BOX_HEIGHT / 2
    x2, y2 = child.x, child.y + BOX_HEIGHT / 2
    middle = (x1 + x2) / 2
    path = f"M{x1:g} {y1:g} C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g}"
    return f'<path d="{path}" fill="none" stroke="#b7bec8" stroke-width="1.5"/>'


def _box(node: TreeNode) -> str:
    colour = _COLOURS[node.tone]
    radius = 5 if node.type == "supervisor" else BOX_HEIGHT / 2
    dashes = ' stroke-dasharray="4 3"' if node.tone in ("warn", "bad", "quiet") else ""
    below = f"{node.symbol} {node.word}" + (f" · {node.pid}" if node.pid else "")
    badge = f"↻ {node.restarts}" if node.restarts else ""
    return (
        f'<g transform="translate({node.x:g} {node.y:g})"><title>{escape(node.description)}</title>'
        f'<rect width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="{radius:g}" fill="#fbfcfd" '
        f'stroke="{colour}" stroke-width="1.5"{dashes}/>'
        f'<text x="18" y="19" font-size="13" font-weight="600" fill="#1f2430">{escape(box_label(node))}</text>'
        f'<text x="18" y="35" font-size="10.5" fill="{colour}">{escape(shorten(below, 28))}</text>'
        f'<text x="{BOX_WIDTH - 16}" y="19" font-size="10.5" text-anchor="end" fill="#5b6470">{badge}</text></g>'
    )
