"""One contract for every manager: what a person may rely on, whichever of them runs the sandboxes."""

from __future__ import annotations

import asyncio
import threading

import psutil
import pytest
from apps import Counter, Doubler, Refuses, shop
from cluster_kit import awaiting, run
from contract_kit import SUBJECTS, awaitable_manager, listening, open_manager

import superlearner as sl
from superlearner.errors import RequestIdTaken
from superlearner.otp import child, supervisor

DURABLE = sl.Checkpoint(every=None, durability="reply")


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def manager(subject, cluster):
    with open_manager(subject, cluster) as opened:
        yield opened


class TestWhatIsSent:
    def test_calls_are_answered_in_order_by_a_process_of_its_own(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop())
        assert [sandbox.call("counter", "increment") for _ in range(3)] == [1, 2, 3]
        assert sandbox.call("counter", "os_pid") == sandbox.info().pid
        assert manager.call(f"{fresh}/counter", "value") == 3

    def test_casts_and_messages_are_handled_in_order_before_a_later_call(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, listening())
        sandbox.cast("listener", 1)
        sandbox.send("listener", 2)
        manager.cast(f"{fresh}/listener", 3)
        assert sandbox.call("listener", "all") == [("cast", 1), ("info", 2), ("cast", 3)]

    def test_a_thousand_calls_may_be_in_flight_and_keep_their_order(self, subject, cluster, fresh):
        async def work():
            async with awaitable_manager(subject, cluster) as manager:
                sandbox = await manager.create_sandbox(fresh, shop())
                calls = (sandbox.call("counter", "increment", timeout=30) for _ in range(1000))
                assert await asyncio.gather(*calls) == list(range(1, 1001))
                await manager.destroy_sandbox(fresh)

        run(work())

    def test_a_pid_is_an_address(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, Counter)
        assert sandbox.call(sandbox.tree().children[0].pid, "increment") == 1


class TestWhatIsSeen:
    def test_a_sandbox_is_listed_with_where_it_lives(self, manager, fresh):
        manager.create_sandbox(fresh, shop())
        (info,) = [info for info in manager.sandboxes() if info.id == fresh]
        assert (info.status, info.epoch, info.restarts) == ("running", 1, 0)
        assert fresh in {found.id for found in manager.sandboxes(node=info.node, status="running")}
        assert fresh in {id for node in manager.nodes() if node.name == info.node for id in node.sandboxes}
        where = manager.whereis(f"{fresh}/counter")
        assert (where.node, where.epoch) == (info.node, 1)
        assert where.pid.startswith(f"<{info.node}.{fresh}.")
        assert manager.whereis(f"{fresh}/nobody") is None
        assert manager.whereis("nowhere") is None

    def test_the_status_counts_the_nodes(self, manager):
        status = manager.status()
        assert status.nodes == tuple(node.name for node in manager.nodes())
        assert status.total_nodes == len(status.nodes) == status.healthy_nodes
        assert (status.cluster_health, status.quorum) == ("healthy", True)
        assert set(manager.metrics()) == set(status.nodes)

    def test_the_placement_can_be_explained(self, manager):
        rows = manager.explain_placement(sl.Resources(memory="64 MiB"))
        assert rows[0].chosen
        assert {row.node for row in rows} <= set(manager.status().nodes)

    def test_the_tree_and_the_processes(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop())
        tree = sandbox.tree()
        assert (tree.type, [process.name for process in tree.children]) == (
            "supervisor",
            ["counter", "other"],
        )
        assert {process.name for process in sandbox.processes()} >= {"counter", "other"}
        assert sandbox.process("counter").pid == tree.children[0].pid

    def test_events_tell_its_story_in_growing_numbers(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop())
        kinds = [event.kind for event in sandbox.events()]
        assert kinds[0] == "sandbox_created"
        assert "sandbox_started" in kinds
        assert manager.story(fresh)[0].kind == "sandbox_created"
        (created,) = manager.events(kind="sandbox_created", sandbox=fresh)
        later = manager.events(since=created.seq, sandbox=fresh)
        assert [event.seq for event in later] == sorted({event.seq for event in later})
        assert created not in later

    def test_what_is_wrong_is_an_alert_that_somebody_may_know_of(self, manager, fresh):
        manager.create_sandbox(fresh, Counter, restart="temporary")
        with awaiting(manager, "alert_firing", sandbox=fresh) as fired:
            manager.chaos.kill_sandbox(fresh)
            alert = fired().detail["id"]
        assert manager.acknowledge_alert(alert, "ann").acknowledged.by == "ann"
        assert alert in {known.id for known in manager.alerts("firing")}
        assert manager.bottlenecks().judged >= 0
        with awaiting(manager, "alert_resolved", sandbox=fresh) as resolved:
            manager.destroy_sandbox(fresh)
            assert resolved().detail["id"] == alert

    def test_a_subscriber_is_told_until_it_has_enough(self, manager, fresh):
        seen = []
        stop = manager.subscribe(seen.append, "sandbox_created")
        with awaiting(manager, "sandbox_started", sandbox=fresh) as started:
            manager.create_sandbox(fresh, Counter)
            started()
        stop()
        manager.create_sandbox(f"{fresh}-b", Counter)
        assert [event.sandbox for event in seen] == [fresh]

    def test_what_it_prints_can_be_read(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, listening())
        sandbox.send("listener", "the sea")
        sandbox.call("listener", "all")
        sandbox.suspend("listener")  # another round trip: what was printed has been read by then
        assert "heard the sea" in sandbox.logs()

    def test_messages_can_be_traced(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop())
        assert sandbox.trace(duration=0.05) is not None


class TestWhatIsRefused:
    def test_an_id_in_use(self, manager, fresh):
        manager.create_sandbox(fresh, Counter)
        with pytest.raises(sl.SandboxExists, match="nothing was created"):
            manager.create_sandbox(fresh, Counter)

    def test_an_unknown_node(self, manager, fresh):
        with pytest.raises(sl.UnknownNode, match="There are"):
            manager.create_sandbox(fresh, Counter, node="nowhere")

    def test_a_misspelt_option(self, manager, fresh):
        with pytest.raises(sl.InvalidSpec, match="Did you mean 'resources'"):
            manager.create_sandbox(fresh, Counter, resource=1)

    def test_what_is_no_application(self, manager, fresh):
        with pytest.raises(sl.InvalidSpec):
            manager.create_sandbox(fresh, 42)

    def test_an_init_that_raises_and_nothing_is_left(self, manager, fresh):
        with pytest.raises(sl.StartFailed, match="no init today"):
            manager.create_sandbox(fresh, Refuses)
        assert fresh not in {info.id for info in manager.sandboxes()}

    def test_an_import_path_that_leads_nowhere(self, manager, fresh):
        with pytest.raises(sl.StartFailed):
            manager.create_sandbox(fresh, "no_such_module:app")

    def test_who_is_not_there(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop())
        with pytest.raises(sl.NoProcess):
            sandbox.call("nobody", "value")
        with pytest.raises(sl.NoProcess):
            manager.call(f"{fresh}/nobody", "value")
        for ask in (
            lambda: manager.call("nowhere/counter", "value"),
            lambda: manager.cast("nowhere/counter", "value"),
            lambda: manager.destroy_sandbox("nowhere"),
            lambda: manager.restart_sandbox("nowhere"),
            lambda: manager.sandbox("nowhere").info(),
            lambda: manager.sandbox("nowhere").checkpoint(),
        ):
            with pytest.raises(sl.NoSandbox):
                ask()

    def test_a_message_that_cannot_be_serialised(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop())
        with pytest.raises(sl.SuperlearnerError) as caught:
            sandbox.call("counter", threading.Lock())
        assert caught.value.code == "not_serializable"

    def test_a_late_answer(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop())
        with pytest.raises(sl.CallTimeout) as caught:
            sandbox.call("counter", "never", timeout=0.1)
        assert caught.value.definite is False

    def test_the_callee_dies_and_its_error_arrives(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop())
        with pytest.raises(sl.ProcessDied) as caught:
            sandbox.call("counter", "crash")
        assert isinstance(caught.value.__cause__, ValueError)
        assert sandbox.call("counter", "value") == 0


class TestWhenThingsDie:
    def test_a_killed_process_is_restarted_by_its_supervisor_with_a_fresh_state(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop())
        sandbox.call("counter", "increment")
        before = sandbox.process("counter").pid
        with awaiting(manager, "process_restarted", sandbox=fresh) as restarted:
            manager.chaos.kill_process(f"{fresh}/counter")
            restarted()
        assert sandbox.process("counter").pid != before
        assert sandbox.call("counter", "value") == 0
        assert sandbox.call("other", "value") == 100

    def test_a_killed_host_comes_back_with_its_checkpoint(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop())
        for _ in range(5):
            sandbox.call("counter", "increment")
        stored = sandbox.checkpoint()
        newest = sandbox.info().checkpoint
        assert (newest.epoch, newest.seq) >= (stored["epoch"], stored["seq"])
        before = sandbox.info()
        with awaiting(manager, "sandbox_restarted", sandbox=fresh) as restarted:
            assert manager.chaos.kill_sandbox(fresh) == before.pid
            assert sandbox.call("counter", "value", timeout=10) == 5
            assert sandbox.call("counter", "os_pid") != before.pid
            restarted()
        after = sandbox.info()
        assert (after.node, after.epoch, after.restarts) == (before.node, before.epoch, 1)
        assert not psutil.pid_exists(before.pid)

    def test_a_call_in_flight_learns_of_the_end_of_its_host(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop())
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
        manager.chaos.kill_sandbox(fresh)
        caller.join(timeout=10)
        assert [type(error) for error in errors] == [sl.ProcessDied]

    def test_a_temporary_one_stays_down_until_it_is_restarted(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop(), restart="temporary")
        sandbox.call("counter", "increment")
        sandbox.checkpoint()
        with awaiting(manager, "sandbox_failed", sandbox=fresh) as failed:
            manager.chaos.kill_sandbox(fresh)
            failed()
        with pytest.raises(sl.SandboxFailed, match="SIGKILL"):
            sandbox.call("counter", "value")
        assert manager.restart_sandbox(fresh).status == "running"
        assert sandbox.call("counter", "value") == 1

    def test_a_restart_keeps_the_state(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop())
        sandbox.call("counter", "increment")
        before = sandbox.info().pid
        assert sandbox.restart().pid != before
        assert sandbox.call("counter", "value") == 1


class TestWhatIsPromised:
    def test_a_durable_answer_survives_its_host_at_any_instant(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop(), checkpoint=DURABLE)
        for number in range(1, 4):
            assert sandbox.call("counter", "increment", timeout=20) == number
            manager.chaos.kill_sandbox(fresh)
        assert sandbox.call("counter", "value", timeout=20) == 3

    def test_many_durable_calls_share_checkpoints_and_keep_their_order(self, subject, cluster, fresh):
        async def work():
            async with awaitable_manager(subject, cluster) as manager:
                sandbox = await manager.create_sandbox(fresh, shop(), checkpoint=DURABLE)
                calls = (sandbox.call("counter", "increment", timeout=30) for _ in range(500))
                assert await asyncio.gather(*calls) == list(range(1, 501))
                stored = await sandbox.checkpoint()
                assert stored["seq"] < 250
                await manager.destroy_sandbox(fresh)

        run(work())

    def test_a_request_with_an_id_takes_effect_once(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop())
        assert [sandbox.call("counter", "increment", request_id="order-1") for _ in range(3)] == [1, 1, 1]
        assert manager.call(f"{fresh}/counter", "increment", request_id="order-1") == 1
        sandbox.checkpoint()
        manager.chaos.kill_sandbox(fresh)
        assert sandbox.call("counter", "increment", 20, request_id="order-1") == 1
        sandbox.restart()
        assert sandbox.call("counter", "increment", 20, request_id="order-1") == 1
        assert sandbox.call("counter", "increment", request_id="order-2") == 2

    def test_one_that_was_lost_with_its_host_is_sent_again(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop(), checkpoint=DURABLE)
        sandbox.suspend("counter")
        answers = []
        caller = threading.Thread(
            target=lambda: answers.append(sandbox.call("counter", "increment", 30, request_id="order-1"))
        )
        caller.start()
        while not sandbox.process("counter").mailbox:
            pass
        manager.chaos.kill_sandbox(fresh)
        caller.join(timeout=30)
        assert answers == [1]
        assert sandbox.call("counter", "increment", request_id="order-1") == 1
        assert sandbox.call("counter", "value") == 1

    def test_an_id_of_another_request_is_refused(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop())
        sandbox.call("counter", "increment", request_id="order-1")
        for target, request in (("counter", "value"), ("other", "increment")):
            with pytest.raises(RequestIdTaken, match="nothing was done") as caught:
                sandbox.call(target, request, request_id="order-1")
            assert caught.value.definite
        for id in ("", 7, "x" * 201):
            with pytest.raises(sl.InvalidSpec, match="nothing was sent"):
                sandbox.call("counter", "increment", request_id=id)
        assert sandbox.call("counter", "value") == 1


class TestWhatIsChanged:
    def test_a_state_is_read_and_replaced_and_a_process_suspended(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop())
        sandbox.replace_state("counter", 41)
        assert sandbox.call("counter", "increment") == sandbox.get_state("counter") == 42
        sandbox.suspend("counter")
        with pytest.raises(sl.CallTimeout):
            sandbox.call("counter", "value", timeout=0.1)
        sandbox.resume("counter")
        assert sandbox.call("counter", "value") == 42

    def test_a_new_version_takes_the_state_over_and_outlives_its_host(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop())
        sandbox.call("counter", "increment")
        sandbox.reload(shop(Doubler))
        assert sandbox.call("counter", "increment") == 4
        sandbox.checkpoint()
        manager.chaos.kill_sandbox(fresh)
        assert sandbox.call("counter", "increment", timeout=10) == 6

    def test_children_come_and_go(self, manager, fresh):
        app = supervisor([], id="jobs", name="jobs", kind="dynamic", max_children=1)
        sandbox = manager.create_sandbox(fresh, supervisor([app]))
        pid = sandbox.start_child("jobs", child(Counter, 7, id="job"))
        assert sandbox.call(pid, "value") == 7
        assert [row.pid for row in sandbox.which_children("jobs")] == [str(pid)]
        assert sandbox.count_children("jobs").active == 1
        with pytest.raises(sl.SuperlearnerError) as caught:
            sandbox.start_child("jobs", child(Counter, 8, id="job-2"))
        assert caught.value.code == "max_children"
        sandbox.terminate_child("jobs", pid)
        assert sandbox.which_children("jobs") == []

    def test_static_children_are_terminated_restarted_and_deleted(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, supervisor([child(Counter, 3, id="one")], name="top"))
        sandbox.terminate_child("top", "one")
        assert sandbox.which_children("top")[0].pid is None
        pid = sandbox.restart_child("top", "one")
        assert sandbox.call(pid, "value") == 3
        sandbox.terminate_child("top", "one")
        sandbox.delete_child("top", "one")
        assert sandbox.which_children("top") == []

    def test_a_running_supervisor_is_changed_and_paused(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, supervisor([child(Counter, 3, name="one")], name="top"))
        sandbox.change_supervisor("top", "one_for_all", max_restarts=9)
        sandbox.pause_supervision("top")
        assert sandbox.terminate("one", "tired") == "tired"
        assert sandbox.which_children("top")[0].pid is None
        assert sandbox.resume_supervision("top") == ["Counter"]
        assert sandbox.which_children("top")[0].pid is not None
        assert sandbox.crash("one") == "crash"
        sandbox.checkpoint()
        manager.chaos.kill_sandbox(fresh)
        assert sandbox.call("one", "value", timeout=10) == 3
        info = sandbox.process("top")
        assert (info.strategy, info.max_restarts, info.paused) == ("one_for_all", 9, False)

    def test_a_trace_is_begun_read_and_ended(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop())
        id = sandbox.start_trace(only=["counter"])
        sandbox.call("counter", "increment")
        assert [event.form for event in sandbox.read_trace(id, since=2).events] == ["reply", "reply"]
        assert sandbox.stop_trace(id).total == 4


class TestTheEnd:
    def test_a_destroyed_sandbox_leaves_nothing(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, shop())
        sandbox.call("counter", "increment")
        sandbox.checkpoint()
        pid = sandbox.info().pid
        manager.destroy_sandbox(fresh)
        assert not psutil.pid_exists(pid)
        assert fresh not in {info.id for info in manager.sandboxes()}
        with pytest.raises(sl.NoSandbox):
            sandbox.call("counter", "value")
        again = manager.create_sandbox(fresh, shop())
        assert again.call("counter", "value") == 0, "it must not find the old state"
        assert again.info().epoch > 1

    def test_a_handle_outlives_nothing_but_knows_its_manager(self, manager, fresh):
        sandbox = manager.create_sandbox(fresh, Counter)
        assert sandbox == manager.sandbox(fresh)
        assert type(sandbox.cluster) is type(manager)
        sandbox.stop()
        with pytest.raises(sl.NoSandbox):
            sandbox.info()


@pytest.mark.parametrize("subject", [*SUBJECTS[1:], pytest.param("cluster", marks=pytest.mark.slow)])
def test_a_closed_manager_leaves_nothing(subject, cluster):
    known = set(psutil.Process().children(recursive=True))
    with sl.Cluster(nodes=1) if subject == "cluster" else open_manager(subject, cluster) as opened:
        sandbox = opened.create_sandbox("last", shop())
        if subject == "dual in a cluster":
            opened.create_sandbox("local-too", shop(), node="local")
        started = set(psutil.Process().children(recursive=True)) - known
        assert started
        if subject == "dual in a cluster":
            opened.destroy_sandbox("last")  # what lives in a cluster outlives a connection to it
    _, alive = psutil.wait_procs(started, timeout=10)
    assert not alive
    with pytest.raises(sl.ClusterClosed):
        sandbox.call("counter", "value")
    opened.close()
