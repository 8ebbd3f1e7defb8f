"""Hostile sandboxes on a real cluster: neighbours answer, the story names the cause, and the node stays clean."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from cluster_kit import awaiting

import superlearner as sl
from superlearner.otp import GenServer, Reply, child, supervisor


class Obedient(GenServer):
    def init(self):
        return 0

    def handle_call(self, request, sender, state):
        if callable(request):
            return Reply(request(), state)
        return Reply(state + 1, state + 1)


def app():
    return supervisor([child(Obedient, id="it", name="it")])


@pytest.fixture
def neighbour(cluster, fresh):
    sandbox = cluster.create_sandbox(f"neighbour-of-{fresh}", app(), node="beta")
    pid = sandbox.info().pid
    yield sandbox
    assert sandbox.info().pid == pid
    sandbox.stop()


def while_it_lasts(neighbour, work):
    """Run `work` in a thread of its own; the neighbour answers again and again meanwhile."""
    thread = threading.Thread(target=work)
    thread.start()
    answered = 0
    while thread.is_alive():
        assert neighbour.call("it", "increment", timeout=5.0)
        answered += 1
    thread.join()
    assert answered


def die(sandbox, function, reason):
    with pytest.raises(sl.ProcessDied) as died:
        sandbox.call("it", function, timeout=30.0)
    assert died.value.reason == reason
    assert not died.value.definite


DEATHS = {
    "a segmentation fault": (lambda: ctypes.string_at(0), {}, "killed (SIGSEGV)"),
    "a busy loop": (
        lambda: [None for _ in iter(int, 1)],
        {"resources": sl.Resources(cpu_time=1)},
        "CPU time limit 1 s",
    ),
    "a frozen process": (
        lambda: os.kill(os.getpid(), signal.SIGSTOP),
        {"on_unresponsive": "restart", "unresponsive_after": 0.5},
        "unresponsive for 0.5 s",
    ),
}


@pytest.mark.parametrize("abuse", DEATHS)
def test_the_story_of_a_death_names_its_cause(cluster, fresh, neighbour, abuse):
    function, options, reason = DEATHS[abuse]
    sandbox = cluster.create_sandbox(
        fresh, app(), node="beta", checkpoint=sl.Checkpoint(every=None), **options
    )
    sandbox.call("it", lambda: os.write(1, b"these are my last words\n"))
    with awaiting(cluster, "sandbox_restarted", sandbox=fresh) as restarted:
        while_it_lasts(neighbour, lambda: die(sandbox, function, reason))
        assert restarted().reason == reason
    (exited,) = sandbox.events(kind="host_exited")
    assert exited.reason == reason
    assert "these are my last words" in exited.detail["output"]
    assert reason in str(cluster.story(fresh))
    assert "these are my last words" in sandbox.logs()
    assert f"ended: {reason} ---" in sandbox.logs()
    assert sandbox.call("it", "increment") == 1
    sandbox.stop()


@pytest.mark.slow
def test_an_unresponsive_sandbox_is_seen_as_such_and_can_still_be_restarted(cluster, fresh, neighbour):
    sandbox = cluster.create_sandbox(fresh, app(), node="beta", unresponsive_after=0.5, shutdown=0.5)
    with awaiting(cluster, "sandbox_unresponsive", sandbox=fresh) as silent:
        os.kill(sandbox.info().pid, signal.SIGSTOP)
        silent()
    with pytest.raises(sl.CallTimeout):
        sandbox.call("it", "increment", timeout=0.2)
    assert sandbox.info().status == "running"
    assert sandbox.info().responsive is not True
    with pytest.raises(sl.CallTimeout, match=r"did not answer within 0\.3 s"):
        cluster._session.run(sandbox._reload(app(), timeout=0.3))
    while_it_lasts(neighbour, sandbox.restart)
    assert sandbox.call("it", "increment") == 1
    sandbox.stop()


def threads_and_files(pid):
    """Return how many threads, descriptors and processes a node has."""
    folder = Path(f"/proc/{pid}")
    children = sum(len((task / "children").read_text().split()) for task in (folder / "task").iterdir())
    return {
        "threads": len(list((folder / "task").iterdir())),
        "descriptors": len(list((folder / "fd").iterdir())),
        "processes": children,
    }


def fork_server_of(pid):
    (server,) = [
        int(one)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for one in (task / "children").read_text().split()
        if b"forkmain" in Path(f"/proc/{one}/cmdline").read_bytes()
    ]
    return server


def breed_and_leave():
    """Leave programs in sessions of their own, files, and threads; then end without a word."""
    import subprocess
    import tempfile

    for number in range(3):
        subprocess.Popen(["sleep", "600"], start_new_session=True)
        Path(tempfile.gettempdir(), f"deep-{number}").mkdir()
        Path(tempfile.gettempdir(), f"deep-{number}", "file").write_text("x" * 1000)
        threading.Thread(target=time.sleep, args=(600,)).start()
    os._exit(number)


def test_twenty_hostile_sandboxes_leave_nothing_behind_on_their_node(cluster, neighbour):
    (node,) = [node for node in cluster.nodes() if node.name == "beta"]
    server = fork_server_of(node.pid)
    folder = Path(os.fsdecode(Path(f"/proc/{server}/cmdline").read_bytes().split(b"\0")[-2]))
    abuses = [
        breed_and_leave,
        lambda: ctypes.string_at(0),
        lambda: os.closerange(3, 99),
        lambda: os.kill(os.getpid(), 9),
    ]

    def suffer(number):
        sandbox = cluster.create_sandbox(f"hostile-{number}", app(), node="beta", max_restarts=1)
        with pytest.raises(sl.ProcessDied):
            sandbox.call("it", abuses[number % len(abuses)])
        sandbox.stop()

    suffer(0)  # whatever is made once and kept, is made now
    before = [threads_and_files(node.pid), threads_and_files(server), sorted(folder.iterdir())]
    for number in range(20):
        suffer(number)
    after = [threads_and_files(node.pid), threads_and_files(server), sorted(folder.iterdir())]
    assert neighbour.call("it", "increment")
    # Dask opens and closes connections of its own now and then.
    assert after[0].pop("descriptors") <= before[0].pop("descriptors") + 3
    assert after[0].pop("threads") <= before[0].pop("threads") + 1
    assert after == before
