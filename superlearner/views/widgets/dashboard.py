"""The dashboard of a cluster: nodes, alerts, sandboxes, one of their trees, what happens, and the buttons.

The module is long because it is where everything that can be seen and pressed comes together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, assert_never

import ipywidgets

from superlearner.core.alerts import Alert
from superlearner.core.scores import ClusterScore
from superlearner.core.snapshots import ClusterStatus, Migration, NodeInfo, ProcessInfo, SandboxInfo
from superlearner.errors import SuperlearnerError
from superlearner.views import actions as act
from superlearner.views import desk as desks
from superlearner.views.alerts import alerts
from superlearner.views.faults import AnyFault, faults, what
from superlearner.views.feed import feed
from superlearner.views.format import count, seconds, size
from superlearner.views.nodes import nodes
from superlearner.views.sandboxes import sandboxes
from superlearner.views.tree import TreeView, tree
from superlearner.views.widgets.board import Board, explain, origin_of, refuse_async
from superlearner.views.widgets.panel import look_inside
from superlearner.views.widgets.pictures import (
    ActionsWidget,
    AlertsWidget,
    FaultsWidget,
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
    #: The faults in force.
    faults: tuple[AnyFault, ...] = ()
    alerts: tuple[Alert, ...] = ()
    health: ClusterScore | None = None
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
        self._seen, self._selection, self._desk = Seen(), Selection(), desks.Desk()
        #: Selections that the writer is to carry to the browser; all others come from there.
        self._to_select: dict[str, str] = {}
        now, real = time.time(), self.real
        self.actions = ActionsWidget(desks.as_dict(self._desk, (), real=real), self._pressed)
        self.nodes = NodesWidget(nodes((), real=real, now=now))
        self.faults = FaultsWidget(faults((), real=real), self._pressed)
        self.alerts = AlertsWidget(alerts((), None, real=real), self._pressed)
        self.sandboxes = SandboxesWidget(sandboxes((), real=real, now=now))
        self.tree = TreeWidget(tree(None, real=real))
        self.feed = FeedWidget(feed((), real=real))
        pictures = (self.nodes, self.actions, self.alerts, self.faults, self.sandboxes, self.tree, self.feed)
        super().__init__(("cluster", cluster.address), pictures, cluster.subscribe)
        for kind, picture in (("process", self.tree), ("sandbox", self.sandboxes), ("node", self.nodes)):
            picture.observe(self._follows(kind), "selected")
        self.begin()

    def arrange(self) -> ipywidgets.Widget:
        """Put the nodes and the buttons on top; the alerts and the faults, the tree and the feed side by side."""
        wrong, below = _side_by_side(self.alerts, self.faults), _side_by_side(self.tree, self.feed)
        rows = [self.nodes, self.actions, wrong, self.sandboxes, below]
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
                faults=tuple(self._cluster.chaos.faults()),
                alerts=tuple(self._cluster.alerts()),
                health=self._cluster.health(),
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
        self._trouble = ""

    def peek(self) -> None:
        """Ask for the tree of the selected sandbox; a hurt one may take seconds to show it."""
        with self._lock:
            id = self._selection.sandbox
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
        if self._live.late:
            note = "This is the last known state: the control plane does not answer at present."
        elif seen.unreachable:
            note = f"This is the last known state: {note}"
        offered = self._offered(seen, selection)
        shown = nodes(
            seen.nodes, real=self.real, now=seen.at, status=seen.status, faults=seen.faults, note=note
        )
        self.nodes.show(shown)
        self.faults.show(faults(seen.faults, real=self.real))
        self.alerts.show(alerts(seen.alerts, seen.health, real=self.real))
        self.sandboxes.show(sandboxes(seen.sandboxes, real=self.real, now=seen.at))
        self.tree.show(self._tree(seen, selection))
        self.feed.show(feed(self.events, real=self.real))
        so_far = "".join(act.progress(action, seen.nodes, seen.sandboxes) for action in desk.running[:1])
        self.actions.show(desks.as_dict(desk, offered, real=self.real, so_far=so_far))
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
        chosen = act.Chosen(process, _find(seen, selection), node)
        return act.actions(
            chosen, seen.nodes, faults=seen.faults, alerts=seen.alerts, unreachable=seen.unreachable
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

    def _pressed(self, press: desks.Press) -> None:
        with self._lock:
            offered = self._offered(self._seen, self._selection)
            self._desk, action = self._desk.press(press, offered)
        self._live.draw()
        if action is not None:
            self._live.do(lambda: self._carry_out(action, press.choice), urgent=action.urgent)

    # -- Acting: on the worker's thread -----------------------------------------------------------------------

    def _carry_out(self, action: act.Action, choice: str) -> None:
        began, then = time.perf_counter(), None
        try:
            more = self._effect(action, choice)
        except Exception as error:  # shown, whatever it is: the reader asked for it
            status = desks.StatusLine(f"{action.doing} failed: {explain(error)}", "bad")
        else:
            if isinstance(more, act.Question):
                status, then = desks.StatusLine(more.text, "warn"), more.then
            else:
                took = seconds(time.perf_counter() - began)
                status = desks.StatusLine(f"{action.doing} … done in {took}. {more}".rstrip(), "good")
        with self._lock:
            self._desk = self._desk.done(action, status, then=then)
        self._live.draw()
        self._live.look()

    def _effect(self, action: act.Action, choice: str) -> str | act.Question:
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
                moved: Migration = cluster.sandbox(target).migrate(choice or "auto")
                return f"It runs on {moved.target}; {size(moved.bytes)} moved, callers waited {seconds(moved.pause)}."
            case "kill_sandbox":
                cluster.chaos.kill_sandbox(target)
            case "destroy":
                cluster.destroy_sandbox(target)
            case "kill_node":
                cluster.chaos.kill_node(target)
            case "drain":
                return self._drain(target)
            case "rebalance":
                return act.plan(action, cluster.rebalance(dry_run=True))
            case "rebalance_now":
                return f"Moved {act.moves(cluster.rebalance(dry_run=False))}."
            case "pause_node":
                paused = cluster.chaos.pause_node(target, float(choice) if choice else None)
                return f"In force: {what(paused)}."
            case "partition":
                names = [info.name for info in cluster.nodes()]
                return f"In force: {what(cluster.chaos.partition(act.groups(choice, target, names)))}."
            case "heal":
                return f"{count(len(cluster.chaos.heal()), 'fault')} ended."
            case "revert":
                ended = [fault.revert() for fault in cluster.chaos.faults() if fault.id == target]
                return "" if any(ended) else "It had ended already."
            case "acknowledge":
                from superlearner.arsenal.ops import user

                cluster.acknowledge_alert(target, user())
                return "It goes on while its cause lasts."
            case _:
                assert_never(action.name)
        return ""

    def _drain(self, node: str) -> str:
        """Empty a node, and say where each of its sandboxes has gone."""
        moved = set(self._cluster.drain(node))
        went = [f"{info.id} to {info.node}" for info in self._cluster.sandboxes() if info.id in moved]
        return f"{'Moved ' + ', '.join(went) if went else 'It carried nothing'}; its worker is retired."

    def _create(self) -> str:
        from superlearner.views import samples

        taken = {info.id for info in self._cluster.sandboxes()}
        names = ("shop", *(f"shop-{number}" for number in range(2, len(taken) + 3)))
        id = next(name for name in names if name not in taken)
        self._cluster.create_sandbox(id, samples.shop())
        with self._lock:
            self._selection = replace(self._selection, sandbox=id, process="")
            self._to_select |= {"sandbox": id, "process": ""}
        return f"It is called {id}."


def _side_by_side(*halves: ipywidgets.Widget) -> ipywidgets.Widget:
    for half in halves:
        half.layout.flex, half.layout.min_width, half.layout.width = "1 1 420px", "0", "auto"
    return ipywidgets.HBox(halves, layout=ipywidgets.Layout(flex_flow="row wrap", grid_gap="8px"))


def _find(seen: Seen, selection: Selection) -> SandboxInfo | None:
    return next((info for info in seen.sandboxes if info.id == selection.sandbox), None)
