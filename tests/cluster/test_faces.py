"""The same cluster through other doors: awaited, shared by several clients, and on somebody else's Dask."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import dask
import psutil
import pytest
from apps import shop
from cluster_kit import awaiting, dask_by_hand, end, run, wait_for_nodes
from distributed import Client

import superlearner as sl
from superlearner.cluster.journal import read_journal
from superlearner.cluster.local import (
    AlreadyRuns,
    connection_path,
    find_connection,
    journal_path,
    start_daemon,
    stop_daemon,
)
from superlearner.errors import ClusterSilent, Unsupported


def test_every_method_can_be_awaited():
    async def work():
        async with sl.Cluster(nodes=["one", "two"], asynchronous=True) as cluster:
            sandbox = await cluster.create_sandbox("shop", shop())
            assert await sandbox.call("counter", "increment") == 1
            assert (await cluster.status()).total_nodes == 2
            assert (await sandbox.tree()).type == "supervisor"
            await cluster.destroy_sandbox("shop")

    run(work())


@pytest.mark.slow
def test_sandboxes_outlive_the_process_that_made_them():
    made = """
import superlearner as sl
from superlearner.otp import GenServer, Reply

class Counter(GenServer):
    def init(self): return 0
    def handle_call(self, request, sender, state): return Reply(state + 1, state + 1)

sandbox = sl.connect(nodes=2).create_sandbox("shop", Counter)
print(sandbox.call(sandbox.tree().children[0].pid, "increment"))
"""
    done = subprocess.run(
        [sys.executable, "-c", made], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "1\n", done.stderr
    connection = find_connection()
    try:
        assert connection_path().stat().st_mode & 0o777 == 0o600
        assert connection_path().parent.stat().st_mode & 0o777 == 0o700
        with sl.connect() as cluster:
            assert cluster.status().total_nodes == 2
            sandbox = cluster.sandbox("shop")
            assert sandbox.call(sandbox.tree().children[0].pid, "increment") == 2
    finally:
        stop_daemon(connection)
    assert find_connection() is None
    kinds = [event.kind for event in read_journal(journal_path())]
    this_run = kinds[len(kinds) - 1 - kinds[::-1].index("cluster_started") :]
    assert this_run.count("sandbox_created") == 1
    assert "node_lost" not in this_run
    assert this_run[-1] == "cluster_stopped"


@pytest.mark.slow
def test_the_files_of_a_dead_cluster_are_ignored_and_removed():
    connection = sl.connect(nodes=1)
    found = find_connection()
    connection.close()
    psutil.Process(found.pid).kill()
    psutil.Process(found.pid).wait()
    assert Path(found.directory).is_dir()
    assert find_connection() is None
    assert not connection_path().exists()
    assert not Path(found.directory).exists()


@pytest.mark.slow
def test_a_cluster_ends_with_its_owner_however_that_ends():
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            """import superlearner as sl, time
cluster = sl.Cluster(nodes=1)
print(*[node.pid for node in cluster.nodes()], cluster._session.found.pid, flush=True)
time.sleep(60)""",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        processes = [psutil.Process(pid) for pid in pids]
        owner.kill()
    _, alive = psutil.wait_procs(processes, timeout=15)
    assert not alive


INTERRUPTED = """
import signal, sys, threading, psutil
import superlearner as sl
sl.Cluster
interrupt = lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
threading.Timer(float(sys.argv[1]), interrupt).start()
try:
    sl.{start}
except KeyboardInterrupt:
    from superlearner.cluster.local import find_connection
    print(len(psutil.Process().children(recursive=True)), find_connection())
"""


@pytest.mark.parametrize("start", ["Cluster(nodes=1)", "connect(nodes=1)"])
@pytest.mark.parametrize("seconds", ["0.1", pytest.param("0.7", marks=pytest.mark.slow)])
def test_an_interrupted_start_leaves_nothing_behind(start, seconds):
    command = [sys.executable, "-c", INTERRUPTED.format(start=start), seconds]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "0 None\n"


def test_nobody_at_an_address_is_said_in_a_sentence(unused_port):
    quickly = dask.config.set({"superlearner.connect-timeout": 0.5})
    with quickly, pytest.raises(sl.ClusterNotFound, match="No Dask scheduler answers"):
        sl.connect(f"tcp://127.0.0.1:{unused_port}")


@pytest.mark.slow
def test_a_dask_cluster_started_by_hand_carries_sandboxes(tmp_path):
    """`dask scheduler` and `dask worker`, with their nannies, on loopback."""
    with dask_by_hand(tmp_path, ["left", "middle", "right"]) as address, sl.connect(address) as cluster:
        wait_for_nodes(cluster, 3)
        sandbox = cluster.create_sandbox("shop", shop(), node="left")
        assert [sandbox.call("counter", "increment") for _ in range(4)] == [1, 2, 3, 4]
        sandbox.checkpoint()
        with awaiting(cluster, "node_joined", node="left") as joined:
            cluster.chaos.kill_node("left")
            assert sandbox.call("counter", "value", timeout=15) == 4
            assert sandbox.info().node in {"middle", "right"}
            joined()
        with pytest.raises(sl.SuperlearnerError, match="started by somebody else"):
            cluster.add_node("fourth")


@pytest.mark.slow
def test_of_two_that_start_the_shared_cluster_at_once_one_does_and_the_other_finds_it(tmp_path):
    connected = []
    threads = [threading.Thread(target=lambda: connected.append(sl.connect(nodes=1))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connection = find_connection()
    (daemon,) = psutil.Process(connection.pid).children()
    try:
        assert len({cluster.address for cluster in connected}) == 1
        with pytest.raises(AlreadyRuns, match=f"process {connection.pid}"):
            start_daemon(["alpha"], detached=True)
        # Another runtime directory finds no cluster, but may not write into its journal.
        other = {**os.environ, "SUPERLEARNER_RUNTIME_DIR": str(tmp_path)}
        command = [sys.executable, "-m", "superlearner", "start", "--nodes", "1"]
        refused = subprocess.run(command, env=other, capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert f"in use by the local cluster of process {connection.pid}" in refused.stderr
        assert "Traceback" not in refused.stderr
        with dask.config.set({"superlearner.connect-timeout": 0.5}):
            daemon.suspend()
            with pytest.raises(
                ClusterSilent, match=rf"process {connection.pid}\) runs, but has not answered"
            ):
                sl.connect()
            with pytest.raises(ClusterSilent, match="frozen, or the machine is overloaded"):
                connected[0].status()
            daemon.resume()
        assert connected[0].status().total_nodes == 1
    finally:
        daemon.resume()
        for cluster in connected:
            cluster.close()
        stop_daemon(connection)


#: As if superlearner were not installed, or another version of it.
SITE = """
import os, sys
match os.environ.get("PRETEND"):
    case "missing":
        class Hide:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "superlearner":
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        sys.meta_path.insert(0, Hide())
    case "old":
        import superlearner
        superlearner.__version__ = "0.0.9"
"""


@contextmanager
def dask_that_has(folder, scheduler_has, workers_have):
    """Start Dask's own commands, each with what it shall pretend; give the scheduler's address."""
    (folder / "sitecustomize.py").write_text(SITE)
    path = os.pathsep.join([str(folder), *sys.path])

    def start(*arguments, pretend, **options):
        command = [sys.executable, "-m", "dask", *arguments, "--host", "127.0.0.1", "--no-dashboard"]
        env = {**os.environ, "PYTHONPATH": path, "PRETEND": pretend}
        return subprocess.Popen(command, env=env, cwd=folder, text=True, **options)

    local = ["--port", "0", "--dashboard-address", "127.0.0.1:0"]
    started = [start("scheduler", *local, pretend=scheduler_has, stderr=subprocess.PIPE)]
    try:
        address = next(
            m[1] for line in started[0].stderr if (m := re.search(r"Scheduler at:\s+(tcp://\S+)", line))
        )
        for name, pretend in workers_have.items():
            options = ["--name", name, "--nthreads", "1", "--no-nanny", "--local-directory", str(folder)]
            started.append(start("worker", address, *options, pretend=pretend, stderr=subprocess.DEVNULL))
        yield address
    finally:
        end(started[::-1])
        started[0].stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheduler_has", "workers_have", "says"),
    [
        (
            "it",
            {"left": "it", "right": "missing"},
            "The worker right lacks superlearner; nothing was changed",
        ),
        (
            "it",
            {"left": "old"},
            f"The worker left has superlearner 0.0.9; .* Install superlearner {sl.__version__}",
        ),
        ("missing", {"left": "it"}, "The scheduler lacks superlearner"),
        ("old", {"left": "it"}, "The scheduler has superlearner 0.0.9"),
    ],
)
def test_a_dask_cluster_that_lacks_superlearner_is_left_as_it_was(
    tmp_path, scheduler_has, workers_have, says
):
    with dask_that_has(tmp_path, scheduler_has, workers_have) as address, Client(address) as client:
        client.wait_for_workers(len(workers_have))
        with pytest.raises(Unsupported, match=says):
            sl.connect(address)
        assert client.submit(sum, [1, 2]).result(timeout=10) == 3
        assert len(client.scheduler_info(n_workers=-1)["workers"]) == len(workers_have)
