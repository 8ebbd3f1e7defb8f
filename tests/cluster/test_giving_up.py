"""OS processes that die again and again, and moves that are given up, on a real cluster."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import dask
import pytest
from apps import Counter, shop
from cluster_kit import awaiting, wait_for_nodes
from distributed import Client

import superlearner as sl
from superlearner.cluster.agent import PEER_TIMEOUT
from superlearner.errors import SandboxDown
from superlearner.otp import Task, child, supervisor

NODES = ["alpha", "beta", "gamma"]


@pytest.fixture(scope="module")
def cluster():
    # A busy machine must not be taken for a frozen node: each restart is counted here.
    with dask.config.set({"superlearner.lease": 30.0}), sl.Cluster(nodes=NODES) as running:
        yield running


@pytest.fixture(autouse=True)
def every_node_is_there(cluster):
    """Wait for the nodes that the test before has killed."""
    wait_for_nodes(cluster, len(NODES))


async def die_soon():
    """End the OS process, after the start has been told."""
    await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)


def doomed():
    return supervisor([child(Counter, 0, id="counter", name="counter"), child(Task, die_soon, id="bomb")])


@pytest.mark.slow
def test_an_os_process_that_always_dies_is_tried_on_each_node_then_given_up_until_somebody_restarts_it(
    cluster, fresh
):
    with awaiting(cluster, "sandbox_failed", sandbox=fresh) as failed:
        sandbox = cluster.create_sandbox(fresh, doomed(), max_restarts=1, max_seconds=60.0)
        failed()
    assert cluster.sandbox(fresh).info().status == "failed"
    with pytest.raises(sl.SandboxFailed, match="was given up: killed"):
        sandbox.call("counter", "value")
    with pytest.raises(SandboxDown, match="no OS process now: it is failed"):
        cluster.chaos.kill_sandbox(fresh)
    told = cluster.story(fresh)
    ended = [event for event in told if event.kind == "sandbox_exited"]
    assert all(event.detail["gave_up"] for event in ended), "each time the node's own budget was spent first"
    assert {event.node for event in ended[:3]} == set(NODES), "each node is tried before one is tried again"
    assert [event.epoch for event in ended] == list(range(1, 7)), "five more starts than the first"
    in_place = [
        event.epoch for event in told if event.kind == "sandbox_restarted" and event.reason is not None
    ]
    assert set(in_place) == set(range(1, 7)), "on each node it was started again once"
    waits = [event.detail["delay"] for event in told if event.kind == "restart_scheduled" and not event.name]
    assert waits == [0.05, 0.1, 0.2, 0.4]
    with awaiting(cluster, "sandbox_failed", sandbox=fresh) as failed:
        assert sandbox.restart().status == "running", "a new chance"
        failed()
    cluster.destroy_sandbox(fresh)


def on_the_scheduler(sandbox):
    """Return what keeps the start of a move's new instance from the machine, and what then has it checkpoint.

    They are closures so that they travel by value: the scheduler does not know this module.
    """

    def hold_back(dask_scheduler):
        plane = dask_scheduler.plugins["superlearner"]
        plane.held = asyncio.get_running_loop().create_future()
        report = dask_scheduler.stream_handlers["superlearner_report"]

        def hold(kind, fields, worker):
            if kind == "instance_started" and pickle.loads(fields)["sandbox"] == sandbox:
                dask_scheduler.stream_handlers["superlearner_report"] = report
                plane.held.set_result(worker)
            else:
                report(kind, fields, worker)

        dask_scheduler.stream_handlers["superlearner_report"] = hold

    async def checkpoint(dask_scheduler):
        plane = dask_scheduler.plugins["superlearner"]
        async with asyncio.timeout(30):
            return await plane.on_instance(await plane.held, sandbox, 2, "checkpoint")

    return hold_back, checkpoint


@pytest.mark.slow
def test_after_a_move_that_was_given_up_the_checkpoints_of_the_owner_count(cluster, fresh):
    sandbox = cluster.create_sandbox(fresh, shop(), node="alpha", checkpoint=sl.Checkpoint(every=None))
    sandbox.call("counter", "increment")
    hold_back, checkpoint = on_the_scheduler(fresh)
    with (
        Client(cluster.address, security=cluster.security, set_as_default=False) as client,
        ThreadPoolExecutor() as threads,
        awaiting(cluster, "move_rolled_back", sandbox=fresh) as back,
    ):
        client.run_on_scheduler(hold_back)
        moving = threads.submit(cluster.migrate_sandbox, fresh, "beta")
        assert client.run_on_scheduler(checkpoint)["nodes"] == [], "it is on trial: it stores nothing"
        cluster.chaos.kill_node("beta")
        back()
        with pytest.raises(sl.MoveFailed, match="node 'beta' was lost"):
            moving.result()
    assert sandbox.call("counter", "increment") == 2
    assert sandbox.checkpoint()["epoch"] == 1
    with awaiting(cluster, "sandbox_restarted", sandbox=fresh) as restarted:
        cluster.chaos.kill_node("alpha")
        restarted()
    assert sandbox.call("counter", "value") == 2, "what was counted after the move was given up is there"
    cluster.destroy_sandbox(fresh)


@pytest.mark.slow
def test_an_instance_that_cannot_be_made_on_its_node_is_said_and_the_node_serves_on(cluster, fresh):
    def take_away(dask_worker):
        dask_worker.plugins["superlearner-node"].begin = None

    def give_back(dask_worker):
        del dask_worker.plugins["superlearner-node"].begin

    address = next(node.address for node in cluster.nodes() if node.name == "gamma")
    with Client(cluster.address, security=cluster.security, set_as_default=False) as client:
        client.run(take_away, workers=[address])
        with pytest.raises(sl.StartFailed, match="TypeError: 'NoneType' object is not callable"):
            cluster.create_sandbox(fresh, shop(), node="gamma")
        client.run(give_back, workers=[address])
    assert cluster.create_sandbox(fresh, shop(), node="gamma").call("counter", "increment") == 1
    cluster.destroy_sandbox(fresh)


@pytest.mark.slow
def test_a_node_that_was_lost_is_asked_for_nothing(cluster):
    async def fetching(address, dask_worker):
        agent = dask_worker.plugins["superlearner-node"]
        begun = time.monotonic()
        assert await agent.fetch("nobody", [("beta", address)]) == []
        return time.monotonic() - begun

    there = {node.name: node.address for node in cluster.nodes()}
    with Client(cluster.address, security=cluster.security, set_as_default=False) as client:
        cluster.chaos.kill_node("beta")
        # Such an order may have been given before its loss, and arrive after it.
        took = client.run(fetching, there["beta"], workers=[there["alpha"]])
    assert took[there["alpha"]] < PEER_TIMEOUT / 2, "nobody listens there: it would have tried all the time"
