"""Seeing: pure functions from frozen snapshots to pictures, each with a twin in text.

- `tree`, `nodes`, `sandboxes`, `faults`, `alerts`, `feed` and `story` take what a cluster, a sandbox or a runtime
  returned and know nothing else; every picture says whether it is real or simulated.
- `Dashboard`, `sandbox_panel` and `watch` are the live widgets made of them. They need the ``lab`` extra
  and are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superlearner.views.alerts import AlertsView, alerts
from superlearner.views.faults import FaultsView, faults
from superlearner.views.feed import FeedView, feed
from superlearner.views.nodes import NodesView, nodes
from superlearner.views.sandboxes import SandboxesView, sandboxes
from superlearner.views.story import story
from superlearner.views.svg import tree_svg
from superlearner.views.tree import TreeView, tree

if TYPE_CHECKING:
    from superlearner.views.widgets import Dashboard, SandboxPanel, sandbox_panel, watch

__all__ = [
    "AlertsView",
    "Dashboard",
    "FaultsView",
    "FeedView",
    "NodesView",
    "SandboxPanel",
    "SandboxesView",
    "TreeView",
    "alerts",
    "faults",
    "feed",
    "nodes",
    "sandbox_panel",
    "sandboxes",
    "story",
    "tree",
    "tree_svg",
    "watch",
]

_LAB = frozenset({"Dashboard", "SandboxPanel", "sandbox_panel", "watch"})


def __getattr__(name: str) -> Any:
    """Load the widgets when they are first used: a scheduler or worker has no Jupyter."""
    if name not in _LAB:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from superlearner.views import widgets
    except ModuleNotFoundError as error:
        from superlearner.errors import Unsupported

        raise Unsupported(
            f"{name} needs {error.name}: install it with pip install 'superlearner[lab]'."
        ) from error
    return getattr(widgets, name)
