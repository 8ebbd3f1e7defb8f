"""The widgets as Python objects: plain traits, twins in text and SVG, and nothing that needs a network."""

from __future__ import annotations

import re
from functools import partial

import pytest

pytest.importorskip("anywidget")

import ipywidgets

from superlearner.core.snapshots import NodeInfo, ProcessInfo
from superlearner.errors import InvalidSpec, NoQuorum, ProcessDied
from superlearner.views import alerts, faults, feed, nodes, sandboxes, tree
from superlearner.views.actions import Action
from superlearner.views.desk import Desk, as_dict
from superlearner.views.widgets import (
    ActionsWidget,
    AlertsWidget,
    FaultsWidget,
    FeedWidget,
    NodesWidget,
    SandboxesWidget,
    TreeWidget,
)
from superlearner.views.widgets.board import explain, origin_of, refuse_async

COUNTER = ProcessInfo("counter", "<alpha.shop.2>", "counter", "worker", "waiting")
ROOT = ProcessInfo("root", "<alpha.shop.1>", None, "supervisor", "waiting", children=(COUNTER,))
KILL = Action("kill_process", "Process", "Kill", "<alpha.shop.2>", "Killing process counter", "It ends")
CLASSES = (ActionsWidget, AlertsWidget, FaultsWidget, FeedWidget, NodesWidget, SandboxesWidget, TreeWidget)


@pytest.fixture
def opened():
    """Close every widget that the test opens, and prove that none stays."""
    before = set(ipywidgets.widgets.widget._instances)
    widgets: list[ipywidgets.Widget] = []

    def keep(widget):
        widgets.append(widget)
        return widget

    yield keep
    for widget in widgets:
        widget.close()
        widget.layout.close()
    left = set(ipywidgets.widgets.widget._instances) - before
    assert not left


def test_a_tree_widget_shows_its_view_as_plain_data_and_as_text_and_svg(opened):
    widget = opened(TreeWidget(tree(ROOT, real=True, title="shop")))
    assert [node["key"] for node in widget.view["nodes"]] == ["root", "root/counter"]
    assert widget.view["real"] is True
    data, _ = widget._repr_mimebundle_()
    assert data["text/plain"] == tree(ROOT, real=True, title="shop").text()
    assert data["image/svg+xml"].startswith("<svg ")
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == widget.model_id


def test_a_view_is_replaced_whole_and_tells_about_it_once(opened):
    widget = opened(TreeWidget(tree(ROOT, real=True)))
    told = []
    widget.observe(lambda change: told.append(change["new"]), "view")
    widget.show(tree(ROOT, real=True))  # nothing has changed, so nothing is sent
    widget.show(tree(None, real=True))
    assert [view["nodes"] for view in told] == [[]]


def test_each_noun_has_a_widget_with_a_text_twin(opened):
    views = {
        NodesWidget: nodes([NodeInfo("alpha", "tls://a", 1, "up", "healthy")], real=True, now=1.0),
        SandboxesWidget: sandboxes([], real=True, now=1.0),
        FeedWidget: feed([], real=False),
        partial(FaultsWidget, on_press=list): faults([], real=True),
        partial(AlertsWidget, on_press=list): alerts([], None, real=True),
    }
    for cls, view in views.items():
        widget = opened(cls(view))
        assert widget.text() == view.text()
        assert widget._repr_mimebundle_()[0]["text/plain"] == view.text()


def test_a_click_arrives_as_a_press_and_anything_else_is_ignored(opened):
    heard = []
    widget = opened(ActionsWidget(as_dict(Desk(), [KILL], real=True), heard.append))
    widget._handle_custom_msg(
        {"press": "kill_process", "target": "<alpha.shop.2>", "turn": 0, "choice": "", "answer": ""}, []
    )
    widget._handle_custom_msg({"press": 5}, [])
    assert [(press.name, press.target) for press in heard] == [("kill_process", "<alpha.shop.2>")]


@pytest.mark.parametrize("cls", CLASSES)
def test_a_widget_carries_all_it_needs_and_works_offline(cls):
    code, style = str(cls._esm), str(cls._css)
    assert "export default { render }" in code
    assert not re.search(r"\bimport\b.*\bfrom\b", code)
    addresses = set(re.findall(r"https?://[^\s\"']+", code + style)) - {"http://www.w3.org/2000/svg"}
    assert not addresses
    assert "@import" not in style
    assert "url(" not in style


@pytest.mark.parametrize("cls", CLASSES)
def test_every_colour_follows_the_theme(cls):
    fixed = re.findall(r"^(?!.*--sl-).*#[0-9a-f]{3,6}\b.*$", str(cls._css), re.MULTILINE)
    # White on the red of the confirming button is the same in both themes.
    assert all("sl-sure" in line for line in fixed)


def test_an_error_says_whether_it_took_effect_and_what_to_do():
    assert explain(NoQuorum(1, 3)) == (
        "Only 1 of 3 nodes can be reached: no quorum. Nothing was changed. "
        "It works again when more than half of the nodes are back."
    )
    assert "It may have taken effect." in explain(ProcessDied("killed", "counter"))
    assert explain(ValueError("odd")) == "ValueError: odd"


def test_what_does_not_say_that_it_is_real_counts_as_simulated():
    class Stranger:
        pass

    class Simulator:
        real = False

    impostor = type("Cluster", (), {"__module__": "superlearner.cluster.cluster", "real": False})
    own = type("Cluster", (), {"__module__": "superlearner.cluster.cluster"})
    assert [origin_of(cls()) for cls in (Stranger, Simulator, impostor, own)] == [False, False, False, True]


def test_an_asynchronous_cluster_is_refused_with_what_to_write_instead():
    class Awaitable:
        asynchronous = True

    with pytest.raises(InvalidSpec, match="without asynchronous=True"):
        refuse_async(Awaitable(), "The dashboard")
