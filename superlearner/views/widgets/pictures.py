"""The widgets, one per noun: the tree, the nodes, the sandboxes, the feed, the buttons, the faults, and the alerts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from superlearner.views.alerts import AlertsView
from superlearner.views.desk import Press
from superlearner.views.faults import FaultsView
from superlearner.views.feed import FeedView
from superlearner.views.nodes import NodesView
from superlearner.views.sandboxes import SandboxesView
from superlearner.views.svg import tree_svg
from superlearner.views.tree import TreeView
from superlearner.views.widgets.base import Picture, asset


class TreeWidget(Picture):
    """A live supervision tree; `selected` is the path of child ids of the selected process.

    A process that its supervisor has started again keeps its box and flashes. Arrow keys move, Enter
    selects. Without a browser it is text, and in a still page an SVG picture.
    """

    _esm = asset("common.js", "tree.js")
    _css = asset("common.css", "tree.css")

    def __init__(self, shown: TreeView, **kwargs: Any) -> None:
        super().__init__(view=shown.as_dict(), **kwargs)
        self._shown = shown

    def show(self, shown: TreeView) -> None:
        """Replace the picture."""
        self._shown = shown
        self.view = shown.as_dict()

    def svg(self) -> str:
        """Return the tree as a still picture."""
        return tree_svg(self._shown)


class NodesWidget(Picture):
    """A card per node; `selected` is the name of the selected node."""

    _esm = asset("common.js", "nodes.js")
    _css = asset("common.css", "nodes.css")

    def __init__(self, shown: NodesView, **kwargs: Any) -> None:
        super().__init__(view=shown.as_dict(), **kwargs)

    def show(self, shown: NodesView) -> None:
        """Replace the picture."""
        self.view = shown.as_dict()


class SandboxesWidget(Picture):
    """A table of sandboxes; `selected` is the id of the selected sandbox."""

    _esm = asset("common.js", "sandboxes.js")
    _css = asset("common.css", "sandboxes.css")

    def __init__(self, shown: SandboxesView, **kwargs: Any) -> None:
        super().__init__(view=shown.as_dict(), **kwargs)

    def show(self, shown: SandboxesView) -> None:
        """Replace the picture."""
        self.view = shown.as_dict()


class FeedWidget(Picture):
    """What happened, one sentence per event, newest last."""

    _esm = asset("common.js", "feed.js")
    _css = asset("common.css", "feed.css")

    def __init__(self, shown: FeedView, **kwargs: Any) -> None:
        super().__init__(view=shown.as_dict(), **kwargs)

    def show(self, shown: FeedView) -> None:
        """Replace the picture."""
        self.view = shown.as_dict()


class Pressed(Picture):
    """A picture with buttons.

    A click arrives as a `Press` at `on_press`, on whichever thread ipykernel likes; the handler must
    only put it onto a queue.
    """

    def __init__(self, shown: dict[str, Any], on_press: Callable[[Press], None], **kwargs: Any) -> None:
        super().__init__(view=shown, **kwargs)
        self._on_press = on_press
        self.on_msg(self._receive)

    def _receive(self, _widget: Any, content: Any, _buffers: Any) -> None:
        press = Press.from_message(content)
        if press is not None:
            self._on_press(press)


class ActionsWidget(Pressed):
    """The buttons, the confirming question and the status line."""

    _esm = asset("common.js", "actions.js")
    _css = asset("common.css", "buttons.css", "actions.css")

    def show(self, shown: dict[str, Any]) -> None:
        """Replace the picture."""
        self.view = shown


class FaultsWidget(Pressed):
    """The faults in force, each with the button that ends it."""

    _esm = asset("common.js", "faults.js")
    _css = asset("common.css", "buttons.css", "faults.css")

    def __init__(self, shown: FaultsView, on_press: Callable[[Press], None], **kwargs: Any) -> None:
        super().__init__(shown.as_dict(), on_press, **kwargs)

    def show(self, shown: FaultsView) -> None:
        """Replace the picture."""
        self.view = shown.as_dict()


class AlertsWidget(Pressed):
    """The health of the cluster, and the alerts that are not over, each with the button that acknowledges it."""

    _esm = asset("common.js", "alerts.js")
    _css = asset("common.css", "buttons.css", "alerts.css")

    def __init__(self, shown: AlertsView, on_press: Callable[[Press], None], **kwargs: Any) -> None:
        super().__init__(shown.as_dict(), on_press, **kwargs)

    def show(self, shown: AlertsView) -> None:
        """Replace the picture."""
        self.view = shown.as_dict()
