"""The dashboard of a cluster: its nodes, its sandboxes, one of their trees, what happens, and the buttons."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import ipywidgets

from superlearner.core.snapshots import ClusterStatus, Migration, NodeInfo, ProcessInfo, SandboxInfo
from superlearner.errors import SuperlearnerError
from superlearner.views import actions as act
from superlearner.views.feed import feed
from superlearner.views.format import seconds, size
from superlearner.views.nodes import nodes
from superlearner.views.sandboxes import sandboxes
from superlearner.views.tree import TreeView, tree
from superlearner.views.widgets.board import Board, explain, origin_of, refuse_async
from superlearner.views.widgets.panel import look_inside
from superlearner.views.widgets.pictures import (
    ActionsWidget,
    FeedWidget,
    NodesWidget,
    SandboxesWidget,
    TreeWidget,
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the cluster said last."""

    at: float = 0.0
    status: ClusterStatus | None = None
    nodes: tuple[NodeInfo, ...] = ()
    sandboxes: tuple[SandboxInfo, ...] = ()
    #: The tree of the selected sandbox, and whose tree it is.
    root: ProcessInfo | None = None
    root_of: str = ""
    root_note: str = ""
    #: Why the cluster could not be asked; empty when it could.
    unreachable: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """The keys of what is selected; empty for nothing."""

    process: str = ""
    sandbox: str = ""
    node: str = ""


class Dashboard(Board):
    """A live picture of a whole cluster, with buttons that act on it.

    Parameters
    ----------
    cluster
        What `superlearner.connect()` or `superlearner.Cluster()` returned. It is not closed with the dashboard.

    >>> Dashboard(superlearner.connect())      # doctest: +SKIP
    """

    def __init__(self, cluster: Any) -> None:
        refuse_async(cluster, "The dashboard")
        self._cluster, self.real = cluster, origin_of(cluster)
        self._seen, self._selection, self._desk = Seen(), Selection(), act.Desk()
        #: Selections that the writer is to carry to the browser; all others come from there.
        self._to_select: dict[str, str] = {}
        now, real = time.time(), self.real
        self.actions = ActionsWidget(act.as_dict(self._desk, (), (), real=real), self._pressed)
        self.nodes = NodesWidget(nodes((), real=real, now=now))
        self.sandboxes = SandboxesWidget(sandboxes((), real=real, now=now))
        self.tree = TreeWidget(tree(None, real=real))
        self.feed = FeedWidget(feed((), real=real))
        pictures = (self.nodes, self.actions, self.sandboxes, self.tree, self.feed)
        super().__init__(("cluster", cluster.address), pictures, cluster.subscribe)
        for kind, picture in (("process", self.tree), ("sandbox", self.sandboxes), ("node", self.nodes)):
            picture.observe(self._follows(kind), "selected")
        self.begin()

    def arrange(self) -> ipywidgets.Widget:
        """Put the nodes and the buttons on top, the sandboxes, then the tree and the feed side by side."""
        for half in (self.tree, self.feed):
            half.layout.flex, half.layout.min_width, half.layout.width = "1 1 420px", "0", "auto"
        below = ipywidgets.HBox(
            [self.tree, self.feed], layout=ipywidgets.Layout(flex_flow="row wrap", grid_gap="8px")
        )
        rows = [self.nodes, self.actions, self.sandboxes, below]
        return ipywidgets.VBox(rows, layout=ipywidgets.Layout(grid_gap="8px", margin="2px 0"))

    # -- Looking: on the looker's thread -----------------------------------------------------------------

    def look(self) -> None:
        """Ask for everything; what cannot be asked leaves the last answer, with a note."""
        try:
            seen = Seen(
                at=time.time(),
                status=self._cluster.status(),
                nodes=tuple(self._cluster.nodes()),
                sandboxes=tuple(self._cluster.sandboxes()),
            )
            self.catch_up(lambda last: list(self._cluster.events(since=last)))
        except SuperlearnerError as error:
            with self._lock:
                self._seen = replace(self._seen, unreachable=explain(error))
            return
        with self._lock:
            before = self._seen
            self._seen = replace(seen, root=before.root, root_of=before.root_of, root_note=before.root_note)
            self._selection = self._still_there(self._selection, seen)
            chosen = self._selection.sandbox
        self._trouble = ""
        # A hurt sandbox may take seconds to show its tree; what is known is shown meanwhile.
        self._live.draw()
        self._look_inside(chosen)

    def _look_inside(self, id: str) -> None:
        root, note = look_inside(self._cluster.sandbox(id)) if id else (None, "")
        with self._lock:
            last = self._seen.root if self._seen.root_of == id else None
            # What a sandbox that is gone looked like last is of no more use.
            self._seen = replace(self._seen, root=root or last, root_of=id, root_note=note)

    def _still_there(self, selection: Selection, seen: Seen) -> Selection:
        """Let go of a sandbox that is gone, and take the first one when none is selected."""
        ids = [info.id for info in seen.sandboxes]
        if selection.sandbox in ids or (not ids and not selection.sandbox):
            return selection
        first = ids[0] if ids else ""
        self._to_select |= {"sandbox": first, "process": ""}
        return replace(selection, sandbox=first, process="")

    # -- Drawing: on the writer's thread -------------------------------------------------------------------

    def draw(self) -> None:
        """Show what is remembered."""
        with self._lock:
            seen, selection, desk = self._seen, self._selection, self._desk
            to_select, self._to_select = self._to_select, {}
        note = seen.unreachable or self._trouble
        if seen.unreachable:
            note = f"This is the last known state: {note}"
        offered = self._offered(seen, selection)
        self.nodes.show(nodes(seen.nodes, real=self.real, now=seen.at, status=seen.status, note=note))
        self.sandboxes.show(sandboxes(seen.sandboxes, real=self.real, now=seen.at))
        self.tree.show(self._tree(seen, selection))
        self.feed.show(feed(self.events, real=self.real))
        self.actions.show(act.as_dict(desk, offered, _targets(seen, selection), real=self.real))
        for kind, key in to_select.items():
            {"sandbox": self.sandboxes, "process": self.tree, "node": self.nodes}[kind].selected = key

    def _tree(self, seen: Seen, selection: Selection) -> TreeView:
        if seen.root_of != selection.sandbox:
            return tree(None, real=self.real, title=selection.sandbox)
        sandbox = _find(seen, selection)
        note = seen.root_note
        if not note and seen.root and sandbox and sandbox.status not in act.SHOWS_ITSELF:
            note = f"This is the last known tree: {sandbox.id} is {sandbox.status}."
        return tree(seen.root, real=self.real, title=selection.sandbox, note=note)

    def _offered(self, seen: Seen, selection: Selection) -> tuple[act.Action, ...]:
        node = next((info for info in seen.nodes if info.name == selection.node), None)
        process = self._tree(seen, selection).find(selection.process)
        return act.actions(
            act.Chosen(process, _find(seen, selection), node), seen.nodes, unreachable=seen.unreachable
        )

    # -- Clicks: on whichever thread the kernel likes; nothing here may wait --------------------------------

    def _follows(self, kind: str) -> Callable[[Any], None]:
        def selected(change: Any) -> None:
            with self._lock:
                if getattr(self._selection, kind) == change["new"]:
                    return
                self._selection = replace(self._selection, **{kind: change["new"]})
                if kind == "sandbox":  # a process of another sandbox is another process, whatever its name
                    self._selection = replace(self._selection, process="")
                    self._to_select["process"] = ""
            self._live.draw()
            if kind == "sandbox":
                self._live.look()

        return selected

    def _pressed(self, press: act.Press) -> None:
        with self._lock:
            offered = self._offered(self._seen, self._selection)
            self._desk, action = self._desk.press(press, offered)
        self._live.draw()
        if action is not None:
            self._live.do(lambda: self._carry_out(action, press.to))

    # -- Acting: on the worker's thread -----------------------------------------------------------------------

    def _carry_out(self, action: act.Action, to: str) -> None:
        began = time.perf_counter()
        try:
            more = self._effect(action, to)
        except Exception as error:  # shown, whatever it is: the reader asked for it
            status = act.StatusLine(f"{action.doing} failed: {explain(error)}", "bad")
        else:
            took = seconds(time.perf_counter() - began)
            status = act.StatusLine(f"{action.doing} … done in {took}.{more}", "good")
        with self._lock:
            self._desk = self._desk.done(status)
        self._live.draw()
        self._live.look()

    def _effect(self, action: act.Action, to: str) -> str:
        """Do it through the cluster, and return what else there is to say about it."""
        cluster, target = self._cluster, action.target
        match action.name:
            case "create":
                return self._create()
            case "kill_process":
                cluster.sandbox(self._selection.sandbox).kill(target)
            case "restart":
                cluster.sandbox(target).restart()
            case "move":
                moved: Migration = cluster.sandbox(target).migrate(to)
                return f" It runs on {moved.target}; {size(moved.bytes)} moved, callers waited {seconds(moved.pause)}."
            case "kill_sandbox":
                cluster.chaos.kill_sandbox(target)
            case "destroy":
                cluster.destroy_sandbox(target)
            case "kill_node":
                cluster.chaos.kill_node(target)
        return ""

    def _create(self) -> str:
        from superlearner.views import samples

        taken = {info.id for info in self._cluster.sandboxes()}
        names = ("shop", *(f"shop-{number}" for number in range(2, len(taken) + 3)))
        id = next(name for name in names if name not in taken)
        self._cluster.create_sandbox(id, samples.shop())
        with self._lock:
            self._selection = replace(self._selection, sandbox=id, process="")
            self._to_select |= {"sandbox": id, "process": ""}
        return f" It is called {id}."


def _find(seen: Seen, selection: Selection) -> SandboxInfo | None:
    return next((info for info in seen.sandboxes if info.id == selection.sandbox), None)


def _targets(seen: Seen, selection: Selection) -> list[str]:
    sandbox = _find(seen, selection)
    here = sandbox.node if sandbox else None
    return [
        info.name
        for info in sorted(seen.nodes, key=lambda n: n.name)
        if info.status == "up" and info.name != here
    ]
