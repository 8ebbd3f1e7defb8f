"""Hosts are forked warm, and nothing of them stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from sandbox_kit import descriptors, on_a_node


def exists(folder: str) -> bool:
    return Path(folder).exists()


def gone(*pids: int) -> bool:
    """Wait for the end of processes that are not our children."""
    processes = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(pid))
    return not psutil.wait_procs(processes, timeout=10)[1]


def breed():
    """Leave a child in the group, one in a session of its own, and a detached grandchild."""
    plain = subprocess.Popen(["sleep", "600"])
    apart = subprocess.Popen(["sleep", "600"], start_new_session=True)
    shell = "setsid sleep 600 >/dev/null 2>&1 & echo $!"
    detached = int(subprocess.run(["sh", "-c", shell], check=True, capture_output=True).stdout)
    Path(os.environ["TMPDIR"], "deep").mkdir()
    Path(os.environ["TMPDIR"], "deep", "file").write_text("x")
    return [plain.pid, apart.pid, detached, os.environ["TMPDIR"]]


@on_a_node
async def test_nothing_is_left_after_a_stop(node):
    await node.fork_server.start()
    before = descriptors()
    box = await node.start()
    host = (await box.instance.info())["pid"]
    *children, folder = await box.do(breed)
    assert all(map(psutil.pid_exists, children))
    await box.instance.stop()
    assert not any(map(psutil.pid_exists, [host, *children]))
    assert not exists(folder)
    assert descriptors() == before


@on_a_node
async def test_nothing_is_left_after_a_crash(node):
    box = await node.start(max_restarts=0)
    *children, folder = await box.do(breed)
    os.kill((await box.instance.info())["pid"], signal.SIGKILL)
    await node.heard("instance_exited")
    assert not any(map(psutil.pid_exists, children))
    assert not exists(folder)


@on_a_node
async def test_a_host_inherits_no_descriptors(node):
    box = await node.start()
    open_now = await box.do(lambda: len(list(Path("/proc/self/fd").iterdir())))
    assert open_now <= 4 + 3 + 1  # its own four, the loop's, and the listing
    assert await box.do(lambda: str(Path("/proc/self/fd/0").readlink())) == "/dev/null"


@on_a_node
async def test_the_fork_server_imports_only_what_every_host_needs(node):
    box = await node.start()
    modules = await box.do(lambda: sorted({name.partition(".")[0] for name in sys.modules}))
    assert not {"distributed", "dask", "numpy", "psutil", "yaml", "tornado"} & set(modules)


@pytest.mark.slow
@on_a_node
async def test_a_dead_fork_server_ends_its_hosts_and_is_started_again(node):
    box = await node.start()
    host = (await box.instance.info())["pid"]
    *children, _ = await box.do(breed)
    os.kill(node.fork_server.pid, signal.SIGKILL)
    told = await node.heard("instance_restarted")
    assert told["reason"] == "lost with the fork server"
    assert gone(host, *children)
    assert await box.call("increment") == 1


@on_a_node
async def test_killing_a_group_twice_is_harmless(node):
    host = await node.fork_server.host()
    await node.fork_server.kill_group(host.pid)
    await node.fork_server.kill_group(host.pid)
    assert (await host.exited).code == -signal.SIGKILL
    host.release()


@on_a_node
async def test_a_host_ends_when_its_instance_lets_go_of_it(node):
    host = await node.fork_server.host()
    host.release()
    assert (await asyncio.wait_for(host.exited, 10)).code == 214


WORKER = """
    import asyncio, sys
    sys.path.insert(0, {folder!r})
    from sandbox_kit import Node
    from test_forkserver import breed

    async def main():
        node = Node()
        box = await node.start()
        children = await box.do(breed)
        print(node.fork_server.pid, (await box.instance.info())["pid"], *children[:2], children[-1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
"""


def test_the_death_of_the_worker_ends_all_of_its_hosts():
    program = textwrap.dedent(WORKER.format(folder=str(Path(__file__).parent)))
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as worker:
        *pids, folder = worker.stdout.readline().split()
        pids = [int(pid) for pid in pids]
        assert len(pids) == 4
        assert all(map(psutil.pid_exists, pids))
        worker.kill()
    assert gone(*pids)
    assert not Path(folder).parent.exists()


def test_what_lies_in_the_working_folder_does_not_come_before_the_nodes_own_path(tmp_path, monkeypatch):
    (tmp_path / "msgpack.py").write_text("raise ImportError('the wrong one')\n")
    monkeypatch.chdir(tmp_path)

    @on_a_node
    async def check(node):
        box = await node.start()
        assert await box.call("increment") == 1

    check()
