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


def test_what_was_stored_survives_the_end_of_every_process_of_the_machine():
    with sl.connect(nodes=2) as cluster:
        sandbox = cluster.create_sandbox("shop", shop())
        sandbox.replace_state("counter", 41)
        sandbox.checkpoint()
        host = psutil.Process(sandbox.info().pid)
        everybody = [*family(find_connection()), host]
        for process in everybody:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(everybody, timeout=10)
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
