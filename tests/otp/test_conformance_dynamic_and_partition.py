"""Dynamic and partition supervisors, case by case as Elixir's suites and OTP's simple_one_for_one have them."""

from __future__ import annotations

import asyncio

import pytest
from conformance_kit import Doer, Member, Trapping, answer, both_flavours, member, running, settled, took
from otp_kit import asynchronous, until

from superlearner.core.snapshots import ChildCounts, ChildInfo
from superlearner.errors import (
    AlreadyStarted,
    ChildNotFound,
    InvalidSpec,
    MaxChildren,
    NoProcess,
    StartFailed,
)
from superlearner.otp import (
    Exit,
    Runtime,
    Stop,
    Supervisor,
    Task,
    call,
    child,
    receive,
    supervisor,
    trap_exit,
)
from superlearner.otp._kernel import partition_of


def dynamic(name="jobs", **options):
    return supervisor([], id=name, name=name, kind="dynamic", **options)


def kill(rt, pid, reason="kill"):
    """Send an exit signal that has taken effect when this returns, before any supervisor could react."""
    rt.kernel.find(pid).signal(rt.kernel.outside, reason)


async def sleepy():
    await receive()


async def counts(rt, name="jobs"):
    found = await rt.count_children(name)
    return (found.active, found.workers)


class TestDynamicStart:
    def test_it_has_the_defaults_of_elixir(self):
        spec = dynamic()
        assert (spec.strategy, spec.max_restarts, spec.max_seconds, spec.max_children) == (
            "one_for_one",
            3,
            5.0,
            None,
        )

    @pytest.mark.parametrize(
        "options",
        [
            {"strategy": "one_for_all"},
            {"auto_shutdown": "any_significant"},
            {"auto_shutdown": "all_significant"},
            {"max_restarts": -1},
            {"max_seconds": 0},
            {"max_children": -1},
        ],
        ids=str,
    )
    def test_what_it_cannot_be_is_refused(self, options):
        with pytest.raises(InvalidSpec, match=next(iter(options))):
            dynamic(**options)

    @asynchronous
    async def test_a_significant_child_is_refused(self):
        async with running(dynamic()) as rt:
            with pytest.raises(InvalidSpec, match="auto_shutdown"):
                await rt.start_child("jobs", child(Doer, restart="transient", significant=True))
            assert await rt.which_children("jobs") == []

    @both_flavours
    @asynchronous
    async def test_ids_may_repeat_and_children_are_listed_in_start_order(self, flavour):
        async with running(dynamic()) as rt:
            pids = [await rt.start_child("jobs", child(flavour(Doer), n, id="job")) for n in range(3)]
            rows = await rt.which_children("jobs")
            assert [row.pid for row in rows] == pids
            assert len({row.id for row in rows}) == 3
            assert {(row.type, row.status) for row in rows} == {("worker", "running")}
            assert await rt.count_children("jobs") == ChildCounts(3, 3, 0, 3)
            assert [await rt.get_state(pid) for pid in pids] == [0, 1, 2]

    @pytest.mark.parametrize("plan", ["fail", "ignore"])
    @pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
    @asynchronous
    async def test_one_that_does_not_run_is_not_kept_and_takes_no_room(self, plan, restart):
        log = []
        async with running(dynamic(max_children=1)) as rt:
            for _ in range(2):
                spec = member(log, "a", plan, restart=restart)
                if plan == "fail":
                    with pytest.raises(StartFailed) as failed:
                        await rt.start_child("jobs", spec)
                    assert failed.value.reason == "no"
                else:
                    assert await rt.start_child("jobs", spec) is None
                assert await rt.which_children("jobs") == []
            assert await rt.start_child("jobs", member(log, "a")) is not None

    @asynchronous
    async def test_a_limit_of_nought_takes_nobody(self):
        async with running(dynamic(max_children=0)) as rt:
            with pytest.raises(MaxChildren):
                await rt.start_child("jobs", child(Doer))

    @asynchronous
    async def test_a_taken_name_is_already_started(self):
        async with running(dynamic()) as rt:
            pid = await rt.start_child("jobs", child(Doer, name="one"))
            with pytest.raises(AlreadyStarted) as refused:
                await rt.start_child("jobs", child(Doer, name="one"))
            assert refused.value.pid == pid
            assert len(await rt.which_children("jobs")) == 1

    @asynchronous
    async def test_supervisors_are_children_too(self):
        log = []
        async with running(dynamic()) as rt:
            await rt.start_child("jobs", supervisor([member(log, "a"), member(log, "b")], id="s"))
            await rt.start_child("jobs", dynamic("inner"))
            assert await rt.count_children("jobs") == ChildCounts(2, 2, 2, 0)
            assert await rt.start_child("inner", member(log, "c")) is not None
        assert sorted(took(log).split()) == ["+a", "+b", "+c", "-a", "-b", "-c"]


class TestDynamicRestart:
    @pytest.mark.parametrize(
        ("restart", "reason", "left"),
        [
            ("temporary", "shutdown", 0),
            ("temporary", "whatever", 0),
            ("temporary", "kill", 0),
            ("transient", "shutdown", 0),
            ("transient", ("shutdown", "signal"), 0),
            ("transient", "whatever", 1),
            ("transient", "kill", 1),
            ("permanent", "shutdown", 1),
            ("permanent", ("shutdown", "signal"), 1),
            ("permanent", "whatever", 1),
        ],
    )
    @asynchronous
    async def test_which_ends_are_started_again(self, restart, reason, left):
        async with running(dynamic()) as rt:
            pid = await rt.start_child("jobs", child(Doer, restart=restart))
            kill(rt, pid, reason)
            assert await counts(rt) == (left, left)
            assert pid not in [row.pid for row in await rt.which_children("jobs")]

    @asynchronous
    async def test_only_the_one_that_died_is_restarted(self):
        async with running(dynamic()) as rt:
            pids = [await rt.start_child("jobs", child(Doer, id=n)) for n in range(3)]
            kill(rt, pids[1])
            after = [row.pid for row in await rt.which_children("jobs")]
            assert set(pids) - set(after) == {pids[1]}
            assert len(after) == 3

    @asynchronous
    async def test_a_restart_that_is_ignored_forgets_the_child(self):
        log = []
        async with running(dynamic()) as rt:
            pid = await rt.start_child("jobs", member(log, "a", "ok", "ignore"))
            kill(rt, pid)
            assert await counts(rt) == (0, 0)
            assert await rt.which_children("jobs") == []

    @asynchronous
    async def test_one_that_waits_for_its_restart_takes_room_and_can_be_terminated_by_its_last_pid(self):
        log = []
        async with running(dynamic(max_children=1, max_restarts=10_000)) as rt:
            pid = await rt.start_child("jobs", member(log, "a", "ok", *["fail"] * 1000))
            kill(rt, pid)
            assert await counts(rt) == (0, 1)
            assert [row.status for row in await rt.which_children("jobs")] == ["restarting"]
            with pytest.raises(MaxChildren):
                await rt.start_child("jobs", child(Doer))
            assert await rt.terminate_child("jobs", pid) is None
            with pytest.raises(ChildNotFound):
                await rt.terminate_child("jobs", pid)
            assert await counts(rt) == (0, 0)
            assert await rt.start_child("jobs", child(Doer)) is not None

    @asynchronous
    async def test_a_second_try_may_succeed_within_the_budget(self):
        log = []
        async with running(dynamic(max_restarts=2)) as rt:
            pid = await rt.start_child("jobs", member(log, "a", "ok", "fail"))
            kill(rt, pid)
            await until(rt, "process_restarted", name="a")
            assert took(log) == "+a !a +a"
            assert await counts(rt) == (1, 1)

    @pytest.mark.parametrize("max_restarts", [0, 1, 10])
    @asynchronous
    async def test_too_many_tries_end_it(self, max_restarts):
        log = []
        async with running(dynamic(max_restarts=max_restarts, restart="temporary")) as rt:
            pid = await rt.start_child("jobs", member(log, "a", "ok", *["fail"] * 20))
            kill(rt, pid)
            (exited,) = await until(rt, "process_exited", name="jobs")
            assert exited.reason == "shutdown"
            assert log.count("!a") == max_restarts

    @asynchronous
    async def test_a_restarted_one_keeps_none_of_its_children(self):
        async with running(dynamic()) as rt:
            await rt.start_child("jobs", child(Doer))
            kill(rt, "jobs", "kill")
            await until(rt, "process_restarted", name="jobs")
            assert await rt.which_children("jobs") == []


class TestDynamicStop:
    @pytest.mark.parametrize(
        ("shutdown", "reason"), [("brutal_kill", "killed"), ("infinity", "shutdown"), (1.0, "shutdown")]
    )
    @asynchronous
    async def test_its_children_end_as_their_shutdown_says(self, shutdown, reason):
        async with running(dynamic()) as rt:
            for n in range(3):
                await rt.start_child("jobs", child(Task, sleepy, id=n, shutdown=shutdown))
            await rt.terminate_child("root", "jobs")
            exits = await rt.events(kind="process_exited")
            assert [e.reason for e in exits] == [reason] * 3 + ["shutdown"]

    @pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
    @pytest.mark.parametrize("reason", ["normal", ("shutdown", "oops"), "boom"])
    @asynchronous
    async def test_whatever_they_leave_with(self, restart, reason):
        ready = []

        async def leaving():
            trap_exit()
            ready.append(1)
            await receive()
            raise Exit(reason)

        async with running(dynamic()) as rt:
            for n in range(3):
                await rt.start_child("jobs", child(Task, leaving, id=n, shutdown="infinity", restart=restart))
            await asyncio.sleep(0)
            assert len(ready) == 3
            await rt.terminate_child("root", "jobs")
            exits = await rt.events(kind="process_exited")
            said = list(reason) if isinstance(reason, tuple) else reason
            assert [e.reason for e in exits] == [said] * 3 + ["shutdown"]

    @asynchronous
    async def test_those_whose_time_is_over_are_killed_all_at_the_same_time(self):
        async def stubborn():
            trap_exit()
            while True:
                await receive()

        async with running(dynamic()) as rt:
            for n in range(20):
                await rt.start_child("jobs", child(Task, stubborn, id=n, shutdown=0.1))
            await rt.start_child("jobs", child(Task, sleepy, id="quick", shutdown=0.1))
            await asyncio.sleep(0)
            before = asyncio.get_running_loop().time()
            await rt.terminate_child("root", "jobs")
            assert asyncio.get_running_loop().time() - before < 1.5
            reasons = [e.reason for e in await rt.events(kind="process_exited")]
            assert sorted(reasons) == ["killed"] * 20 + ["shutdown"] * 2

    @pytest.mark.parametrize(
        ("shutdown", "reason"), [("brutal_kill", "killed"), (1.0, "shutdown"), ("infinity", "shutdown")]
    )
    @pytest.mark.parametrize("by", ["pid", "id"])
    @asynchronous
    async def test_terminate_child_takes_a_pid_or_an_id_and_forgets(self, shutdown, reason, by):
        async with running(dynamic()) as rt:
            pid = await rt.start_child("jobs", child(Trapping, id="job", shutdown=shutdown))
            target = pid if by == "pid" else "job"
            assert await rt.terminate_child("jobs", target) is None
            assert [e.reason for e in await rt.events(kind="process_exited")] == [reason]
            for gone in (rt.terminate_child, rt.restart_child, rt.delete_child):
                with pytest.raises(ChildNotFound):
                    await gone("jobs", target)
            assert await rt.count_children("jobs") == ChildCounts(0, 0, 0, 0)

    @asynchronous
    async def test_a_strangers_pid_is_not_found(self):
        async with running(dynamic(), child(Doer, id="a", name="a")) as rt:
            with pytest.raises(ChildNotFound):
                await rt.terminate_child("jobs", await rt.whereis("a"))
            assert await rt.whereis("a") is not None

    @asynchronous
    async def test_many_children_come_and_go_in_good_time(self):
        async with running(dynamic()) as rt:
            spec = child(Doer, id="job", restart="temporary")
            pids = [await rt.start_child("jobs", spec) for _ in range(1000)]
            assert await rt.count_children("jobs") == ChildCounts(1000, 1000, 0, 1000)
            for pid in pids[:500]:
                kill(rt, pid, "kill")
            for pid in pids[500:]:
                await rt.terminate_child("jobs", pid)
            assert await rt.count_children("jobs") == ChildCounts(0, 0, 0, 0)
            jobs = rt.kernel.find("jobs")
            assert (len(jobs.running), len(jobs._keys), len(jobs.links)) == (0, 0, 1)


def shards(spec=None, partitions=3, **options):
    return supervisor(
        [child(Doer, id="shard") if spec is None else spec],
        id="shards",
        kind="partition",
        partitions=partitions,
        **options,
    )


class TestPartition:
    @pytest.mark.parametrize(("key", "partition"), [(0, 0), (1, 1), (2, 2), (3, 0), (-1, 1), (-4, 1)])
    @asynchronous
    async def test_whole_numbers_go_in_turn(self, key, partition):
        async with running(shards()) as rt:
            rows = await rt.which_children("shards")
            assert [row.id for row in rows] == [0, 1, 2]
            assert await rt.whereis(("shards", key)) == rows[partition].pid

    @pytest.mark.parametrize("key", ["ann", ("a", 1), True, None, 1.5, frozenset([1])], ids=repr)
    def test_other_keys_always_reach_the_same_one(self, key):
        found = {partition_of(key, 7) for _ in range(3)}
        assert len(found) == 1
        assert found < set(range(7))

    def test_keys_are_spread(self):
        used = [partition_of(f"key-{n}", 4) for n in range(1000)]
        assert min(used.count(n) for n in range(4)) > 150

    @pytest.mark.parametrize("partitions", [0, -1, None, 1.5, True])
    def test_a_bad_number_of_partitions_is_refused(self, partitions):
        with pytest.raises(InvalidSpec, match="partitions"):
            shards(partitions=partitions)

    @pytest.mark.parametrize("children", [[], [child(Doer, id=1), child(Doer, id=2)]], ids=["none", "two"])
    def test_it_takes_exactly_one_child(self, children):
        with pytest.raises(InvalidSpec, match="exactly one"):
            supervisor(children, id="shards", kind="partition", partitions=2)

    @both_flavours
    @asynchronous
    async def test_calls_casts_and_messages_are_routed(self, flavour):
        async with running(shards(child(flavour(Doer), [], id="shard"))) as rt:
            for key in range(6):
                await rt.cast(("shards", key), lambda state, key=key: [*state, key])
                await rt.send(("shards", key), -key)
            assert [await rt.get_state(("shards", n)) for n in range(3)] == [
                [0, 0, 3, -3],
                [1, -1, 4, -4],
                [2, -2, 5, -5],
            ]
            assert await rt.call(("shards", "ann"), answer(1)) == 1
            assert (await rt.process(("shards", 1))).handled == 5

    @asynchronous
    async def test_a_process_reaches_them_too(self):
        async def ask(sender, state):
            from superlearner.otp import Reply

            return Reply(await call(("shards", 1), answer("shard")), state)

        async with running(shards(), child(Doer, id="a", name="a")) as rt:
            assert await rt.call("a", ask) == "shard"

    @asynchronous
    async def test_while_one_is_restarted_nobody_is_there_and_the_others_answer(self):
        log = []
        spec = child(Member, log, "s", None, id="shard")
        async with running(shards(spec)) as rt:
            before = [row.pid for row in await rt.which_children("shards")]
            kill(rt, before[1])
            with pytest.raises(NoProcess):
                await rt.call(("shards", 1), answer(1))
            assert await rt.call(("shards", 0), answer(1)) == 1
            await settled(rt, "shards")
            after = [row.pid for row in await rt.which_children("shards")]
            assert [b == a for b, a in zip(before, after, strict=True)] == [True, False, True]
            assert await rt.whereis(("shards", 1)) == after[1]

    @pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
    @asynchronous
    async def test_it_takes_any_strategy(self, strategy):
        async with running(shards(strategy=strategy)) as rt:
            before = [row.pid for row in await rt.which_children("shards")]
            kill(rt, before[1])
            after = [row.pid for row in await rt.which_children("shards")]
            same = {"one_for_one": [1, 0, 1], "one_for_all": [0, 0, 0], "rest_for_one": [1, 0, 0]}[strategy]
            assert [int(b == a) for b, a in zip(before, after, strict=True)] == same

    @asynchronous
    async def test_dynamic_supervisors_can_be_its_partitions(self):
        async with running(shards(supervisor([], id="jobs", kind="dynamic"))) as rt:
            assert await rt.count_children("shards") == ChildCounts(3, 3, 3, 0)
            for key in range(30):
                await rt.start_child(("shards", key), child(Doer, key, id="job"))
            for n in range(3):
                assert await rt.count_children(("shards", n)) == ChildCounts(10, 10, 0, 10)

    @asynchronous
    async def test_one_can_be_terminated_and_restarted_by_its_number(self):
        async with running(shards()) as rt:
            await rt.terminate_child("shards", 1)
            assert await rt.whereis(("shards", 1)) is None
            assert (await rt.which_children("shards"))[1] == ChildInfo(1, None, "worker", "exited")
            assert await rt.restart_child("shards", 1) == await rt.whereis(("shards", 1))

    @asynchronous
    async def test_it_answers_to_its_name_or_else_to_its_id_and_is_gone_after_its_end(self):
        class Module(Supervisor):
            def init(self):
                return shards()

        async with running(shards(name="named"), child(Module, id="module")) as rt:
            assert await rt.whereis(("named", 0)) is not None
            assert await rt.whereis(("shards", 0)) is None
            assert await rt.whereis(("module", 0)) is not None
            await rt.terminate_child("root", "shards")
            assert await rt.whereis(("named", 0)) is None
            with pytest.raises(NoProcess):
                await rt.call(("named", 0), 1)

    @asynchronous
    async def test_other_supervisors_and_servers_have_no_partitions(self):
        async with running(dynamic(), child(Doer, id="a", name="a")) as rt:
            for target in (("jobs", 1), ("root", 1), ("a", 1), ("nobody", 1)):
                with pytest.raises(NoProcess):
                    await rt.call(target, 1)

    def test_a_start_that_fails_in_one_partition_stops_those_before_it(self):
        log = []
        from collections import deque

        spec = child(Member, log, "s", deque(["ok", "ok", "fail"]), id="shard")
        with pytest.raises(StartFailed) as failed, Runtime(supervisor([shards(spec)])):
            pass
        assert took(log) == "+s +s !s -s -s"
        assert failed.value.reason[1][2] == ("shutdown", ("failed_to_start_child", 2, "no"))


@asynchronous
async def test_a_job_that_ends_by_itself_is_forgotten_before_the_next_question():
    async with running(dynamic()) as rt:
        pid = await rt.start_child("jobs", child(Doer, restart="transient"))
        await rt.cast(pid, lambda _: Stop("normal"))
        await until(rt, "process_exited")
        assert await rt.which_children("jobs") == []
