"""A frozen node: replaced when its lease has run out, fenced when it wakes; and what a minority may not do."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager

import dask.config
import psutil
import pytest
from apps import shop
from cluster_kit import awaiting

import superlearner as sl

#: Long enough for a machine that is busy with other tests; it is proved with shorter ones in `core`.
LEASE = 2.0


@pytest.fixture(scope="module")
def cluster():
    with dask.config.set({"superlearner.lease": LEASE}), sl.Cluster(nodes=3) as running:
        yield running


@contextmanager
def frozen(cluster, *names):
    """Freeze the worker processes of these nodes; they wake at the end of the block."""
    pids = [node.pid for node in cluster.nodes() if node.name in names]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def statuses(cluster):
    return {node.name: node.status for node in cluster.nodes()}


def test_a_frozen_node_is_replaced_and_fenced_when_it_wakes(cluster, fresh):
    sandbox = cluster.create_sandbox(fresh, shop(), node="alpha")
    assert [sandbox.call("counter", "increment") for _ in range(3)] == [1, 2, 3]
    sandbox.checkpoint()
    host = psutil.Process(sandbox.info().pid)
    with awaiting(cluster, "node_joined", node="alpha") as rejoined:
        with frozen(cluster, "alpha"):
            began = time.monotonic()
            assert sandbox.call("counter", "value", timeout=15, idempotent=True) == 3
            assert time.monotonic() - began > LEASE / 4, "its lease was outwaited"
            assert sandbox.info().node in {"beta", "gamma"}
            assert sandbox.info().epoch == 2
            host.wait(5)  # it has ended by itself, while its worker could do nothing
            assert statuses(cluster)["alpha"] == "down"
        rejoined()
    assert statuses(cluster)["alpha"] == "up"
    kinds = [
        event.kind for event in cluster.events() if event.node == "alpha" and event.kind.startswith("node_")
    ]
    assert kinds[-4:] == ["node_suspected", "node_lost", "node_fenced", "node_joined"]
    assert sandbox.call("counter", "increment") == 4
    with awaiting(cluster, "checkpoint_stored", sandbox=fresh) as stored:
        sandbox.checkpoint()
        assert "alpha" in stored().detail["nodes"], "it is asked again, at the address that was given up"
    cluster.destroy_sandbox(fresh)


@pytest.mark.slow
def test_a_node_that_was_cut_off_for_several_leases_is_as_good_as_before_when_it_is_back(fresh):
    with dask.config.set({"superlearner.lease": 0.5}), sl.Cluster(nodes=3) as parted:
        sandbox = parted.create_sandbox(fresh, shop(), node="beta")
        sandbox.checkpoint()
        with awaiting(parted, "node_joined", node="alpha") as rejoined:
            with parted.chaos.partition([["alpha"], ["beta", "gamma"]]):
                time.sleep(1.8)  # it runs out of its lease again and again, and joins anew each time
            rejoined()
            rejoined()
        assert {node.name: node.health for node in parted.nodes()}["alpha"] == "healthy"
        assert parted.status().healthy_nodes == 3
        sandbox.call("counter", "increment")
        assert "alpha" in sandbox.checkpoint()["nodes"], "the others know that it is back"
        assert sandbox.migrate("alpha").target == "alpha"
        assert parted.chaos.kill_node("alpha")


@pytest.mark.slow
def test_without_a_majority_nothing_that_is_asked_of_a_lost_sandbox_waits_for_ever(fresh):
    settings = {"superlearner.lease": 0.5, "superlearner.call-timeout": 0.5}
    with dask.config.set(settings), sl.Cluster(nodes=2) as parted:
        sandbox = parted.create_sandbox(fresh, shop())
        with awaiting(parted, "sandbox_lost", sandbox=fresh) as lost:
            parted.chaos.partition([["scheduler"], ["alpha"], ["beta"]])
            lost()
        for ask in (
            sandbox.checkpoint,
            lambda: sandbox.restore(1, 1),
            lambda: sandbox.reload(shop()),
            lambda: sandbox.cast("counter", 5),
            lambda: sandbox.send("counter", 5),
            lambda: sandbox.call("counter", "value"),
        ):
            with pytest.raises(sl.NoQuorum, match="no quorum") as refused:
                ask()
            assert refused.value.definite
        parted.chaos.heal()


@pytest.mark.slow
def test_a_node_that_wakes_within_its_lease_goes_on(cluster, fresh):
    sandbox = cluster.create_sandbox(fresh, shop(), node="beta")
    sandbox.call("counter", "increment")
    with awaiting(cluster, "node_recovered", node="beta") as recovered:
        with awaiting(cluster, "node_suspected", node="beta") as suspected, frozen(cluster, "beta"):
            suspected()
            assert statuses(cluster)["beta"] == "suspected"
        recovered()
    assert sandbox.call("counter", "value") == 1
    assert sandbox.info().epoch == 1
    cluster.destroy_sandbox(fresh)


@pytest.mark.slow
def test_without_a_majority_nothing_is_decided_and_everything_resumes_after_it(cluster, fresh):
    staying = cluster.create_sandbox(f"{fresh}-a", shop(), node="gamma")
    leaving = cluster.create_sandbox(f"{fresh}-b", shop(), node="alpha")
    leaving.call("counter", "increment")
    leaving.checkpoint()
    with awaiting(cluster, "sandbox_restarted", sandbox=leaving.id) as restarted:
        with awaiting(cluster, "sandbox_lost") as lost, frozen(cluster, "alpha", "beta"):
            lost()
            assert cluster.status().quorum is False
            assert staying.call("counter", "increment") == 1, "what holds its lease goes on"
            with pytest.raises(sl.NoQuorum, match="no quorum"):
                cluster.create_sandbox(f"{fresh}-c", shop())
            with pytest.raises(sl.NoQuorum):
                cluster.migrate_sandbox(staying.id)
            with pytest.raises(sl.NoQuorum):
                leaving.call("counter", "value", timeout=1.0)
            assert leaving.info().status == "lost"
        restarted()
    assert leaving.call("counter", "value", timeout=15) == 1
    assert cluster.status().quorum is True
    for sandbox in (staying, leaving):
        cluster.destroy_sandbox(sandbox.id)


@pytest.mark.slow
def test_under_availability_both_sides_go_on(fresh):
    settings = {"superlearner.lease": LEASE, "superlearner.partition": "availability"}
    with dask.config.set(settings), sl.Cluster(nodes=3) as cluster:
        sandbox = cluster.create_sandbox(fresh, shop(), node="alpha")
        host = psutil.Process(sandbox.info().pid)
        with awaiting(cluster, "node_joined", node="alpha") as rejoined:
            with frozen(cluster, "alpha", "beta"):
                assert sandbox.call("counter", "increment", timeout=15, idempotent=True) == 1
                assert sandbox.info().node == "gamma"
                assert host.is_running(), "the old one lives: two owners, by choice"
            rejoined()
        host.wait(5)
