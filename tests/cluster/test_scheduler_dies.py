"""The scheduler is killed, or the whole machine's processes are: what was acknowledged as stored comes back."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

import psutil
import pytest
from apps import shop
from cluster_kit import awaiting

import superlearner as sl
from superlearner.cluster.local import find_connection, state_path, stop_daemon
from superlearner.errors import GroupFailed

pytestmark = pytest.mark.slow


def daemon_of(connection):
    """The process of the scheduler: the guardian's child."""
    (daemon,) = psutil.Process(connection.pid).children()
    return daemon


def family(connection):
    guardian = psutil.Process(connection.pid)
    return [guardian, *guardian.children(recursive=True)]


def test_a_scheduler_that_is_killed_comes_back_with_every_sandbox_and_its_history():
    with sl.Cluster(nodes=3) as cluster:
        boxes = [cluster.create_sandbox(f"shop-{n}", shop()) for n in range(6)]
        for n, box in enumerate(boxes):
            box.replace_state("counter", n)
            box.checkpoint()
        _guardian, *old = family(cluster._session.found)
        with contextlib.ExitStack() as stack:
            back = [
                stack.enter_context(awaiting(cluster, "sandbox_restarted", 60, sandbox=box.id))
                for box in boxes
            ]
            daemon_of(cluster._session.found).kill()
            # Told through the subscription that was there before, over the new connection.
            assert [wait().epoch for wait in back] == [2] * 6
        assert [box.call("counter", "value", timeout=20) for box in boxes] == list(range(6))
        assert boxes[0].call("counter", "increment") == 1
        status = cluster.status()
        assert (status.total_nodes, status.sandboxes, status.quorum) == (3, 6, True)
        kinds = [event.kind for event in cluster.story("shop-0")]
        assert kinds.count("sandbox_created") == 1, "its history is still there"
        assert kinds.count("sandbox_restarted") == 1
        seqs = [event.seq for event in cluster.events()]
        assert seqs == sorted(set(seqs)), "numbered on"
        _, staying = psutil.wait_procs(old, timeout=10)
        assert not staying, "nothing of the old one is left"
        cluster.destroy_sandbox("shop-5")
        with awaiting(cluster, "sandbox_restarted", 60, sandbox="shop-4") as again:
            cluster.chaos.kill_scheduler()
            assert again().epoch == 3
        assert [info.id for info in cluster.sandboxes()] == [f"shop-{n}" for n in range(5)]


def grouped(cluster, group, *ids, **options):
    """A group whose members have counted to 1, 2, ... and have stored that."""
    cluster.create_group(group, **options)
    for n, id in enumerate(ids, start=1):
        box = cluster.create_sandbox(id, shop(), group=group)
        box.replace_state("counter", n)
        box.checkpoint()
    return [cluster.sandbox(id) for id in ids]


def test_groups_come_back_with_their_scheduler_and_go_on_as_before():
    ids = ("web", "db", "cache")  # in another order than that of their names
    with sl.Cluster(nodes=2) as cluster:
        boxes = grouped(cluster, "shop", *ids, strategy="rest_for_one", max_restarts=2, max_seconds=50.0)
        cluster.create_group("empty", strategy="one_for_all")
        grouped(cluster, "hopeless", "bad", "ugly", strategy="one_for_all", max_restarts=0)
        with awaiting(cluster, "group_failed") as failed:
            cluster.chaos.kill_sandbox("bad")
            failed()
        before = {group.id: group for group in cluster.groups()}
        with awaiting(cluster, "sandbox_restarted", 60, sandbox="cache") as back:
            cluster.chaos.kill_scheduler()
            assert back().epoch == 2
        assert {group.id: group for group in cluster.groups()} == before
        assert before["shop"].members == ids
        restarted = [event.sandbox for event in cluster.events(kind="sandbox_restarted")]
        assert restarted == list(ids), "in start order, and nobody else"
        assert [box.call("counter", "value", timeout=20) for box in boxes] == [1, 2, 3]
        assert {cluster.sandbox(id).info().status for id in ("bad", "ugly")} == {"failed"}
        with pytest.raises(GroupFailed):
            cluster.restart_sandbox("bad")
        # The strategy still holds.
        with awaiting(cluster, "sandbox_restarted", sandbox="cache") as again:
            cluster.chaos.kill_sandbox("db")
            assert again().epoch == 3
        assert [box.info().epoch for box in boxes] == [2, 3, 3]
        assert [box.call("counter", "value", timeout=20) for box in boxes] == [1, 2, 3]
        assert cluster.restart_group("hopeless").status == "running"
        cluster.destroy_group("shop")
        with awaiting(cluster, "sandbox_restarted", 60, sandbox="ugly") as once_more:
            cluster.chaos.kill_scheduler()
            once_more()
        assert [group.id for group in cluster.groups()] == ["empty", "hopeless"]


def kill_everybody(cluster):
    """SIGKILL every process of the local cluster that was started by `sl.connect`."""
    hosts = [psutil.Process(info.pid) for info in cluster.sandboxes() if info.pid is not None]
    everybody = [*family(find_connection()), *hosts]
    for process in everybody:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(everybody, timeout=10)


def test_groups_survive_the_end_of_every_process_of_the_machine():
    with sl.connect(nodes=2) as cluster:
        grouped(cluster, "shop", "web", "db", strategy="one_for_all", max_restarts=1)
        grouped(cluster, "hopeless", "bad", max_restarts=0)
        with awaiting(cluster, "group_failed") as failed:
            cluster.chaos.kill_sandbox("bad")
            failed()
        kill_everybody(cluster)
    with sl.connect(nodes=2) as again:
        connection = find_connection()
        try:
            assert again.sandbox("db").call("counter", "value", timeout=20) == 2
            group = again.group("shop")
            assert (group.strategy, group.members, group.max_restarts) == ("one_for_all", ("web", "db"), 1)
            assert again.group("hopeless").status == again.sandbox("bad").info().status == "failed"
            with awaiting(again, "sandbox_restarted", sandbox="db") as restarted:
                again.chaos.kill_sandbox("web")
                assert restarted().epoch == 3
            assert again.sandbox("web").call("counter", "value", timeout=20) == 1
        finally:
            stop_daemon(connection)
    assert not Path(state_path() / "groups").exists(), "a cluster that is stopped ends its groups"


def test_what_was_stored_survives_the_end_of_every_process_of_the_machine():
    with sl.connect(nodes=2) as cluster:
        sandbox = cluster.create_sandbox("shop", shop())
        sandbox.replace_state("counter", 41)
        sandbox.checkpoint()
        kill_everybody(cluster)
    assert (state_path() / "sandboxes" / "shop").stat().st_mode & 0o777 == 0o700
    with sl.connect(nodes=2) as again:
        connection = find_connection()
        try:
            assert again.sandbox("shop").call("counter", "increment", timeout=20) == 42
        finally:
            stop_daemon(connection)
    assert not Path(state_path() / "sandboxes").exists(), "a cluster that is stopped ends its sandboxes"


def test_a_cluster_that_keeps_dying_is_given_up_and_says_so():
    with sl.Cluster(nodes=1) as cluster:
        connection = cluster._session.found
        guardian = psutil.Process(connection.pid)
        seen = set()
        while guardian.is_running() and guardian.status() != psutil.STATUS_ZOMBIE:
            for daemon in guardian.children():
                if daemon.pid not in seen:
                    seen.add(daemon.pid)
                    daemon.kill()
                    daemon.wait()
        assert len(seen) == 6, "the first, and five that were started again"
        assert not Path(connection.directory).exists()
