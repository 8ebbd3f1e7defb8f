"""What a person does with a cluster on this machine, beyond the contract that it shares with the other managers."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
import time

import psutil
import pytest
from apps import Counter, Doubler, shop
from cluster_kit import awaiting
from distributed import Client

import superlearner as sl


def test_a_cluster_of_three_nodes_is_healthy_and_names_its_nodes(cluster):
    status = cluster.status()
    assert status.nodes == ("alpha", "beta", "gamma")
    assert (status.total_nodes, status.healthy_nodes, status.cluster_health, status.quorum) == (
        3,
        3,
        "healthy",
        True,
    )
    assert cluster.address.startswith("tls://127.0.0.1:")


def test_nodes_report_measured_figures(cluster):
    nodes = cluster.nodes()
    assert len({node.pid for node in nodes}) == 3
    for node in nodes:
        assert node.status == "up"
        assert psutil.pid_exists(node.pid)
        assert node.memory is None or node.memory > 1_000_000


def test_a_sandbox_answers_calls_in_order_and_is_an_own_process(cluster, fresh):
    shop_ = cluster.create_sandbox(fresh, shop())
    assert [shop_.call("counter", "increment") for _ in range(3)] == [1, 2, 3]
    info = shop_.info()
    assert (info.id, info.status, info.epoch, info.restarts) == (fresh, "running", 1, 0)
    assert shop_.call("counter", "os_pid") == info.pid
    assert info.pid not in {os.getpid(), *(node.pid for node in cluster.nodes())}
    assert fresh in {i for node in cluster.nodes() for i in node.sandboxes}


def test_a_single_behaviour_class_is_an_application(cluster, fresh):
    sandbox = cluster.create_sandbox(fresh, Counter)
    tree = sandbox.tree()
    assert tree.type == "supervisor"
    assert [child.type for child in tree.children] == ["worker"]


def test_a_cast_is_handled_before_a_later_call_of_the_same_caller(cluster, fresh):
    cluster.create_sandbox(fresh, shop())
    cluster.cast(f"{fresh}/counter", 41)
    assert cluster.call(f"{fresh}/counter", "increment") == 42


def test_a_named_node_is_taken(cluster, fresh):
    assert cluster.create_sandbox(fresh, Counter, node="beta").info().node == "beta"


def test_placement_can_be_explained(cluster):
    rows = cluster.explain_placement(sl.Resources(memory="64 MiB"))
    assert {row.node for row in rows} == {"alpha", "beta", "gamma"}
    assert rows[0].chosen
    assert all(row.reason for row in rows)


def test_where_a_process_lives_can_be_asked(cluster, fresh):
    cluster.create_sandbox(fresh, shop(), node="gamma")
    where = cluster.whereis(f"{fresh}/counter")
    assert (where.node, where.epoch) == ("gamma", 1)
    assert where.pid.startswith(f"<gamma.{fresh}.")
    assert cluster.whereis(f"{fresh}/nobody") is None
    assert cluster.whereis("nowhere") is None


class TestWhatIsRefused:
    def test_an_unknown_node_with_the_names_there_are(self, cluster, fresh):
        with pytest.raises(sl.UnknownNode, match="alpha, beta, gamma"):
            cluster.create_sandbox(fresh, Counter, node="delta")

    def test_a_target_without_process_name(self, cluster):
        with pytest.raises(sl.InvalidSpec, match="sandbox/process"):
            cluster.call("shop", "value")


class TestWhenThingsDie:
    def test_a_killed_node_loses_no_state_and_comes_back(self, cluster, fresh):
        sandbox = cluster.create_sandbox(fresh, shop(), node="alpha")
        for _ in range(7):
            sandbox.call("counter", "increment")
        stored = sandbox.checkpoint()
        assert len(stored["nodes"]) == 3
        before = sandbox.info()
        with awaiting(cluster, "node_joined", node="alpha") as joined:
            cluster.chaos.kill_node("alpha")
            assert sandbox.call("counter", "value", timeout=10) == 7
            after = sandbox.info()
            assert after.node != "alpha"
            assert after.epoch > before.epoch
            joined()
        assert "alpha" in {node.name for node in cluster.nodes() if node.status == "up"}
        kinds = [event.kind for event in cluster.story(fresh)]
        assert (
            kinds.index("sandbox_created")
            < kinds.index("sandbox_restarting")
            < kinds.index("sandbox_restarted")
        )

    def test_no_call_hangs_when_its_node_dies(self, cluster, fresh):
        sandbox = cluster.create_sandbox(fresh, shop(), node="beta")
        sandbox.checkpoint()
        errors = []

        def call():
            try:
                sandbox.call("counter", "never", timeout=20)
            except sl.SuperlearnerError as error:
                errors.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        while not sandbox.process("counter").handled:
            pass
        began = time.monotonic()
        with awaiting(cluster, "node_joined", node="beta") as joined:
            cluster.chaos.kill_node("beta")
            caller.join(timeout=10)
            joined()
        assert time.monotonic() - began < 10
        assert [type(error) for error in errors] == [sl.NoConnection]
        assert errors[0].definite is False


def test_a_move_keeps_the_state_and_raises_the_epoch(cluster, fresh):
    sandbox = cluster.create_sandbox(fresh, shop(), node="alpha")
    for _ in range(3):
        sandbox.call("counter", "increment")
    with awaiting(cluster, "move_completed", sandbox=fresh) as completed:
        moved = sandbox.migrate("gamma")
        completed()
    assert (moved.source, moved.target, moved.epoch) == ("alpha", "gamma", 2)
    assert moved.bytes > 0
    at_last = sandbox.info().moved
    assert list(at_last.phases) == ["quiesce", "start", "resume"]
    assert at_last.buffered == 0
    kinds = [event.kind for event in cluster.events(sandbox=fresh)]
    steps = ["sandbox_moving", "sandbox_copying", "sandbox_moved", "move_completed"]
    assert [kind for kind in kinds if kind in steps] == steps
    assert sandbox.call("counter", "value") == 3
    assert sandbox.info().node == "gamma"


def test_a_new_version_takes_the_state_over_and_survives_the_loss_of_its_node(cluster, fresh):
    sandbox = cluster.create_sandbox(fresh, shop(), node="gamma")
    for _ in range(3):
        sandbox.call("counter", "increment")
    sandbox.reload(shop(Doubler))
    assert sandbox.call("counter", "increment") == 8
    sandbox.checkpoint()
    with awaiting(cluster, "node_joined", node="gamma") as joined:
        cluster.chaos.kill_node("gamma")
        assert sandbox.call("counter", "increment", timeout=10) == 10
        joined()


def test_the_registry_knows_a_checkpoint_as_soon_as_it_is_taken(cluster, fresh):
    sandbox = cluster.create_sandbox(fresh, shop())
    for _ in range(20):
        sandbox.call("counter", "increment")
        stored = sandbox.checkpoint()
        newest = sandbox.info().checkpoint
        assert (newest.epoch, newest.seq) >= (stored["epoch"], stored["seq"])


def test_one_sandbox_that_blocks_does_not_delay_another(cluster):
    busy = cluster.create_sandbox("busy", shop(), node="alpha")
    calm = cluster.create_sandbox("calm", shop(), node="alpha")
    caller = threading.Thread(target=lambda: busy.call("counter", ("block", 1.0)))
    caller.start()
    assert calm.call("counter", "increment", timeout=0.9) == 1
    caller.join()


def test_a_handler_given_to_subscribe_must_not_block(cluster, fresh):
    errors = []

    def handler(event):
        try:
            cluster.status()
        except sl.SuperlearnerError as error:
            errors.append(str(error))

    with awaiting(cluster, "sandbox_created", sandbox=fresh) as created:
        stop = cluster.subscribe(handler, "sandbox_created")
        cluster.create_sandbox(fresh, Counter)
        created()
        stop()
    assert "queue" in errors[0]


def test_the_cluster_tells_what_it_holds_of_sandboxes_and_that_nothing_is_left(cluster, fresh):
    def held():
        told = cluster._session.ask("inventory")
        assert set(told) == {"scheduler", "alpha", "beta", "gamma"}
        return {
            (where, what)
            for where, all_ in told.items()
            for what, these in all_.items()
            if any(fresh in it for it in these)
        }

    sandbox = cluster.create_sandbox(fresh, shop(), node="beta")
    sandbox.checkpoint()
    copies = {(node, "checkpoints") for node in ("alpha", "beta", "gamma")}
    here = {
        ("beta", "instances"),
        ("scheduler", "sandboxes"),
        ("scheduler", "files"),
        ("scheduler", "actors"),
    }
    assert held() >= copies | here
    pid = sandbox.info().pid
    assert str(pid) in cluster._session.ask("inventory")["beta"]["hosts"]
    cluster.destroy_sandbox(fresh)
    assert held() == set()
    assert str(pid) not in cluster._session.ask("inventory")["beta"]["hosts"]


def test_dask_is_given_an_actor_for_each_sandbox_when_nothing_is_being_started(cluster, fresh):
    key = (fresh, 1)

    async def held(dask_scheduler):
        plane = dask_scheduler.plugins["superlearner"]
        plane._hold(until=0.0)  # what a timer does half a second after the start
        future, address = plane._futures[key]
        assert await future.exception() is None
        task = dask_scheduler.tasks[future.key]
        return task.actor, [worker.address for worker in task.who_has] == [address]

    async def left(dask_scheduler):
        return [key for key in dask_scheduler.plugins["superlearner"].inventory()["actors"] if fresh in key]

    cluster.create_sandbox(fresh, Counter)
    with Client(cluster.address, security=cluster.security, set_as_default=False) as client:
        assert client.run_on_scheduler(held) == (True, True)
        assert client.run_on_scheduler(left) == [f"{fresh} (epoch 1)"]
        cluster.destroy_sandbox(fresh)
        assert client.run_on_scheduler(left) == []


def test_an_order_that_a_node_cannot_read_is_a_start_that_failed(cluster, fresh):
    async def order(dask_scheduler):
        plane = dask_scheduler.plugins["superlearner"]
        (address,) = (facts["address"] for name, facts in plane.known.items() if name == "beta")
        told = asyncio.get_running_loop().create_future()
        report = dask_scheduler.stream_handlers["superlearner_report"]

        def hear(kind, fields, worker):
            plain = pickle.loads(fields)
            if kind == "instance_start_failed" and plain["sandbox"] == fresh:
                dask_scheduler.stream_handlers["superlearner_report"] = report
                told.set_result((plain["epoch"], plain["reason"]))
            report(kind, fields, worker)

        dask_scheduler.stream_handlers["superlearner_report"] = hear
        plane.tell_node(address, "superlearner_start", orders=[(fresh, 7, "test", b"nonsense")])
        async with asyncio.timeout(30):
            return await told

    with Client(cluster.address, security=cluster.security, set_as_default=False) as client:
        epoch, reason = client.run_on_scheduler(order)
    assert epoch == 7
    assert reason.startswith("UnpicklingError")
