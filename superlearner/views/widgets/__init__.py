"""The live widgets. Needs the ``lab`` extra; everything they show is computed by the pure views above."""

from __future__ import annotations

from superlearner.views.widgets.dashboard import Dashboard
from superlearner.views.widgets.panel import SandboxPanel, sandbox_panel, watch
from superlearner.views.widgets.pictures import (
    ActionsWidget,
    AlertsWidget,
    FaultsWidget,
    FeedWidget,
    NodesWidget,
    SandboxesWidget,
    TreeWidget,
)

__all__ = [
    "ActionsWidget",
    "AlertsWidget",
    "Dashboard",
    "FaultsWidget",
    "FeedWidget",
    "NodesWidget",
    "SandboxPanel",
    "SandboxesWidget",
    "TreeWidget",
    "sandbox_panel",
    "watch",
]
