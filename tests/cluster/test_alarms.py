"""Alerts and scores of a real cluster: what breaks is told at once, and what is mended ends it."""

from __future__ import annotations

import pytest
from cluster_kit import awaiting

import superlearner as sl
from superlearner.errors import NoAlert

COUNTER = "superlearner.cli.demo_app:Counter"


def test_a_sandbox_that_is_given_up_fires_until_it_is_restarted(cluster, fresh):
    cluster.create_sandbox(fresh, COUNTER, restart="temporary")
    with awaiting(cluster, "alert_firing", sandbox=fresh) as fired:
        cluster.chaos.kill_sandbox(fresh)
        event = fired()
    assert (event.detail["rule"], event.detail["severity"]) == ("sandbox_failure", "critical")
    assert event.reason == f"Sandbox {fresh} was given up (killed (SIGKILL))."
    with awaiting(cluster, "alert_acknowledged", sandbox=fresh) as known:
        cluster.acknowledge_alert(event.detail["id"], "ann", "I restart it.")
        assert known().detail["by"] == "ann"
    (alert,) = [alert for alert in cluster.alerts("firing") if alert.sandbox == fresh]
    assert (alert.id, alert.acknowledged.note) == (event.detail["id"], "I restart it.")
    health = cluster.health()
    (score,) = [score for score in health.sandboxes if score.name == fresh]
    assert score.score == 0
    assert any(fresh in text for text in health.advice)
    with awaiting(cluster, "alert_resolved", sandbox=fresh) as resolved:
        cluster.restart_sandbox(fresh)
        resolved()
    assert [alert.state for alert in cluster.alerts() if alert.sandbox == fresh] == ["resolved"]
    with pytest.raises(NoAlert):
        cluster.acknowledge_alert(alert.id, "ann")


def test_what_fails_again_and_again_is_flapping_and_what_was_asked_for_is_not(cluster, fresh):
    shop = cluster.create_sandbox(fresh, COUNTER, max_restarts=10, max_seconds=600.0)
    for _ in range(4):
        shop.restart()
    with awaiting(cluster, "alert_firing", sandbox=fresh) as fired:
        for _ in range(4):
            with awaiting(cluster, "sandbox_restarted", sandbox=fresh) as restarted:
                cluster.chaos.kill_sandbox(fresh)
                restarted()
        alert = fired()
        assert alert.detail["rule"] == "flapping"
    *_, last = cluster.events(kind="host_exited", sandbox=fresh)
    assert alert.seq > last.seq, "it takes the fourth failure: what was asked for does not count"
    (only,) = cluster.events(kind="alert_firing", sandbox=fresh)
    assert only.seq == alert.seq
    assert "more than 3 times within 300 s" in cluster.alerts("firing")[0].summary
    with awaiting(cluster, "alert_resolved", sandbox=fresh) as resolved:
        shop.stop()
        resolved()


def test_a_node_that_is_lost_fires_at_once_and_is_resolved_when_it_is_back(cluster):
    with (
        awaiting(cluster, "alert_firing", node="beta") as fired,
        awaiting(cluster, "alert_resolved", node="beta") as resolved,
    ):
        cluster.chaos.kill_node("beta")
        event = fired()
        lost = cluster.events(kind="node_lost", node="beta")[-1]
        assert event.at - lost.at < 1.0
        assert (event.detail["rule"], event.detail["severity"]) == ("node_failure", "critical")
        assert resolved().detail["id"] == event.detail["id"]


def test_a_node_that_is_silent_is_a_warning(cluster):
    with (
        awaiting(cluster, "alert_firing", node="gamma") as fired,
        awaiting(cluster, "alert_resolved", node="gamma") as resolved,
        cluster.chaos.pause_node("gamma"),
    ):
        event = fired()
        assert (event.detail["rule"], event.detail["severity"]) == ("node_failure", "warning")
        cluster.chaos.heal()
        resolved()


def test_a_state_that_alerts_do_not_have_is_refused(cluster):
    with pytest.raises(sl.InvalidSpec, match="state"):
        cluster.alerts("burning")
