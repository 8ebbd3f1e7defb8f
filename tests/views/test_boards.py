"""The panel and the dashboard on a real cluster, without a browser: what they show, what they do, what they leave."""

from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("anywidget")

import ipywidgets

import superlearner as sl
from superlearner.views import Dashboard, sandbox_panel
from superlearner.views.desk import Press
from superlearner.views.samples import shop


@pytest.fixture(scope="module")
def cluster():
    with sl.Cluster(nodes=["alpha", "beta"]) as cluster:
        cluster.create_sandbox("shop", shop())
        yield cluster


@pytest.fixture(autouse=True)
def nothing_of_a_board_is_left():
    widgets = set(ipywidgets.widgets.widget._instances)
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("superlearner-w")]
    left = [w for key, w in ipywidgets.widgets.widget._instances.items() if key not in widgets]
    assert not left


def wait_for(widget, condition, timeout=10.0):
    """Wait until `condition(widget.view)` holds, told by the widget's own changes."""
    reached = threading.Event()

    def look(_change=None):
        if condition(widget.view):
            reached.set()

    widget.observe(look, "view")
    look()
    assert reached.wait(timeout), widget.view["text"]
    widget.unobserve(look, "view")


def press(dashboard, name, **more):
    """Click a button as the browser does: when it can be clicked, on the turn that it sees."""

    def button(view):
        return next(button for button in view["buttons"] if button["name"] == name)

    wait_for(dashboard.actions, lambda view: not view["busy"] and not button(view)["reason"])
    view = dashboard.actions.view
    dashboard._pressed(Press(name, button(view)["target"], view["turn"], **more))


def counter(view):
    return next(node for node in view["nodes"] if node["label"] == "counter")


def test_a_panel_follows_a_kill(cluster):
    with sandbox_panel(cluster.sandbox("shop")) as panel:
        before = counter(panel.tree.view)
        cluster.sandbox("shop").kill("counter")
        wait_for(panel.tree, lambda view: counter(view)["pid"] not in (None, before["pid"]))
        assert counter(panel.tree.view)["key"] == before["key"]
        wait_for(panel.feed, lambda view: "counter died (killed, from outside)" in view["text"])
        assert "shop (real)" in panel.text()


def test_a_panel_of_a_sandbox_that_is_not_there_says_so(cluster):
    with sandbox_panel(cluster.sandbox("nowhere")) as panel:
        assert "There is no sandbox 'nowhere'." in panel.text()


def test_a_board_that_is_opened_again_takes_over_and_leaves_the_older_picture_standing(cluster):
    older = sandbox_panel(cluster.sandbox("shop"))
    with sandbox_panel(cluster.sandbox("shop")) as newer:
        assert older.closed
        assert not newer.closed
        assert "stands still" in older.tree.view["note"]
    older.close()


def test_closing_twice_is_safe_and_ends_the_subscription(cluster):
    handlers = len(cluster._session.link._handlers)
    dashboard = Dashboard(cluster)
    assert len(cluster._session.link._handlers) == handlers + 1
    dashboard.close()
    dashboard.close()
    assert len(cluster._session.link._handlers) == handlers


def test_a_dashboard_shows_the_cluster_in_pictures_and_in_words(cluster):
    with Dashboard(cluster) as dashboard:
        assert dashboard.real
        assert [card["name"] for card in dashboard.nodes.view["cards"]] == ["alpha", "beta"]
        assert "2 of 2 nodes healthy, quorum" in dashboard.text()
        bundle = dashboard._repr_mimebundle_()
        assert bundle["text/plain"] == dashboard.text()
        assert bundle["image/svg+xml"].startswith("<svg ")
        assert "application/vnd.jupyter.widget-view+json" in bundle


def test_create_move_and_destroy_really_do_it(cluster):
    with Dashboard(cluster) as dashboard:
        press(dashboard, "create")
        wait_for(dashboard.sandboxes, lambda view: [row["id"] for row in view["rows"]] == ["shop", "shop-2"])
        wait_for(dashboard.actions, lambda view: "It is called shop-2." in view["status"]["text"])
        home = cluster.sandbox("shop-2").info().node
        press(dashboard, "move")
        wait_for(dashboard.actions, lambda view: "callers waited" in view["status"]["text"])
        assert cluster.sandbox("shop-2").info().node != home
        press(dashboard, "destroy")
        wait_for(dashboard.actions, lambda view: view["armed"] is not None)
        assert len(cluster.sandboxes()) == 2  # the first click only asks
        press(dashboard, "destroy", answer="yes")
        wait_for(dashboard.sandboxes, lambda view: [row["id"] for row in view["rows"]] == ["shop"])
        assert [info.id for info in cluster.sandboxes()] == ["shop"]


def test_an_action_that_fails_says_why_and_whether_it_took_effect(cluster):
    with Dashboard(cluster) as dashboard:
        press(dashboard, "move", choice="nowhere")
        wait_for(dashboard.actions, lambda view: view["status"]["tone"] == "bad")
        said = dashboard.actions.view["status"]["text"]
        assert "Moving shop failed: There is no node 'nowhere'; nothing was changed." in said
        assert said.count("othing was changed") == 1


def select_node(dashboard, name):
    """Select a card as the browser does."""
    dashboard.nodes.selected = name
    wait_for(dashboard.actions, lambda view: any(b["target"] == name for b in view["buttons"]))


def card(view, name):
    return next(card for card in view["cards"] if card["name"] == name)


def test_a_paused_node_is_shown_as_such_and_woken_by_the_button_beside_its_fault(cluster):
    with Dashboard(cluster) as dashboard:
        select_node(dashboard, "beta")
        press(dashboard, "pause_node", choice="30")
        wait_for(dashboard.faults, lambda view: [row["kind"] for row in view["rows"]] == ["pause_node"])
        wait_for(dashboard.nodes, lambda view: card(view, "beta")["flags"] == ["paused"])
        wait_for(dashboard.nodes, lambda view: "its lease has surely ended" in card(view, "beta")["trouble"])
        assert "critical" in dashboard.nodes.view["summary"]
        assert "NO quorum (1 of 2 reachable" in dashboard.nodes.view["summary"]
        (row,) = dashboard.faults.view["rows"]
        dashboard._pressed(Press("revert", row["key"], turn=0))
        wait_for(dashboard.faults, lambda view: not view["rows"])
        wait_for(dashboard.actions, lambda view: f"Ending {row['key']} … done in" in view["status"]["text"])
        wait_for(dashboard.nodes, lambda view: card(view, "beta")["status"] == "up")


@pytest.mark.slow
def test_an_alert_is_shown_until_it_is_over_and_acknowledged_by_the_button_beside_it(cluster):
    with Dashboard(cluster) as dashboard:
        wait_for(dashboard.alerts, lambda view: not view["rows"] and view["score"] != "–")
        fault = cluster.chaos.pause_node("beta")

        def of_beta(view):  # the sandbox has an alert of its own, where it runs there
            return [row for row in view["rows"] if row["key"].startswith("node_failure")]

        wait_for(dashboard.alerts, lambda view: [row["word"] for row in of_beta(view)] == ["critical"])
        wait_for(dashboard.alerts, lambda view: (view["score"], view["why"]) == ("0", "There is no quorum."))
        assert any("Node beta cannot be reached" in line for line in dashboard.alerts.view["advice"])
        (row,) = of_beta(dashboard.alerts.view)
        dashboard._pressed(Press("acknowledge", row["key"], turn=0))
        wait_for(dashboard.alerts, lambda view: "knows since" in of_beta(view)[0]["known"])
        (alert,) = [alert for alert in cluster.alerts("firing") if alert.id == row["key"]]
        assert alert.acknowledged.by in dashboard.text()
        fault.revert()
        wait_for(dashboard.alerts, lambda view: not view["rows"])
        wait_for(dashboard.alerts, lambda view: view["score"] != "0")


@pytest.mark.slow
def test_a_partition_without_a_majority_is_told_refuses_and_heals_while_something_waits(cluster):
    with Dashboard(cluster) as dashboard:
        select_node(dashboard, "alpha")
        press(dashboard, "partition", choice="scheduler")
        wait_for(dashboard.nodes, lambda view: "NO quorum (1 of 2 reachable" in view["summary"])
        press(dashboard, "create")
        wait_for(dashboard.actions, lambda view: view["status"]["tone"] == "bad")
        said = dashboard.actions.view["status"]["text"]
        assert said.startswith("Creating a sandbox failed: Only 1 of 2 nodes can be reached: no quorum.")
        assert "Nothing was changed." in said
        press(dashboard, "heal")
        wait_for(dashboard.actions, lambda view: "1 fault ended." in view["status"]["text"])
        wait_for(dashboard.nodes, lambda view: ", quorum (2 of 2 reachable" in view["summary"])


def test_a_plan_is_shown_before_it_is_carried_out_and_draining_asks_and_says_what_went_where(cluster):
    cluster.add_node("delta")
    for number in range(2):
        cluster.create_sandbox(f"job-{number}", shop(), node="delta", resources=sl.Resources(cpu=0.4))
    with Dashboard(cluster) as dashboard:
        press(dashboard, "rebalance")
        wait_for(dashboard.actions, lambda view: view["armed"] is not None)
        planned = cluster.rebalance()
        assert f"Move {planned[0].sandbox} from delta to" in dashboard.actions.view["status"]["text"]
        turn = dashboard.actions.view["turn"]
        dashboard._pressed(Press("rebalance_now", "", turn, answer="yes"))
        wait_for(dashboard.actions, lambda view: "Rebalancing … done in" in view["status"]["text"])
        assert cluster.rebalance() == []
        moved = cluster.sandbox(planned[0].sandbox).info()
        wait_for(
            dashboard.sandboxes,
            lambda view: next(row for row in view["rows"] if row["id"] == moved.id)["move"].startswith(
                "from delta"
            ),
        )
        select_node(dashboard, "delta")
        press(dashboard, "drain")
        wait_for(dashboard.actions, lambda view: view["armed"] is not None)
        press(dashboard, "drain", answer="yes")
        wait_for(dashboard.actions, lambda view: "its worker is retired" in view["status"]["text"])
        wait_for(dashboard.nodes, lambda view: [c["name"] for c in view["cards"]] == ["alpha", "beta"])
        assert "job-" in dashboard.actions.view["status"]["text"]
    for number in range(2):
        cluster.destroy_sandbox(f"job-{number}")


def test_a_click_waits_for_nothing_on_the_thread_that_brings_it(cluster):
    with Dashboard(cluster) as dashboard:
        began = time.perf_counter()
        press(dashboard, "restart")
        assert time.perf_counter() - began < 1.0
        assert dashboard._desk.running
        wait_for(dashboard.actions, lambda view: "Restarting shop … done in" in view["status"]["text"])


def test_the_chart_shows_each_nodes_own_samples_and_sends_its_data_one_way(cluster):
    pytest.importorskip("bokeh")
    from superlearner.views.panels import series_panel

    with series_panel(cluster) as panel:
        wait_for(panel.chart, lambda view: len(view["columns"]["at"]) == 2 and all(view["columns"]["at"]))
        columns = panel.chart.view["columns"]
        assert columns["name"] == ["alpha", "beta"]
        assert all(len(at) == len(cpu) for at, cpu in zip(columns["at"], columns["cpu"], strict=True))
        assert "(real)" in panel.text()
        assert panel.chart.chart["doc"]["roots"]


@pytest.mark.parametrize("kind", [sl.LocalSandboxManager, sl.DualSandboxManager])
def test_a_manager_without_a_cluster_is_shown_as_well(kind):
    with kind() as manager:
        manager.create_sandbox("shop", shop())
        with Dashboard(manager) as dashboard:
            wait_for(dashboard.tree, lambda view: "counter" in view["text"] and "local.shop" in view["text"])
            reasons = {button["name"]: button["reason"] for button in dashboard.actions.view["buttons"]}
            assert reasons["move"] == "There is no other node that is up."
