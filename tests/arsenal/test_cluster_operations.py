"""The operations on the cluster and on chaos where they are rich: pages, plans, refusals, and a cluster in trouble."""

from __future__ import annotations

import queue
from contextlib import contextmanager

import pytest
from arsenal_kit import World, by_rest, fetch

import superlearner as sl
from superlearner.arsenal.registry import Registry, load
from superlearner.cluster.chaos import FAULTS

REGISTRY = load(Registry())


@pytest.fixture
def ask(server):
    """Ask the server for an operation, and return its answer."""

    def ask(name: str, /, **given):
        return by_rest(server.url, server.tokens["admin"], REGISTRY.get(name), given)

    return ask


@contextmanager
def awaiting(cluster: sl.Cluster, kind: str):
    """Within the block make something happen; then the given function waits for one event of a kind."""
    seen: queue.SimpleQueue[sl.Event] = queue.SimpleQueue()
    stop = cluster.subscribe(seen.put, kind)
    try:
        yield lambda: seen.get(timeout=20)
    finally:
        stop()


# -- Events


def test_pages_of_events_hold_each_event_once_and_in_order(world: World, ask):
    sandbox = world.sandbox()
    sandbox.stop()
    since, seen = 0, []
    while True:
        page = ask("list_events", since=since, sandbox=sandbox.id, limit=3).json
        seen += [event["seq"] for event in page["events"]]
        since = page["last"]
        if not page["more"]:
            break
    known = [event.seq for event in world.cluster.events(sandbox=sandbox.id)]
    assert len(known) > 3
    assert seen == known
    assert ask("list_events", since=since, sandbox=sandbox.id).json["events"] == []


def test_events_are_filtered_by_everything_at_once(world: World, ask):
    sandbox = world.sandbox(node="gamma")
    found = ask("list_events", kind="sandbox_started", node="gamma", sandbox=sandbox.id).json
    assert [(e["kind"], e["node"], e["sandbox"]) for e in found["events"]] == [
        ("sandbox_started", "gamma", sandbox.id)
    ]
    assert ask("list_events", kind="sandbox_started", node="beta", sandbox=sandbox.id).json["events"] == []


# -- What is refused


@pytest.mark.parametrize(
    ("name", "given", "status", "code"),
    [
        ("get_node", {"name": "omega"}, 404, "unknown_node"),
        ("add_node", {"name": "beta"}, 409, "invalid_spec"),
        ("add_node", {"name": "be/ta"}, 422, "invalid_parameters"),
        ("drain_node", {"name": "omega"}, 404, "unknown_node"),
        ("remove_node", {"name": "omega"}, 404, "unknown_node"),
        ("cluster_trees", {"node": "omega"}, 404, "unknown_node"),
        ("list_registry", {"node": "omega"}, 404, "unknown_node"),
        ("cluster_metrics", {"node": "omega"}, 404, "unknown_node"),
        ("rebalance", {"plan": "of another day"}, 409, "invalid_spec"),
        ("explain_placement", {"resources": {"memory": "much"}}, 422, "invalid_parameters"),
        ("acknowledge_alert", {"id": "node_failure-999", "by": "ann"}, 404, "no_alert"),
        ("get_fault", {"id": "cut-999"}, 404, "no_fault"),
        ("revert_fault", {"id": "cut-999"}, 404, "no_fault"),
        ("inject_fault", {"fault": {"kind": "cut", "a": "alpha", "b": "omega"}}, 404, "unknown_node"),
        ("inject_fault", {"fault": {"kind": "cut", "a": "alpha", "b": "alpha"}}, 422, "invalid_spec"),
        ("inject_fault", {"fault": {"kind": "kill_node", "node": "beta"}}, 422, "invalid_parameters"),
        (
            "inject_fault",
            {"fault": {"kind": "drop", "a": "*", "b": "*", "probability": 2}},
            422,
            "invalid_parameters",
        ),
        ("inject_fault", {"fault": {"kind": "pause_sandbox", "id": "nobody"}}, 404, "no_sandbox"),
        ("kill", {"kill": {"kind": "kill_sandbox", "id": "nobody"}}, 404, "no_sandbox"),
        ("kill", {"kill": {"kind": "kill_process", "target": "nobody/Counter"}}, 404, "no_sandbox"),
        ("run_schedule", {"steps": []}, 422, "invalid_parameters"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_broken(world: World, ask, name, given, status, code):
    answer = ask(name, **given)
    assert (answer.status, answer.code) == (status, code), answer.body
    assert answer.json["error"]["definite"] is True
    assert world.cluster.chaos.faults() == []
    assert world.cluster.status().nodes == ("alpha", "beta", "gamma")


def test_a_plan_that_is_out_of_date_moves_nothing(world: World, ask):
    busy = [world.sandbox(node="alpha", resources=sl.Resources(cpu=0.3)) for _ in range(4)]
    planned = ask("plan_rebalance").json
    assert planned["moves"]
    for sandbox in busy:
        sandbox.stop()
    answer = ask("rebalance", plan=planned["plan"])
    assert (answer.status, answer.code) == (409, "invalid_spec")
    assert "nothing was moved" in answer.json["error"]["message"]


# -- A cluster in trouble


@pytest.mark.slow
def test_a_sandbox_that_does_not_answer_is_named_and_the_other_trees_are_shown(world: World, ask):
    well, frozen = world.sandbox(node="beta"), world.sandbox(node="beta")
    world.afterwards(world.cluster.chaos.heal)
    world.cluster.chaos.pause_sandbox(frozen.id)
    found = ask("cluster_trees", node="beta", limit=1000).json
    assert well.id in [tree["id"] for tree in found["trees"]]
    assert [(one["id"], one["error"]["code"]) for one in found["failed"]] == [(frozen.id, "no_connection")]


@pytest.mark.slow
def test_what_is_cut_off_from_the_server_too_can_be_healed_through_it(world: World, ask):
    world.afterwards(world.cluster.chaos.heal)
    made = ask("inject_fault", fault={"kind": "partition", "groups": [["alpha"], ["client"]]})
    assert made.status == 201
    assert made.headers["Location"] == f"/api/v1/distributed/chaos/faults/{made.json['id']}"
    assert ask("get_fault", id=made.json["id"]).json["fault"]["kind"] == "partition"
    assert ask("heal").json["healed"] == [made.json["id"]]
    assert ask("cluster_quorum").json["reachable"] == 3


def test_a_schedule_that_fails_in_the_middle_heals_what_it_broke(world: World, ask):
    steps = [
        {"after": 0.0, "fault": {"kind": "delay", "a": "alpha", "b": "beta", "seconds": 0.01}},
        {"after": 0.01, "fault": {"kind": "kill_sandbox", "id": "nobody"}},
    ]
    answer = ask("run_schedule", steps=steps)
    assert (answer.status, answer.code) == (404, "no_sandbox")
    assert world.cluster.chaos.faults() == []


def test_the_same_seed_chooses_the_same_victims(world: World, ask):
    fault = {"kind": "delay", "a": "any", "b": "any", "seconds": 0.001}
    steps = [{"after": 0.0, "fault": fault} for _ in range(3)]
    first, second = (ask("run_schedule", steps=steps, seed=11).json["done"] for _ in range(2))
    assert [step["arguments"] for step in first] == [step["arguments"] for step in second]


def test_a_node_that_is_killed_is_told_by_every_operation_that_asks(world: World, ask):
    shop = world.sandbox(node="beta")
    shop.call("Counter", "increment")
    shop.checkpoint()
    with (
        awaiting(world.cluster, "alert_firing") as fired,
        awaiting(world.cluster, "alert_resolved") as resolved,
    ):
        answer = ask("kill", kill={"kind": "kill_node", "node": "beta"})
        assert answer.status == 200
        assert (
            answer.json["pid"] == world.cluster.events(kind="fault_injected", node="beta")[-1].detail["pid"]
        )
        alert = fired()
        found = ask("list_alerts", node="beta", rule="node_failure").json["alerts"]
        assert alert.detail["id"] in [one["id"] for one in found]
        resolved()
    assert shop.call("Counter", "increment", timeout=20.0) == 2
    where = ask("whereis", target=shop.id).json
    assert where["node"] != "beta"
    assert where["epoch"] > 1


@pytest.mark.slow
def test_the_scheduler_is_killed_and_all_comes_back(world: World, ask):
    shop = world.sandbox(node="beta")
    shop.call("Counter", "increment")
    shop.checkpoint()
    lost = world.sandbox(restart="temporary")
    with awaiting(world.cluster, "alert_firing") as fired:
        world.cluster.chaos.kill_sandbox(lost.id)
        alert = fired()
    ask("acknowledge_alert", id=alert.detail["id"], by="ann")
    assert ask("kill", kill={"kind": "kill_scheduler"}).json == {"kind": "kill_scheduler", "pid": None}
    assert shop.call("Counter", "increment", timeout=30.0) == 2
    assert ask("whereis", target=shop.id).json["epoch"] > 1
    (still,) = ask("list_alerts", sandbox=lost.id).json["alerts"]
    assert (still["id"], still["state"], still["acknowledged"]["by"]) == (alert.detail["id"], "firing", "ann")
    lost.stop()


def test_a_cluster_without_a_quorum_scores_nothing_and_says_what_to_do(world: World, ask):
    world.afterwards(world.cluster.chaos.heal)
    with awaiting(world.cluster, "node_suspected") as suspected:
        for node in ("beta", "gamma"):
            world.cluster.chaos.pause_node(node)
        assert {suspected().node, suspected().node} == {"beta", "gamma"}
    quorum = ask("cluster_quorum").json
    assert (quorum["quorum"], quorum["reachable"], quorum["unreachable"]) == (False, 1, ["beta", "gamma"])
    health = ask("cluster_health").json
    assert (health["health"], health["score"], health["why"]) == ("critical", 0, "There is no quorum.")
    assert "Half of the nodes" in health["advice"][0]
    world.cluster.chaos.heal()


def test_the_document_names_each_kind_of_fault(server):
    document = fetch(f"{server.url}/api/v1/openapi.json", token=server.tokens["read"]).json
    schemas = document["components"]["schemas"]
    told = {
        schema["properties"]["kind"]["const"]
        for schema in schemas.values()
        if "const" in schema.get("properties", {}).get("kind", {})
    }
    assert told == set(FAULTS) - {"heal"}
