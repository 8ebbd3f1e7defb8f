"""Operations on processes: lists over nodes that do not all answer, ends, messages, states."""

from __future__ import annotations

import json
import queue
import threading
import time

import pytest
from examples_processes import opened
from trees import Clerk, Stubborn

import superlearner as sl
from superlearner.arsenal.plain import to_json
from superlearner.errors import (
    NodeNotAvailable,
    NotEnded,
    NoTrace,
    ProcessNotFound,
    TooManyTraces,
    Unsupported,
)
from superlearner.otp import GenServer


class Blocking(GenServer):
    """A plain handler that never returns: nothing in its sandbox goes on."""

    def init(self):
        return 0

    def handle_cast(self, message, state):
        while True:
            time.sleep(3600)


class Odd(Clerk):
    """Its state is not for JSON."""

    def init(self):
        return {"open": {1}, "pair": (1, 2)}


@pytest.fixture
def sandbox(world) -> sl.Sandbox:
    return opened(world)


class TestList:
    @pytest.mark.parametrize("sort", ["pid", "mailbox", "messages", "restarts"])
    def test_pages_hold_everyone_once_and_in_order(self, cluster, sandbox, sort):
        sandbox.suspend("ann")
        for _ in range(3):
            sandbox.send("ann", "hello")
            sandbox.call("bob", "hello")
        sandbox.terminate("till")
        sandbox.which_children("shop")
        rows, cursor = [], None
        while True:
            part = cluster.ops.list_processes(sandbox=sandbox.id, limit=2, cursor=cursor, sort=sort)
            assert part.total == 5
            rows += part.processes
            cursor = part.next
            if cursor is None:
                break
        assert len({row.pid for row in rows}) == len(rows) == 5
        if sort != "pid":
            assert rows[0].name == {"mailbox": "ann", "messages": "bob", "restarts": "till"}[sort]
            numbers = [getattr(row, sort) for row in rows]
            assert numbers == sorted(numbers, reverse=True)

    def test_it_covers_all_nodes_and_can_be_narrowed(self, world, cluster):
        ids = {node: opened(world, node=node).id for node in ("alpha", "beta", "gamma")}
        found = cluster.ops.list_processes(limit=1000, type="supervisor")
        assert set(ids.values()) <= {row.sandbox for row in found.processes}
        assert {row.type for row in found.processes} == {"supervisor"}
        only = cluster.ops.list_processes(node="beta", limit=1000)
        assert {row.node for row in only.processes} == {"beta"}
        assert cluster.ops.list_processes(node="beta", sandbox=ids["alpha"]).total == 0

    def test_who_is_not_there_is_named(self, cluster, sandbox):
        with pytest.raises(sl.UnknownNode):
            cluster.ops.list_processes(node="delta")
        with pytest.raises(sl.NoSandbox):
            cluster.ops.list_processes(sandbox="nobody")
        with pytest.raises(sl.NoProcess, match="Did you mean 'ann'"):
            cluster.ops.get_process(sandbox.id, "anm")

    def test_a_sandbox_that_has_failed_has_no_processes_and_is_no_failure(self, world, cluster):
        sandbox = opened(world, restart="temporary")
        ended = ended_of(sandbox)
        sandbox.crash("shop")
        assert ended.wait(10)
        found = cluster.ops.list_processes(limit=1000)
        assert sandbox.id not in {row.sandbox for row in found.processes}
        assert sandbox.id not in {failure.sandbox for failure in found.sandbox_failures}


def ended_of(sandbox: sl.Sandbox) -> threading.Event:
    """Return what is set when the registry knows that a sandbox has ended for good."""
    ended = threading.Event()

    def note(event):
        if event.sandbox == sandbox.id and event.kind in {"sandbox_failed", "sandbox_stopped"}:
            ended.set()

    sandbox.cluster.subscribe(note)
    return ended


@pytest.mark.slow
def test_who_does_not_answer_is_told_beside_the_others_within_five_seconds(world):
    with sl.Cluster(nodes=3) as cluster:
        here = cluster.create_sandbox("here", Clerk, node="alpha")
        frozen = cluster.create_sandbox("frozen", Clerk, node="beta")
        blocked = cluster.create_sandbox("blocked", Blocking, node="gamma", shutdown=0.1)
        pid = frozen.process("Clerk").pid
        blocked.cast("Blocking", "now")
        cluster.chaos.pause_node("beta")
        try:
            began = time.monotonic()
            found = cluster.ops.list_processes()
            assert time.monotonic() - began < 5.0
            assert {row.sandbox for row in found.processes} == {here.id}
            assert (found.nodes_successful, found.nodes_failed) == (["alpha", "gamma"], ["beta"])
            assert [failure.node for failure in found.failures] == ["beta"]
            told = {failure.sandbox: failure.code for failure in found.sandbox_failures}
            assert told["blocked"] == "call_timeout"
            assert set(told) == {"blocked", "frozen"}
            with pytest.raises(NodeNotAvailable) as refused:
                cluster.ops.terminate_process("beta", pid, confirm=True)
            assert refused.value.definite
        finally:
            cluster.chaos.heal()


class TestTerminate:
    def test_the_brackets_of_a_pid_may_be_left_out(self, cluster, sandbox):
        node, pid = sandbox.info().node, sandbox.process("ann").pid
        done = cluster.ops.terminate_process(node, pid.strip("<>"), confirm=True)
        assert (done.pid, done.reason) == (pid, "killed")
        with pytest.raises(ProcessNotFound):
            cluster.ops.terminate_process(node, pid, confirm=True)

    def test_a_process_is_only_found_on_its_node(self, cluster, sandbox):
        node, pid = sandbox.info().node, sandbox.process("ann").pid
        other = next(name for name in cluster.status().nodes if name != node)
        for where, which in ((other, pid), (node, "<a.nobody.1>"), (node, "nonsense")):
            with pytest.raises(ProcessNotFound, match="nothing was done"):
                cluster.ops.terminate_process(where, which, confirm=True)
        with pytest.raises(sl.UnknownNode):
            cluster.ops.terminate_process("delta", pid, confirm=True)
        assert sandbox.process("ann").pid == pid

    def test_one_that_traps_exits_is_said_to_live_on(self, world, cluster):
        sandbox = cluster.create_sandbox(world.fresh(), Stubborn)
        where = sandbox.info().node, sandbox.process("Stubborn").pid
        with pytest.raises(NotEnded, match="'kill'"):
            cluster.ops.terminate_process(*where, reason="please", timeout=0.05, confirm=True)
        assert cluster.ops.terminate_process(*where, confirm=True).reason == "killed"

    def test_the_root_can_be_ended_and_the_sandbox_comes_back(self, cluster, sandbox):
        told: queue.SimpleQueue = queue.SimpleQueue()
        stop = cluster.subscribe(told.put, "sandbox_restarted")
        done = cluster.ops.terminate_process(sandbox.info().node, sandbox.process("shop").pid, confirm=True)
        assert done.terminated
        while told.get(timeout=20).sandbox != sandbox.id:
            pass
        stop()
        assert sandbox.call("ann", "hello", timeout=20.0, idempotent=True) == "hello"


class TestMessages:
    def test_casts_and_plain_messages_arrive(self, cluster, sandbox):
        for form in ("cast", "send"):
            sent = cluster.ops.send_message(sandbox.id, "ann", message={"tuple": [1]}, form=form)
            assert (sent.form, sent.reply) == (form, None)
        assert sandbox.get_state("ann") == [("cast", (1,)), ("info", (1,))]

    @pytest.mark.parametrize("form", ["call", "cast", "send"])
    def test_nobody_there_is_told(self, cluster, sandbox, form):
        with pytest.raises(sl.NoProcess, match="Did you mean 'bob'"):
            cluster.ops.send_message(sandbox.id, "bop", message=1, form=form)

    def test_as_it_stands(self, cluster, sandbox):
        sent = cluster.ops.send_message(sandbox.id, "ann", message={"tuple": [1]}, plain=True)
        assert sent.in_words == ["$"]
        assert sent.reply == "{'tuple': [1]}"

    def test_a_reply_that_json_does_not_know_is_told_in_words(self, cluster, sandbox):
        sent = cluster.ops.send_message(sandbox.id, "ann", message="secret")
        assert (sent.reply, sent.in_words) == ("{1, 2}", ["$"])

    def test_the_log_does_not_tell_what_was_said(self, cluster, sandbox):
        cluster.ops.send_message(sandbox.id, "ann", message="between us")
        told = [event for event in cluster.events(kind="operation_called") if event.name == "send_message"]
        assert told
        assert "between us" not in json.dumps([event.as_dict() for event in told])


class TestStates:
    def test_a_state_that_json_does_not_know(self, world, cluster):
        sandbox = cluster.create_sandbox(world.fresh(), Odd)
        state = cluster.ops.get_process_state(sandbox.id, "Odd")
        assert state.value == {"open": "{1}", "pair": {"tuple": [1, 2]}}
        assert state.in_words == ["$.open"]
        assert json.loads(to_json(state))["value"] == state.value

    def test_who_has_none_says_so(self, cluster, sandbox):
        with pytest.raises(Unsupported):
            cluster.ops.replace_process_state(sandbox.id, "desk", value=1)

    def test_a_state_is_read_while_it_is_suspended(self, cluster, sandbox):
        cluster.ops.suspend_process(sandbox.id, "ann")
        sandbox.cast("ann", 1)
        assert cluster.ops.get_process_state(sandbox.id, "ann").value == []
        assert cluster.ops.resume_process(sandbox.id, "ann").suspended is False


class TestTraces:
    def test_a_trace_ends_with_the_os_process_and_that_is_said(self, cluster, sandbox):
        begun = cluster.ops.start_trace(sandbox.id)
        sandbox.restart()
        with pytest.raises(NoTrace, match="none"):
            cluster.ops.read_trace(sandbox.id, begun.trace)

    def test_there_are_few_at_once(self, cluster, sandbox):
        for _ in range(8):
            cluster.ops.start_trace(sandbox.id)
        with pytest.raises(TooManyTraces):
            cluster.ops.start_trace(sandbox.id)

    def test_an_ended_one_can_be_read(self, cluster, sandbox):
        begun = cluster.ops.start_trace(sandbox.id, limit=2)
        sandbox.call("ann", "hello")
        read = cluster.ops.read_trace(sandbox.id, begun.trace)
        assert (read.running, read.total, read.next) == (False, 2, 2)
        assert cluster.ops.read_trace(sandbox.id, begun.trace, since=2).events == []
