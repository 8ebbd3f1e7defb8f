"""What is peculiar to sandboxes on one machine: what it cannot do, and what a state directory keeps."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from apps import Counter, Doubler, shop
from cluster_kit import awaiting, run

import superlearner as sl
from superlearner.cluster.state_dir import StateDirectory


@pytest.fixture
def manager():
    with sl.LocalSandboxManager() as opened:
        yield opened


def counted(path: Path, calls: int) -> None:
    """Leave a sandbox that has counted to `calls` in a state directory."""
    with sl.LocalSandboxManager(path) as manager:
        sandbox = manager.create_sandbox("shop", shop())
        for _ in range(calls):
            sandbox.call("counter", "increment")


class TestWhatOneNodeCannotDo:
    @pytest.mark.parametrize(
        ("ask", "why"),
        [
            (lambda manager: manager.migrate_sandbox("shop"), "nowhere to move"),
            (lambda manager: manager.sandbox("shop").migrate("beta"), r"promote\(\)"),
            (lambda manager: manager.drain("local"), "nowhere else to go"),
            (lambda manager: manager.add_node("beta"), "no node can be added"),
            (lambda manager: manager.remove_node("local"), "nothing was removed"),
            (lambda manager: manager.chaos.kill_node("local"), "your own program"),
            (lambda manager: manager._session.ask("conquer"), "knows no 'conquer'"),
        ],
    )
    def test_is_refused_in_a_sentence(self, manager, ask, why):
        manager.create_sandbox("shop", shop())
        with pytest.raises(sl.SuperlearnerError, match=why) as caught:
            ask(manager)
        assert caught.value.code == "unsupported"
        assert manager.call("shop/counter", "increment") == 1


def test_a_sandbox_that_dies_too_often_is_given_up_and_may_be_restarted(manager):
    sandbox = manager.create_sandbox("shop", shop(), max_restarts=0, restart="transient")
    sandbox.checkpoint()
    gave_up = []
    with awaiting(manager, "sandbox_exited") as exited:
        manager.chaos.kill_sandbox("shop")
        gave_up.append(exited().detail["gave_up"])
    assert gave_up == [True]
    assert sandbox.call("counter", "value", timeout=10) == 0, "the machine has tried again, on the one node"
    assert sandbox.info().epoch == 2


def test_every_method_can_be_awaited():
    async def work():
        async with sl.LocalSandboxManager(asynchronous=True) as manager:
            sandbox = await manager.create_sandbox("shop", shop())
            assert await sandbox.call("counter", "increment") == 1
            assert (await sandbox.tree()).type == "supervisor"
            assert (await manager.status()).total_nodes == 1
            waiting = asyncio.create_task(sandbox.call("counter", "never", timeout=30))
            while (await sandbox.process("counter")).handled < 2:
                pass
        with pytest.raises(sl.SuperlearnerError):
            await waiting
        with pytest.raises(sl.ClusterClosed):
            await sandbox.call("counter", "value")

    run(work())


def test_a_manager_that_is_not_open_yet_says_so():
    async def work():
        manager = sl.LocalSandboxManager(asynchronous=True)
        with pytest.raises(sl.ClusterClosed, match="await it first"):
            await manager.status()
        await (await manager).close()

    run(work())


OWNER = """
import sys, time
sys.path.insert(0, {tests!r})
import superlearner as sl
from apps import shop
manager = sl.LocalSandboxManager({path!r})
sandbox = manager.create_sandbox("shop", shop())
for _ in range(3):
    sandbox.call("counter", "increment")
sandbox.checkpoint()
print(sandbox.info().pid, flush=True)
time.sleep(60)
"""


def test_a_manager_whose_program_is_killed_leaves_no_process_and_its_state(tmp_path):
    code = OWNER.format(tests=str(Path(__file__).parent), path=str(tmp_path / "state"))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        host = psutil.Process(int(owner.stdout.readline()))
        owner.kill()
    psutil.wait_procs([host], timeout=10)
    assert not host.is_running()
    with sl.LocalSandboxManager(tmp_path / "state") as manager:
        assert manager.call("shop/counter", "value", timeout=10) == 3


class TestAStateDirectory:
    def test_brings_the_sandboxes_back_with_their_last_state(self, tmp_path):
        counted(tmp_path, 4)
        with sl.LocalSandboxManager(tmp_path) as manager:
            assert manager.call("shop/counter", "increment", timeout=10) == 5
            info = manager.sandbox("shop").info()
            assert (info.status, info.epoch) == ("running", 2)
            kinds = [event.kind for event in manager.story("shop")]
            assert kinds[0] == "sandbox_restarting"
            assert "sandbox_restarted" in kinds
            with pytest.raises(sl.SandboxExists):
                manager.create_sandbox("shop", shop())
        with sl.LocalSandboxManager(tmp_path) as manager:
            assert manager.call("shop/counter", "value", timeout=10) == 5
            assert manager.sandbox("shop").info().epoch == 3

    def test_keeps_a_new_version_of_the_application(self, tmp_path):
        with sl.LocalSandboxManager(tmp_path) as manager:
            sandbox = manager.create_sandbox("shop", shop())
            sandbox.call("counter", "increment")
            sandbox.reload(shop(Doubler))
        with sl.LocalSandboxManager(tmp_path) as manager:
            assert manager.call("shop/counter", "increment", timeout=10) == 4

    def test_forgets_what_was_destroyed(self, tmp_path):
        counted(tmp_path, 1)
        with sl.LocalSandboxManager(tmp_path) as manager:
            manager.destroy_sandbox("shop")
            assert not (tmp_path / "sandboxes" / "shop").exists()
            assert manager.create_sandbox("shop", shop()).call("counter", "value") == 0
            manager.destroy_sandbox("shop")
        with sl.LocalSandboxManager(tmp_path) as manager:
            assert manager.sandboxes() == []

    def test_is_private_and_keeps_no_more_versions_than_the_spec_says(self, tmp_path):
        with sl.LocalSandboxManager(tmp_path / "state") as manager:
            sandbox = manager.create_sandbox("shop", shop(), checkpoint=sl.Checkpoint(keep=2))
            for _ in range(4):
                sandbox.call("counter", "increment")
                sandbox.checkpoint()
        files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
        assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
        assert len(list((tmp_path / "state" / "sandboxes" / "shop").glob("*.checkpoint"))) == 2

    def test_serves_one_manager_at_a_time(self, tmp_path, manager):
        with (
            sl.LocalSandboxManager(tmp_path),
            pytest.raises(sl.InvalidSpec, match="in use by another manager"),
        ):
            sl.LocalSandboxManager(tmp_path)
        with pytest.raises(sl.InvalidSpec, match="cannot be used"):
            sl.LocalSandboxManager("/proc/nowhere")
        sl.LocalSandboxManager(tmp_path).close()

    def test_falls_back_from_a_damaged_checkpoint_to_the_one_before(self, tmp_path):
        with sl.LocalSandboxManager(tmp_path) as manager:
            sandbox = manager.create_sandbox("shop", shop(), checkpoint=sl.Checkpoint(every=None))
            for _ in range(2):
                sandbox.call("counter", "increment")
                sandbox.checkpoint()
        *_, before, newest = sorted(
            (tmp_path / "sandboxes" / "shop").glob("*.checkpoint"), key=lambda path: path.stat().st_mtime_ns
        )
        newest.write_bytes(newest.read_bytes()[:-3])
        flipped = bytearray(before.read_bytes())
        flipped[-1] ^= 1
        before.write_bytes(flipped)
        with sl.LocalSandboxManager(tmp_path) as manager:
            assert manager.call("shop/counter", "value", timeout=10) == 1
            refused = manager.events(kind="checkpoint_refused", sandbox="shop")
            assert [event.reason for event in refused] == ["its checksum is wrong"] * 2

    def test_tells_of_a_sandbox_that_it_cannot_read_and_brings_back_the_others(self, tmp_path):
        counted(tmp_path, 1)
        broken = tmp_path / "sandboxes" / "broken"
        broken.mkdir()
        (broken / "spec").write_bytes(b"half a fi")
        (broken / ".new-left").write_bytes(b"by a crash")
        with sl.LocalSandboxManager(tmp_path) as manager:
            assert manager.call("shop/counter", "value", timeout=10) == 1
            (told,) = manager.events(kind="sandbox_not_restored")
            assert told.sandbox == "broken"
            assert "damaged" in told.reason
        assert (broken / "spec").exists()
        assert not (broken / ".new-left").exists()

    def test_keeps_the_state_of_a_sandbox_that_cannot_start_for_now(self, tmp_path, monkeypatch):
        modules = tmp_path / "modules"
        modules.mkdir()
        module = modules / "passing_app.py"
        module.write_text(
            "from superlearner.otp import GenServer, Reply, child, supervisor\n"
            "class Counter(GenServer):\n"
            "    def init(self): return 0\n"
            "    def handle_call(self, request, sender, state): return Reply(state + 1, state + 1)\n"
            "app = supervisor([child(Counter, id='counter', name='counter')])\n"
        )
        monkeypatch.syspath_prepend(str(modules))
        with sl.LocalSandboxManager(tmp_path / "state") as manager:
            sandbox = manager.create_sandbox("shop", "passing_app:app")
            assert sandbox.call("counter", "increment") == 1
        module.rename(modules / "away.py")
        with (
            sl.LocalSandboxManager(tmp_path / "state") as manager,
            awaiting(manager, "start_failed") as failed,
        ):
            if not manager.events(kind="start_failed"):
                failed()
        (modules / "away.py").rename(module)
        with sl.LocalSandboxManager(tmp_path / "state") as manager:
            assert manager.call("shop/counter", "increment", timeout=20) == 2

    def test_that_cannot_be_written_refuses_the_creation(self, tmp_path, monkeypatch):
        with sl.LocalSandboxManager(tmp_path) as manager:

            def full(self, kept):
                raise OSError(28, "No space left on device")

            monkeypatch.setattr(StateDirectory, "remember", full)
            with pytest.raises(sl.StartFailed, match="No space left"):
                manager.create_sandbox("shop", Counter)
            monkeypatch.undo()
            manager.create_sandbox("shop", Counter)

    def test_keeps_groups_with_their_order_and_whether_they_had_given_up(self, tmp_path):
        with sl.LocalSandboxManager(tmp_path) as manager:
            manager.create_group("site", strategy="one_for_all", max_restarts=0)
            for id in ("web", "db"):
                manager.create_sandbox(id, shop(), group="site")
        with sl.LocalSandboxManager(tmp_path) as manager:
            assert manager.call("db/counter", "increment", timeout=10) == 1
            manager.sandbox("db").checkpoint()
            group = manager.group("site")
            assert (group.strategy, group.members, group.status) == ("one_for_all", ("web", "db"), "running")
            with awaiting(manager, "group_failed") as failed:
                psutil.Process(manager.sandbox("web").info().pid).kill()
                failed()
        with sl.LocalSandboxManager(tmp_path) as manager:
            assert manager.group("site").status == "failed"
            assert {info.status for info in manager.sandboxes()} == {"failed"}
            assert manager.restart_group("site").status == "running"
            assert manager.call("db/counter", "increment", timeout=10) == 2
            manager.destroy_group("site")
        assert not [*(tmp_path / "groups").iterdir(), *(tmp_path / "sandboxes").iterdir()]

    def test_tells_of_a_group_that_it_cannot_read_and_runs_its_sandboxes_alone(self, tmp_path):
        with sl.LocalSandboxManager(tmp_path) as manager:
            manager.create_group("site")
            manager.create_sandbox("web", shop(), group="site")
        (tmp_path / "groups" / "site").write_bytes(b"half a fi")
        (tmp_path / "groups" / ".new-left").write_bytes(b"by a crash")
        with sl.LocalSandboxManager(tmp_path) as manager:
            assert manager.call("web/counter", "value", timeout=10) == 0
            assert (manager.groups(), manager.sandbox("web").info().group) == ([], None)
            (told,) = manager.events(kind="group_not_restored")
            assert told.detail == {"group": "site"}
            assert "damaged" in told.reason
        assert [path.name for path in (tmp_path / "groups").iterdir()] == ["site"]

    def test_tells_of_a_group_that_cannot_be_written_and_makes_it_all_the_same(self, tmp_path, monkeypatch):
        def full(self, kept):
            raise OSError(28, "No space left on device")

        with sl.LocalSandboxManager(tmp_path) as manager:
            monkeypatch.setattr(StateDirectory, "remember_group", full)
            assert manager.create_group("site").status == "running"
            (told,) = manager.events(kind="group_not_kept")
            assert (told.detail, "No space left" in told.reason) == ({"group": "site"}, True)


def test_an_interrupted_start_leaves_nothing_behind():
    code = """
import signal, threading, psutil
import superlearner as sl
sl.LocalSandboxManager
interrupt = lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
threading.Timer(0.05, interrupt).start()
try:
    sl.LocalSandboxManager()
except KeyboardInterrupt:
    print(len(psutil.Process().children(recursive=True)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "0\n", done.stderr
