"""Operations on supervisors: what survives what, who gave up and why, failures on purpose, children by name."""

from __future__ import annotations

import pytest
from examples_processes import opened
from trees import after

import superlearner as sl
from superlearner.arsenal.refusals import InvalidParameters
from superlearner.arsenal.restart_history import failures, restarts
from superlearner.core.history import Event
from superlearner.errors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRunning,
    MaxChildren,
    StartFailed,
    Unsupported,
)
from superlearner.otp import supervisor

COUNTER = "superlearner.cli.demo_app:Counter"


@pytest.fixture
def sandbox(world) -> sl.Sandbox:
    return opened(world)


@pytest.fixture
def ops(cluster):
    return cluster.ops


class TestOptions:
    def test_they_survive_a_move_and_a_lost_os_process_but_not_the_supervisors_own_restart(
        self, ops, sandbox
    ):
        ops.change_supervisor(sandbox.id, "desk", strategy="rest_for_one", max_restarts=7, max_seconds=9.0)
        other = next(name for name in sandbox.cluster.status().nodes if name != sandbox.info().node)
        sandbox.migrate(other)
        assert self.options(ops, sandbox) == ("rest_for_one", 7, 9.0)
        sandbox.checkpoint()
        sandbox.cluster.chaos.kill_sandbox(sandbox.id)
        assert sandbox.call("ann", "hello", timeout=20.0, idempotent=True) == "hello"
        assert self.options(ops, sandbox) == ("rest_for_one", 7, 9.0)
        ops.simulate_failure(sandbox.id, "desk", confirm=True)
        assert self.options(ops, sandbox) == ("one_for_one", 5, 60.0)

    @staticmethod
    def options(ops, sandbox):
        row = ops.get_supervisor(sandbox.id, "desk").supervisor
        return row.strategy, row.max_restarts, row.max_seconds

    def test_what_its_kind_cannot_have_is_refused(self, world, cluster, ops):
        jobs = supervisor([], id="jobs", name="jobs", kind="dynamic")
        sandbox = cluster.create_sandbox(world.fresh(), supervisor([jobs]))
        with pytest.raises(sl.InvalidSpec, match="one_for_one"):
            ops.change_supervisor(sandbox.id, "jobs", strategy="one_for_all")

    def test_who_is_no_supervisor_says_so(self, ops, sandbox):
        for operation in (
            ops.get_supervisor,
            ops.change_supervisor,
            ops.list_restarts,
            ops.pause_supervision,
        ):
            with pytest.raises(Unsupported, match="no children"):
                operation(sandbox.id, "ann")


class TestPause:
    def test_a_move_ends_it_and_starts_all(self, ops, sandbox):
        ops.pause_supervision(sandbox.id, "desk")
        sandbox.terminate("ann")
        assert ops.count_children(sandbox.id, "desk").active == 1
        sandbox.migrate()
        assert not ops.get_supervisor(sandbox.id, "desk").supervisor.paused
        assert ops.count_children(sandbox.id, "desk").active == 2

    def test_by_hand_a_child_is_started_meanwhile(self, ops, sandbox):
        ops.pause_supervision(sandbox.id, "desk")
        sandbox.terminate("ann")
        row = ops.restart_child(sandbox.id, "desk", "ann").row
        assert row.pid == sandbox.process("ann").pid
        assert ops.resume_supervision(sandbox.id, "desk").decides_on == []

    def test_too_many_ends_at_once_make_it_give_up_over_them(self, ops, sandbox):
        ops.change_supervisor(sandbox.id, "desk", max_restarts=1)
        ops.pause_supervision(sandbox.id, "desk")
        for name in ("ann", "bob"):
            sandbox.terminate(name)
        resumed = ops.resume_supervision(sandbox.id, "desk")
        assert (resumed.decides_on, resumed.children) == (["ann", "bob"], None)


class TestHistory:
    def test_giving_up_is_told_with_its_reason(self, ops, sandbox):
        ops.change_supervisor(sandbox.id, "desk", max_restarts=0)
        failed = after(
            sandbox,
            "process_restarted",
            lambda: ops.simulate_failure(sandbox.id, "desk", child="ann", reason="jam", confirm=True),
        )
        assert failed.children is None
        (row,) = ops.list_restarts(sandbox.id, "desk").restarts
        assert (row.child, row.reason, row.outcome, row.budget_left) == ("ann", "jam", "gave_up", 0)
        (above,) = ops.list_restarts(sandbox.id, "shop").restarts
        assert (above.child, above.reason, above.outcome) == ("desk", "shutdown", "restarted")

    def test_since_and_limit(self, ops, sandbox):
        for reason in ("one", "two", "three"):
            after(sandbox, "process_restarted", lambda reason=reason: sandbox.crash("ann", reason))
        newest = ops.list_restarts(sandbox.id, "desk", limit=1)
        assert ([row.reason for row in newest.restarts], newest.total) == (["three"], 3)
        first = ops.list_restarts(sandbox.id, "desk").restarts[0]
        later = ops.list_restarts(sandbox.id, "desk", since=first.seq)
        assert [row.reason for row in later.restarts] == ["two", "three"]
        rate = ops.get_failure_rate(sandbox.id, "desk", window=120.0)
        assert (rate.failures, rate.per_minute, rate.spent) == (3, 1.5, 3)
        assert rate.by_reason == {"one": 1, "two": 1, "three": 1}

    def test_a_start_that_failed_and_another_supervisor_of_the_same_name(self):
        path = {"path": ["desk", "ann"]}
        told = [
            Event("restart_scheduled", seq=1, at=1.0, reason="jam", detail=path),
            Event("start_failed", seq=2, at=1.1, reason="no paper", detail=path),
            Event("restart_scheduled", seq=3, at=1.2, reason="start_failed", detail=path),
            Event(
                "restart_scheduled", seq=4, at=1.3, reason="jam", detail={"path": ["other", "desk", "ann"]}
            ),
            Event("restart_scheduled", seq=5, at=1.4, reason="killed", sandbox="shop"),
        ]
        rows = restarts(told, ["desk"])
        assert [(row.outcome, row.failure) for row in rows] == [
            ("start_failed", "no paper"),
            ("pending", None),
        ]
        assert failures(told, ["desk"], 0.0, 60.0).by_child == {"ann": 1}

    def test_who_is_stopped_by_its_supervisor_has_not_failed(self):
        told = [
            Event("process_started", at=1.0, pid="<a.b.1>", detail={"path": []}),
            Event("process_exited", at=2.0, reason="killed", detail={"path": ["ann"], "who": "<a.b.1>"}),
            Event("process_exited", at=2.0, reason="killed", detail={"path": ["bob"], "who": "<a.b.0>"}),
            Event("process_exited", at=2.0, reason=["shutdown", "x"], detail={"path": ["eve"]}),
            Event("process_exited", at=90.0, reason="killed", detail={"path": ["bob"]}),
        ]
        assert failures(told, [], 0.0, 60.0).by_child == {"bob": 1}


class TestFailures:
    def test_a_supervisor_takes_its_children_with_it_and_comes_back(self, ops, sandbox):
        before = sandbox.process("ann").pid
        failed = ops.simulate_failure(sandbox.id, "desk", reason="boom", confirm=True)
        assert (failed.target, failed.failed, failed.reason) == ("supervisor", "desk", "boom")
        assert [child.id for child in failed.children] == ["till", "desk"]
        assert sandbox.process("desk").pid != failed.pid
        assert sandbox.process("ann").pid != before

    def test_after_the_end_of_the_root_the_sandbox_starts_again(self, ops, sandbox):
        failed = ops.simulate_failure(sandbox.id, "shop", reason="boom", confirm=True)
        assert (failed.reason, failed.children) == ("boom", None)
        assert sandbox.call("ann", "hello", timeout=20.0, idempotent=True) == "hello"

    def test_who_is_not_there_or_does_not_run_cannot_fail(self, ops, sandbox):
        with pytest.raises(ChildNotFound):
            ops.simulate_failure(sandbox.id, "desk", child="eve", confirm=True)
        sandbox.terminate_child("desk", "ann")
        with pytest.raises(sl.NoProcess):
            ops.simulate_failure(sandbox.id, "desk", child="ann", confirm=True)


def test_a_number_that_no_wire_carries_does_not_silence_the_control_plane(ops, sandbox):
    with pytest.raises(InvalidParameters):
        ops.list_restarts(sandbox.id, "desk", since=10**30)
    sandbox.crash("ann", 10**30)
    assert sandbox.cluster.status().control_plane == "running"
    after(sandbox, "process_restarted", lambda: sandbox.crash("ann", ("odd", "\ud800", 2**70)))
    rows = ops.list_restarts(sandbox.id, "desk").restarts
    assert rows[0].reason == str(10**30)


class TestChildren:
    @pytest.mark.parametrize(
        ("start", "arguments", "error", "words"),
        [
            ("os:system", ["true"], sl.InvalidSpec, "no child"),
            ("no_such_module:Name", [], sl.InvalidSpec, "cannot be imported"),
            (COUNTER, [1, 2, 3], StartFailed, "argument"),
        ],
    )
    def test_what_cannot_be_started_changes_nothing(self, ops, sandbox, start, arguments, error, words):
        with pytest.raises(error, match=words):
            ops.start_child(sandbox.id, "desk", start=start, arguments=arguments)
        assert [child.id for child in ops.list_children(sandbox.id, "desk").children] == ["ann", "bob"]

    def test_an_id_is_taken_while_its_child_is_known(self, ops, sandbox):
        started = ops.start_child(sandbox.id, "desk", start=COUNTER)
        assert started.child == "Counter"
        with pytest.raises(AlreadyStarted):
            ops.start_child(sandbox.id, "desk", start=COUNTER)
        with pytest.raises(ChildRunning):
            ops.restart_child(sandbox.id, "desk", "Counter")
        ops.terminate_child(sandbox.id, "desk", "Counter", confirm=True)
        with pytest.raises(AlreadyPresent):
            ops.start_child(sandbox.id, "desk", start=COUNTER)

    def test_a_dynamic_supervisor_names_the_second_itself_and_forgets_who_is_stopped(
        self, world, cluster, ops
    ):
        jobs = supervisor([], id="jobs", name="jobs", kind="dynamic", max_children=2)
        sandbox = cluster.create_sandbox(world.fresh(), supervisor([jobs]))
        started = [ops.start_child(sandbox.id, "jobs", start=COUNTER, child="job").child for _ in range(2)]
        assert started == ["job", "job#2"]
        with pytest.raises(MaxChildren):
            ops.start_child(sandbox.id, "jobs", start=COUNTER)
        gone = ops.terminate_child(sandbox.id, "jobs", "job#2", confirm=True)
        assert gone.row.status == "exited"
        assert ops.count_children(sandbox.id, "jobs").specs == 1

    def test_the_children_of_a_partition_supervisor_have_numbers(self, world, cluster, ops):
        from trees import Clerk

        from superlearner.otp import child

        shards = supervisor([child(Clerk)], id="shards", kind="partition", partitions=2)
        sandbox = cluster.create_sandbox(world.fresh(), supervisor([shards]))
        ops.terminate_child(sandbox.id, "shards", "1", confirm=True)
        assert ops.restart_child(sandbox.id, "shards", "1").row.pid is not None
        with pytest.raises(ChildNotFound):
            ops.get_child(sandbox.id, "shards", "2")

    def test_a_started_child_moves_along_with_its_state(self, ops, sandbox):
        ops.start_child(sandbox.id, "desk", start=COUNTER, name="counter", arguments=[41])
        sandbox.call("counter", "increment")
        sandbox.migrate()
        assert sandbox.get_state("counter") == 42
