"""The panel of one sandbox: its tree and what happens to it, beside a lesson's cell."""

from __future__ import annotations

from typing import Any

import ipywidgets

from superlearner.core.history import Event
from superlearner.core.snapshots import ProcessInfo
from superlearner.errors import NoProcess, SuperlearnerError
from superlearner.views.feed import feed
from superlearner.views.tree import TreeView, tree
from superlearner.views.widgets.board import Board, origin_of, refuse_async
from superlearner.views.widgets.pictures import FeedWidget, TreeWidget


class SandboxPanel(Board):
    """A live supervision tree with its feed.

    Parameters
    ----------
    sandbox
        A `superlearner.Sandbox`.

    >>> panel = sandbox_panel(cluster.sandbox("shop"))      # doctest: +SKIP
    """

    def __init__(self, sandbox: Any) -> None:
        cluster = sandbox.cluster
        refuse_async(cluster, "A panel")
        self._sandbox, self._cluster, self.real = sandbox, cluster, origin_of(sandbox)
        self._root: ProcessInfo | None = None
        self.tree = TreeWidget(tree(None, real=self.real, title=sandbox.id))
        self.feed = FeedWidget(feed([], real=self.real))

        def subscribe(handler: Any) -> Any:
            def mine(event: Event) -> None:
                if event.sandbox == sandbox.id:
                    handler(event)

            return cluster.subscribe(mine)

        super().__init__(("sandbox", f"{cluster.address}/{sandbox.id}"), (self.tree, self.feed), subscribe)
        self.begin()

    def arrange(self) -> ipywidgets.Widget:
        """Put the tree above the feed."""
        return ipywidgets.VBox(
            [self.tree, self.feed], layout=ipywidgets.Layout(grid_gap="8px", margin="2px 0")
        )

    def look(self) -> None:
        """Ask for the tree; one that does not come leaves the last one, with a note."""
        self.catch_up(lambda last: list(self._cluster.events(since=last, sandbox=self._sandbox.id)))
        root, note = look_inside(self._sandbox)
        self._root, self._trouble = root or self._root, note

    def draw(self) -> None:
        """Show the tree and the feed."""
        self.tree.show(self._tree())
        self.feed.show(feed(self.events, real=self.real, title=f"What happened to {self._sandbox.id}"))

    def _tree(self) -> TreeView:
        return tree(self._root, real=self.real, title=self._sandbox.id, note=self._trouble)


def look_inside(sandbox: Any) -> tuple[ProcessInfo | None, str]:
    """Return a sandbox's tree, or None and the reason why it cannot be seen now."""
    try:
        return sandbox.tree(), ""
    except NoProcess as error:
        return None, error.what()
    except SuperlearnerError as error:
        return None, f"This is the last known tree: {error.what()}"


def sandbox_panel(sandbox: Any) -> SandboxPanel:
    """Return the live panel of `sandbox`: its supervision tree, and what happens to it.

    It stays live until its ``close()``, until the same panel is opened again, or until the kernel exits.
    """
    return SandboxPanel(sandbox)


def watch(sandbox: Any) -> SandboxPanel:
    """Display the live panel of `sandbox` here and return it.

    Outside a notebook the panel's text is printed instead.
    """
    from IPython.display import display

    panel = SandboxPanel(sandbox)
    display(panel)
    return panel
