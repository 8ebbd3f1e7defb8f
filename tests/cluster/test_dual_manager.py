"""What is peculiar to a manager of two sides: the way back to this machine, and promotion into the cluster."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from apps import Counter, shop
from cluster_kit import awaiting, run
from contract_kit import listening

import superlearner as sl
from superlearner.cluster.link import Link
from superlearner.cluster.local import tls_of
from superlearner.cluster.state_dir import StateDirectory


@pytest.fixture
def manager(cluster):
    with sl.DualSandboxManager(cluster) as opened:
        yield opened


def ids(manager) -> dict[str, str]:
    return {info.id: info.node for info in manager.sandboxes()}


class Asked:
    """Stands between a manager and its cluster: each verb in `does` is answered by its function."""

    def __init__(self, monkeypatch, **does: Callable) -> None:
        real = Link.ask

        async def ask(link, verb, **kwargs):
            if verb in does:
                return await does[verb](lambda: real(link, verb, **kwargs))
            return await real(link, verb, **kwargs)

        monkeypatch.setattr(Link, "ask", ask)


class TestWithoutACluster:
    def test_a_sandbox_starts_on_this_machine_and_an_event_says_why(self, unused_port):
        with sl.DualSandboxManager(f"tcp://127.0.0.1:{unused_port}") as manager:
            sandbox = manager.create_sandbox("shop", shop())
            assert (sandbox.call("counter", "increment"), sandbox.info().node) == (1, "local")
            (why,) = manager.events(kind="sandbox_kept_local")
            assert (
                f"no cluster answers: No Dask scheduler answers at tcp://127.0.0.1:{unused_port}"
                in why.reason
            )
            with pytest.raises(sl.MoveFailed, match="no cluster answers"):
                manager.promote("shop")
            assert sandbox.call("counter", "increment") == 2

    def test_a_cluster_without_quorum_is_none_for_a_new_sandbox(self, manager, fresh, monkeypatch):
        async def status(real):
            return replace(await real(), quorum=False)

        Asked(monkeypatch, status=status)
        assert manager.create_sandbox(fresh, shop()).info().node == "local"
        (why,) = manager.events(kind="sandbox_kept_local", sandbox=fresh)
        assert why.reason == "the cluster has no quorum"

    def test_a_refusal_for_want_of_quorum_is_heeded_too(self, manager, fresh, monkeypatch):
        async def create(real):
            raise sl.NoQuorum(1, 3)

        Asked(monkeypatch, create=create)
        assert manager.create_sandbox(fresh, shop()).info().node == "local"


def test_what_names_no_cluster_is_refused():
    with pytest.raises(sl.InvalidSpec, match="names no cluster"):
        sl.DualSandboxManager(3)


def test_what_is_where_can_be_seen(manager, fresh):
    manager.create_sandbox(f"{fresh}-a", shop(), node="beta")
    manager.create_sandbox(f"{fresh}-b", shop(), node="local")
    assert ids(manager)[f"{fresh}-a"] == "beta"
    assert ids(manager)[f"{fresh}-b"] == "local"
    assert [node.name for node in manager.nodes()] == ["alpha", "beta", "gamma", "local"]
    for id in (f"{fresh}-a", f"{fresh}-b"):
        with pytest.raises(sl.SandboxExists):
            manager.create_sandbox(id, shop())
        with pytest.raises(sl.SandboxExists):
            manager.create_sandbox(id, shop(), node="local")


class TestPromotion:
    def test_takes_the_state_along_and_leaves_nothing(self, manager, cluster, fresh):
        sandbox = manager.create_sandbox(fresh, shop(), node="local")
        for _ in range(3):
            sandbox.call("counter", "increment")
        before = sandbox.info()
        moved = manager.promote(fresh, node="gamma")
        assert (moved.source, moved.target, moved.bytes > 0) == ("local", "gamma", True)
        assert list(moved.phases) == ["quiesce", "start"]
        assert sandbox.call("counter", "increment") == 4
        after = sandbox.info()
        assert (after.node, after.epoch) == ("gamma", moved.epoch)
        assert moved.epoch > before.epoch
        assert not psutil.pid_exists(before.pid)
        assert cluster.call(f"{fresh}/counter", "value") == 4
        assert ids(manager)[fresh] == "gamma"
        kinds = [event.kind for event in manager.story(fresh)]
        assert kinds.index("sandbox_moving") < kinds.index("sandbox_moved") < kinds.index("sandbox_destroyed")
        with pytest.raises(sl.MoveFailed, match="in the cluster already"):
            manager.promote(fresh)
        sandbox.stop()
        assert manager.create_sandbox(fresh, shop(), node="local").call("counter", "value") == 0

    def test_stores_the_state_on_the_peers_before_it_is_done(self, manager, cluster, fresh):
        sandbox = manager.create_sandbox(fresh, shop(), node="local", checkpoint=sl.Checkpoint(every=None))
        sandbox.call("counter", "increment")
        manager.promote(fresh, node="alpha")
        with awaiting(cluster, "node_joined", node="alpha") as joined:
            cluster.chaos.kill_node("alpha")
            assert sandbox.call("counter", "value", timeout=15) == 1
            joined()

    def test_loses_and_doubles_no_call_under_way(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop(), node="local")
        answers: list[list[int]] = [[], [], []]
        ready, enough = threading.Barrier(4), threading.Event()

        def call(mine: list[int]) -> None:
            mine.append(sandbox.call("counter", "increment", timeout=30))
            ready.wait()
            while not enough.is_set():
                mine.append(sandbox.call("counter", "increment", timeout=30))

        callers = [threading.Thread(target=call, args=(mine,)) for mine in answers]
        for caller in callers:
            caller.start()
        ready.wait()
        manager.promote(fresh)
        last = sandbox.call("counter", "increment", timeout=30)
        enough.set()
        for caller in callers:
            caller.join()
        counted = [*(value for mine in answers for value in mine), last]
        assert sorted(counted) == list(range(1, len(counted) + 1))
        assert all(mine == sorted(mine) for mine in answers)

    def test_loses_and_reorders_no_message_under_way(self, cluster, fresh):
        async def work():
            async with sl.DualSandboxManager(cluster, asynchronous=True) as manager:
                sandbox = await manager.create_sandbox(fresh, listening(), node="local")
                promoted = asyncio.create_task(manager.promote(fresh))
                sent = 0
                while not promoted.done() or sent < 100:
                    await sandbox.send("listener", sent)
                    sent += 1
                    await asyncio.sleep(0)
                await promoted
                heard = await sandbox.call("listener", "all", timeout=30)
                assert heard == [("info", number) for number in range(sent)]
                await sandbox.stop()

        run(work())

    @pytest.mark.parametrize(
        ("node", "why"), [("nowhere", "no node 'nowhere'"), ("local", "no node 'local'")]
    )
    def test_that_is_refused_lets_the_local_one_go_on(self, manager, fresh, node, why):
        sandbox = manager.create_sandbox(fresh, shop(), node="local")
        sandbox.call("counter", "increment")
        with pytest.raises(sl.MoveFailed, match=why) as caught:
            manager.promote(fresh, node=node)
        assert caught.value.definite
        assert sandbox.call("counter", "increment") == 2
        assert ids(manager)[fresh] == "local"
        assert manager.promote(fresh).source == "local", "it may be tried again"

    def test_of_an_id_that_the_cluster_has_touches_neither(self, manager, cluster, fresh):
        mine = manager.create_sandbox(fresh, shop(), node="local")
        theirs = cluster.create_sandbox(fresh, shop())
        theirs.call("counter", "increment")
        with pytest.raises(sl.MoveFailed, match="of that id already"):
            manager.promote(fresh)
        assert mine.call("counter", "value") == 0
        assert theirs.call("counter", "value") == 1

    def test_of_what_is_not_there_or_not_running(self, manager, fresh):
        with pytest.raises(sl.NoSandbox):
            manager.promote("nowhere")
        manager.create_sandbox(fresh, shop(), node="local", restart="temporary")
        with awaiting(manager, "sandbox_failed", sandbox=fresh) as failed:
            manager.chaos.kill_sandbox(fresh)
            failed()
        with pytest.raises(sl.MoveFailed, match="it is failed"):
            manager.promote(fresh)

    def test_whose_answer_is_lost_leaves_one_sandbox_and_that_is_the_local_one(
        self, manager, cluster, fresh, monkeypatch
    ):
        async def create(real):
            await real()
            raise sl.NoConnection("the control plane", "cut")

        sandbox = manager.create_sandbox(fresh, shop(), node="local")
        sandbox.call("counter", "increment")
        Asked(monkeypatch, create=create)
        with pytest.raises(sl.MoveFailed, match="cut") as caught:
            manager.promote(fresh)
        assert caught.value.definite
        monkeypatch.undo()
        assert fresh not in {info.id for info in cluster.sandboxes()}
        assert sandbox.call("counter", "increment") == 2

    def test_of_which_nothing_certain_is_known_is_undone_when_the_cluster_answers_again(
        self, manager, cluster, fresh, monkeypatch
    ):
        async def create(real):
            await real()
            raise sl.NoConnection("the control plane", "cut")

        async def gone(real):
            raise sl.ClusterClosed("The connection is closed.")

        sandbox = manager.create_sandbox(fresh, shop(), node="local")
        Asked(monkeypatch, create=create, destroy=gone)
        with pytest.raises(sl.MoveFailed, match="destroyed as soon as that answers again") as caught:
            manager.promote(fresh)
        assert not caught.value.definite
        monkeypatch.undo()
        assert sandbox.call("counter", "increment") == 1
        assert fresh in {info.id for info in cluster.sandboxes()}
        sides = manager._session.link._sides
        manager._session.run(sides._remote.close())
        manager.create_sandbox(f"{fresh}-next", Counter)  # looks for the cluster again
        assert fresh not in {info.id for info in cluster.sandboxes()}
        assert sandbox.call("counter", "increment") == 2

    def test_that_cannot_be_noted_on_disk_does_not_begin(self, cluster, fresh, tmp_path, monkeypatch):
        with sl.DualSandboxManager(cluster, state_dir=tmp_path) as manager:
            sandbox = manager.create_sandbox(fresh, shop(), node="local")

            def full(self, sandbox, doubt):
                if doubt:
                    raise OSError(28, "No space left on device")

            monkeypatch.setattr(StateDirectory, "doubt", full)
            with pytest.raises(sl.MoveFailed, match="No space left"):
                manager.promote(fresh)
            assert fresh not in {info.id for info in cluster.sandboxes()}
            assert sandbox.call("counter", "increment") == 1

    def test_that_is_cancelled_lets_the_local_one_go_on(self, cluster, fresh, monkeypatch):
        async def work():
            async with sl.DualSandboxManager(cluster, asynchronous=True) as manager:
                sandbox = await manager.create_sandbox(fresh, shop(), node="local")
                asked = asyncio.Event()

                async def create(real):
                    asked.set()
                    await asyncio.Event().wait()

                Asked(monkeypatch, create=create)
                promotion = asyncio.create_task(manager.promote(fresh))
                await asked.wait()
                waiting = asyncio.create_task(sandbox.call("counter", "increment"))
                promotion.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await promotion
                assert await waiting == 1

        run(work())

    def test_lets_a_call_that_waits_too_long_time_out(self, cluster, fresh, monkeypatch):
        async def work():
            async with sl.DualSandboxManager(cluster, asynchronous=True) as manager:
                sandbox = await manager.create_sandbox(fresh, shop(), node="local")
                asked, go_on = asyncio.Event(), asyncio.Event()

                async def create(real):
                    asked.set()
                    await go_on.wait()
                    return await real()

                Asked(monkeypatch, create=create)
                promotion = asyncio.create_task(manager.promote(fresh))
                await asked.wait()
                with pytest.raises(sl.CallTimeout, match=r"within 0\.05 s"):
                    await sandbox.call("counter", "increment", timeout=0.05)
                go_on.set()
                await promotion
                assert await sandbox.call("counter", "value") == 0
                await sandbox.stop()

        run(work())


CRASHES = """
import sys, os
sys.path.insert(0, {tests!r})
import superlearner as sl
from superlearner.cluster.link import Link
from distributed import Security
from apps import shop
real = Link.ask
async def ask(link, verb, **kwargs):
    if verb == "create":
        if {arrives}:
            await real(link, verb, **kwargs)
        os._exit(0)
    return await real(link, verb, **kwargs)
Link.ask = ask
security = Security(**{security!r})
manager = sl.DualSandboxManager({address!r}, security=security, state_dir={path!r})
manager.create_sandbox({id!r}, shop(), node="local").call("counter", "increment")
manager.promote({id!r})
"""


@pytest.mark.parametrize("arrives", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_program_that_dies_over_a_promotion_leaves_one_sandbox(cluster, fresh, tmp_path, arrives):
    security = {"require_encryption": True, **tls_of(cluster.security)}
    code = CRASHES.format(
        tests=str(Path(__file__).parent),
        address=cluster.address,
        security=security,
        path=str(tmp_path),
        id=fresh,
        arrives=arrives,
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with sl.LocalSandboxManager(tmp_path) as alone:
        (told,) = alone.events(kind="sandbox_not_restored")
        assert "only that can tell" in told.reason
        assert alone.sandboxes() == []
        with pytest.raises(sl.SandboxExists):
            alone.create_sandbox(fresh, shop())
    with sl.DualSandboxManager(cluster, state_dir=tmp_path) as manager:
        assert manager.call(f"{fresh}/counter", "value", timeout=15) == 1
        assert len([info for info in manager.sandboxes() if info.id == fresh]) == 1
        assert (manager.sandbox(fresh).info().node == "local") is not arrives
    assert (tmp_path / "sandboxes" / fresh).exists() is not arrives


@pytest.mark.slow
def test_a_lost_cluster_leaves_the_local_ones_at_work_and_its_own_are_asked_for_in_vain():
    with sl.Cluster(nodes=1) as own, sl.DualSandboxManager(own) as manager:
        away = manager.create_sandbox("away", shop())
        here = manager.create_sandbox("here", shop(), node="local")
        own.close()
        with pytest.raises(sl.SuperlearnerError) as caught:
            away.call("counter", "value")
        assert caught.value.code in {"cluster_not_found", "no_connection"}
        with pytest.raises(sl.ClusterNotFound, match="does not answer"):
            away.call("counter", "value")
        assert here.call("counter", "increment") == 1
        assert ids(manager) == {"here": "local"}
        assert manager.status().nodes == ("local",)
        assert manager.create_sandbox("next", shop()).info().node == "local"
        with pytest.raises(sl.MoveFailed, match="no cluster answers"):
            manager.promote("here")
