"""Examples of the operations on what was measured, and on what is wrong."""

from __future__ import annotations

import queue

from arsenal_kit import Example, World, nothing

NODES = ["alpha", "beta", "gamma"]


def has_each_node(world: World, result, given) -> None:
    assert sorted([*result["nodes"], *result["not_measured"]]) == NODES
    for name, sample in result["nodes"].items():
        assert 0 < sample["memory"] < sample["memory_total"]
        assert any(known["at"] == sample["at"] for known in world.cluster.metrics()[name])


def beta(world: World):
    return {"node": "beta", "limit": 2, "since": 1.0}


def has_its_last_two(world: World, result, given) -> None:
    assert list(result["nodes"]) == ["beta"]
    times = [sample["at"] for sample in result["nodes"]["beta"]]
    assert times == sorted(times)
    assert len(times) <= 2


def one_given_up(world: World):
    world.stored = world.sandbox(restart="temporary")
    alerts: queue.SimpleQueue = queue.SimpleQueue()
    world.afterwards(world.cluster.subscribe(alerts.put, "alert_firing"))
    world.cluster.chaos.kill_sandbox(world.stored.id)
    while (event := alerts.get(timeout=20)).sandbox != world.stored.id:
        pass
    world.afterwards(world.stored.stop)
    return {"id": event.detail["id"]}


def only_a_sandbox_given_up(world: World):
    one_given_up(world)
    return {}


def scores_it(world: World, result, given) -> None:
    assert result["health"] == "degraded"
    assert [node["name"] for node in result["nodes"]] == NODES
    (worst,) = (box for box in result["sandboxes"] if box["name"] == world.stored.id)
    assert worst["score"] == 0
    assert any(world.stored.id in text for text in result["advice"])


def judges_each_resource(world: World, result, given) -> None:
    running = len(world.cluster.sandboxes(status="running"))
    assert result["judged"] + result["unjudged"] == 3 * (3 + running)


def says_what_it_needs(world: World, result, given) -> None:
    assert result["needed"] == 40
    known = world.cluster.metrics()
    assert set(result["too_few"]) >= {node for node in NODES if len(known[node]) < 40}
    assert result["judged"] or not result["anomalies"]


def of_that_sandbox(world: World):
    one_given_up(world)
    return {"sandbox": world.stored.id, "state": "firing", "rule": "sandbox_failure", "severity": "critical"}


def lists_it(world: World, result, given) -> None:
    (alert,) = result["alerts"]
    assert alert["summary"] == f"Sandbox {world.stored.id} was given up (killed (SIGKILL))."
    assert (result["total"], result["next"]) == (1, None)
    assert result["firing"] >= 1


def by_ann(world: World):
    return {**one_given_up(world), "by": "ann", "note": "I look at it."}


def ann_knows(world: World, result, given) -> None:
    (alert,) = (alert for alert in world.cluster.alerts("firing") if alert.id == given["id"])
    assert (alert.acknowledged.by, alert.acknowledged.note) == ("ann", "I look at it.")
    assert result["alert"]["acknowledged"]["by"] == "ann"


EXAMPLES = {
    "cluster_metrics": Example(nothing, has_each_node),
    "metrics_history": Example(beta, has_its_last_two),
    "cluster_health": Example(only_a_sandbox_given_up, scores_it),
    "find_bottlenecks": Example(nothing, judges_each_resource),
    "find_anomalies": Example(nothing, says_what_it_needs),
    "list_alerts": Example(of_that_sandbox, lists_it),
    "acknowledge_alert": Example(by_ann, ann_knows),
}
