"""Groups of sandboxes, labels and placement rules, on a real cluster."""

from __future__ import annotations

import dask
import pytest
from apps import shop
from cluster_kit import awaiting

import superlearner as sl
from superlearner.errors import GroupExists, GroupFailed, NoGroup, NoPlacement
from superlearner.views.sentences import told

LABELS = {"alpha": {"zone": "a"}, "beta": {"zone": "b"}, "gamma": {"zone": "b", "disk": "ssd"}}


@pytest.fixture(scope="module")
def cluster():
    # A busy machine must not be taken for a frozen node: an epoch more would be counted here.
    with dask.config.set({"superlearner.lease": 30.0}), sl.Cluster(nodes=LABELS) as running:
        yield running


def epochs(cluster, *ids):
    return [cluster.sandbox(id).info().epoch for id in ids]


def members(cluster, group, *ids, **options):
    for id in ids:
        cluster.create_sandbox(id, shop(), group=group, checkpoint=sl.Checkpoint(every=0.1), **options)
    return [cluster.sandbox(id) for id in ids]


@pytest.fixture
def group(cluster, fresh):
    """An id for a group that is destroyed at the end."""
    yield fresh
    if fresh in {group.id for group in cluster.groups()}:
        cluster.destroy_group(fresh)


# -- Groups -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "again"),
    [
        ("one_for_one", [1, 2, 1]),
        ("one_for_all", [2, 2, 2]),
        ("rest_for_one", [1, 2, 2]),
    ],
)
def test_when_an_os_process_dies_its_group_decides_who_starts_again(cluster, group, strategy, again):
    ids = [f"{name}-{group}" for name in ("db", "web", "cache")]
    cluster.create_group(group, strategy=strategy)
    sandboxes = members(cluster, group, *ids)
    for sandbox in sandboxes:
        sandbox.call("counter", "increment")
        sandbox.checkpoint()
    last = next(id for id, epoch in reversed(list(zip(ids, again, strict=True))) if epoch == 2)
    nodes = [sandbox.info().node for sandbox in sandboxes]
    with awaiting(cluster, "sandbox_restarted", sandbox=last) as restarted:
        cluster.chaos.kill_sandbox(ids[1])
        restarted()
    assert epochs(cluster, *ids) == again
    assert [sandbox.info().node for sandbox in sandboxes] == nodes, "on the same nodes"
    assert [sandbox.call("counter", "value") for sandbox in sandboxes] == [1, 1, 1], "from their checkpoints"
    info = cluster.group(group)
    assert (info.members, info.status, info.restarts) == (tuple(ids), "running", 1)
    assert cluster.sandbox(ids[0]).info().group == group
    started = [event.sandbox for event in cluster.events(kind="sandbox_restarted") if event.sandbox in ids]
    assert started == [id for id, epoch in zip(ids, again, strict=True) if epoch == 2], "in start order"
    assert "group_restarting" in {event.kind for event in cluster.story(last)}


def test_a_group_that_gives_up_stops_all_its_members_until_it_is_restarted(cluster, group):
    ids = [f"db-{group}", f"web-{group}"]
    cluster.create_group(group, strategy="one_for_all", max_restarts=0)
    first, _ = members(cluster, group, *ids)
    with awaiting(cluster, "group_failed") as failed:
        cluster.chaos.kill_sandbox(ids[1])
        event = failed()
    assert told(event).text.startswith(f"Group {group} has given up, and all its sandboxes stay down")
    assert cluster.group(group).status == "failed"
    assert {info.status for info in cluster.sandboxes() if info.group == group} == {"failed"}
    with pytest.raises(sl.SandboxFailed, match="restart_group"):
        first.call("counter", "value")
    with pytest.raises(GroupFailed, match="restart_group"):
        cluster.restart_sandbox(ids[0])
    with pytest.raises(GroupFailed, match="has failed"):
        members(cluster, group, f"new-{group}")
    assert cluster.restart_group(group).status == "running"
    assert first.call("counter", "increment") == 1


def test_a_group_is_destroyed_in_reverse_order_and_leaves_nothing(cluster, group):
    ids = [f"db-{group}", f"web-{group}"]
    cluster.create_group(group, strategy="rest_for_one")
    members(cluster, group, *ids)
    cluster.destroy_group(group)
    gone = [event.sandbox for event in cluster.events(kind="sandbox_destroyed") if event.sandbox in ids]
    assert gone == ids[::-1]
    assert not [info for info in cluster.sandboxes() if info.id in ids]
    with pytest.raises(NoGroup, match="There is no group"):
        cluster.group(group)


def test_misuse_of_groups_is_refused_with_sentences(cluster, group):
    with pytest.raises(sl.InvalidSpec, match="did you mean 'rest_for_one'"):
        cluster.create_group(group, strategy="rest_for_on")
    with pytest.raises(NoGroup, match="create_group"):
        cluster.create_sandbox("lonely", shop(), group=group)
    cluster.create_group(group)
    with pytest.raises(GroupExists, match="exists already"):
        cluster.create_group(group)
    for verb in (cluster.restart_group, cluster.destroy_group):
        with pytest.raises(NoGroup):
            verb("nobody")


def test_a_member_that_somebody_destroys_leaves_its_group(cluster, group):
    ids = [f"db-{group}", f"web-{group}"]
    cluster.create_group(group, strategy="one_for_all")
    members(cluster, group, *ids)
    cluster.destroy_sandbox(ids[0])
    assert cluster.group(group).members == (ids[1],)
    assert epochs(cluster, ids[1]) == [1]


@pytest.mark.slow
def test_members_that_are_lost_with_one_node_come_back_once_each_and_in_order(cluster, group):
    ids = [f"{name}-{group}" for name in ("db", "web", "cache", "mail")]
    cluster.create_group(group, strategy="one_for_all", max_restarts=0)
    for id, node in zip(ids, ("gamma", "alpha", "gamma", "beta"), strict=True):
        members(cluster, group, id, node=node)
    with (
        awaiting(cluster, "sandbox_restarted", sandbox=ids[-1]) as restarted,
        awaiting(cluster, "node_joined", node="gamma") as joined,
    ):
        pid = next(node.pid for node in cluster.nodes() if node.name == "gamma")
        cluster.chaos.kill_node("gamma")
        gamma = next(node for node in cluster.nodes() if node.name == "gamma")
        assert gamma.status == "down" or gamma.pid != pid, "a lost node is listed as down until it is back"
        assert not {id for id in gamma.sandboxes if id in ids}
        restarted()
        joined()
    assert epochs(cluster, *ids) == [2, 2, 2, 2]
    info = cluster.group(group)
    assert (info.status, info.restarts) == ("running", 1), "the loss of a node takes nothing from the budget"
    assert next(node for node in cluster.nodes() if node.name == "gamma").labels == LABELS["gamma"]


# -- Labels -----------------------------------------------------------------------------------------


def test_nodes_show_their_labels_and_sandboxes_select_them(cluster, fresh):
    assert {node.name: node.labels for node in cluster.nodes()} == LABELS
    chosen = cluster.create_sandbox(fresh, shop(), node_selector={"zone": "b", "disk": "ssd"})
    assert chosen.info().node == "gamma"
    with pytest.raises(NoPlacement, match="its zone is 'a', and zone='b' is selected"):
        cluster.migrate_sandbox(fresh, "alpha")
    with pytest.raises(NoPlacement, match="it has no gpu, and gpu='yes' is selected"):
        cluster.create_sandbox(f"{fresh}-2", shop(), node_selector={"gpu": "yes"})
    with pytest.raises(sl.InvalidSpec, match="node_selector='b' must map texts to texts"):
        cluster.create_sandbox(f"{fresh}-2", shop(), node_selector="b")
    rows = cluster.explain_placement(node_selector={"zone": "a"})
    assert [row.node for row in rows if row.total or row.chosen] == ["alpha"]
    cluster.destroy_sandbox(fresh)


def test_sandboxes_whose_labels_keep_them_apart_never_share_a_node(cluster, fresh):
    alike = {"labels": {"app": fresh}, "anti_affinity": {"app": fresh}}
    made = [cluster.create_sandbox(f"{fresh}-{n}", shop(), **alike) for n in range(3)]
    assert {sandbox.info().node for sandbox in made} == {"alpha", "beta", "gamma"}
    with pytest.raises(NoPlacement, match=f"carries '{fresh}-0', and their labels keep the two apart"):
        cluster.create_sandbox(f"{fresh}-3", shop(), **alike)
    with pytest.raises(NoPlacement, match="keep the two apart"):
        cluster.create_sandbox(f"{fresh}-3", shop(), labels={"app": fresh})
    for sandbox in made:
        cluster.destroy_sandbox(sandbox.id)


@pytest.mark.slow
def test_a_node_can_be_added_with_labels(cluster, fresh):
    assert cluster.add_node("delta", labels={"gpu": "yes"}).labels == {"gpu": "yes"}
    assert cluster.create_sandbox(fresh, shop(), node_selector={"gpu": "yes"}).info().node == "delta"
    with awaiting(cluster, "sandbox_lost", sandbox=fresh) as lost:
        cluster.remove_node("delta")
        lost()
    assert cluster.sandbox(fresh).info().status == "lost"
    with awaiting(cluster, "sandbox_restarted", sandbox=fresh) as restarted:
        cluster.add_node("epsilon", labels={"gpu": "yes"})
        assert restarted().node == "epsilon"
    cluster.destroy_sandbox(fresh)
    cluster.remove_node("epsilon")


# -- Looking ----------------------------------------------------------------------------------------


def test_what_the_cluster_shows_is_true_at_once_after_each_change(cluster, fresh):
    def shown():
        lists = {node.name: set(node.sandboxes) for node in cluster.nodes()}
        by_node = {name: {info.id for info in cluster.sandboxes(node=name)} for name in LABELS}
        assert lists == by_node
        assert cluster.status().sandboxes == sum(map(len, lists.values()))
        return next((name for name, ids in lists.items() if fresh in ids), None)

    cluster.create_sandbox(fresh, shop(), node="alpha")
    assert shown() == "alpha"
    cluster.migrate_sandbox(fresh, "beta")
    assert shown() == "beta"
    cluster.destroy_sandbox(fresh)
    assert shown() is None
