"""Static supervisors, case by case as the suites of OTP's supervisor and Elixir's Supervisor have them."""

from __future__ import annotations

import asyncio
import gc
from collections import deque

import pytest
from conformance_kit import (
    Doer,
    Member,
    Trapping,
    answer,
    both_flavours,
    kill_and_settle,
    member,
    running,
    settled,
    took,
    turns_until,
)
from otp_kit import asynchronous, until

from superlearner.core.snapshots import ChildCounts, ChildInfo
from superlearner.errors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRunning,
    InvalidSpec,
    NoProcess,
    ProcessDied,
    StartFailed,
    Unsupported,
)
from superlearner.otp import (
    Exit,
    GenServer,
    Ignore,
    NoReply,
    Reply,
    Runtime,
    Stop,
    Supervisor,
    Task,
    child,
    count_children,
    exit_,
    link,
    receive,
    self_,
    start_child,
    supervisor,
    trap_exit,
    unlink,
    whereis,
)
from superlearner.otp._process import Process

STRATEGIES = ["one_for_one", "one_for_all", "rest_for_one"]


def members(log, ids="abc", **options):
    return [member(log, me, **options) for me in ids]


class Stubborn(GenServer):
    """Traps exits and never ends by itself."""

    trap_exit = True

    def init(self, log, me):
        log.append(f"+{me}")
        return (log, me)

    async def terminate(self, reason, state):
        log, me = state
        log.append(f"~{me}")
        await asyncio.Event().wait()


class TestStart:
    @pytest.mark.parametrize("at", [0, 1, 2])
    @both_flavours
    @asynchronous
    async def test_a_failure_in_the_middle_stops_those_before_in_reverse(self, at, flavour):
        log = []
        specs = [
            member(log, me, "fail" if n == at else "ok", cls=flavour(Member)) for n, me in enumerate("abc")
        ]
        rt = running(*specs)
        with pytest.raises(StartFailed) as failed:
            await rt.start()
        assert took(log) == ["!a", "+a !b -a", "+a +b !c -b -a"][at]
        assert failed.value.reason == ("shutdown", ("failed_to_start_child", "abc"[at], "no"))
        assert [e.name for e in await rt.events(kind="start_failed")] == ["abc"[at]]
        assert not await rt.events(kind="restart_scheduled")

    @asynchronous
    async def test_a_failure_deep_in_the_tree_rolls_all_of_it_back(self):
        log = []
        inner = supervisor([member(log, "b"), member(log, "c", "fail")], id="inner")
        outer = supervisor([member(log, "a"), inner, member(log, "d")], id="outer")
        with pytest.raises(StartFailed) as failed:
            async with Runtime(supervisor([member(log, "0"), outer]), asynchronous=True):
                pass
        assert took(log) == "+0 +a +b !c -b -a -0"
        reason = "no"
        for id in ("c", "inner", "outer"):
            reason = ("shutdown", ("failed_to_start_child", id, reason))
        assert failed.value.reason == reason

    @pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
    @asynchronous
    async def test_a_child_that_dies_while_the_others_still_start(self, restart):
        log = []

        def wait_for_b_to_fall():
            async def init():
                exit_("a", "boom")
                await asyncio.sleep(0)
                log.append("+b")
                return (log, "b")

            return init()

        specs = [
            member(log, "a", restart=restart),
            member(log, "b", wait_for_b_to_fall, cls=Member),
            member(log, "c"),
        ]
        specs[0] = child(Doer, id="a", name="a", restart=restart)
        async with running(*specs) as rt:
            await settled(rt)
            assert took(log) == "+b +c"
            assert (await rt.whereis("a") is None) is (restart == "temporary")
            assert len(await rt.events(kind="restart_scheduled")) == (restart != "temporary")

    @asynchronous
    async def test_the_children_of_a_restarted_supervisor_are_those_of_its_spec(self):
        log = []
        inner = supervisor(members(log, "ab"), id="inner", name="inner")
        async with running(inner) as rt:
            await rt.start_child("inner", member(log, "extra"))
            took(log)
            await kill_and_settle(rt, "inner", "kill")
            await until(rt, "process_restarted", name="inner")
            assert [c.id for c in await rt.which_children("inner")] == ["a", "b"]

    @both_flavours
    @asynchronous
    async def test_a_name_taken_by_a_stranger_fails_start_child_and_names_it(self, flavour):
        async with running(child(Doer, id="a", name="taken")) as rt:
            owner = await rt.whereis("taken")
            with pytest.raises(AlreadyStarted) as refused:
                await rt.start_child("root", child(flavour(Doer), id="b", name="taken"))
            assert refused.value.pid == owner
            assert [c.id for c in await rt.which_children("root")] == ["a"]

    def test_a_supervisor_name_is_taken_like_any_other(self):
        specs = [child(Doer, id="a", name="pool"), supervisor([], id="b", name="pool")]
        with pytest.raises(StartFailed) as failed, Runtime(supervisor(specs)):
            pass
        assert failed.value.reason[1][2][0] == "already_started"


class TestRestart:
    @pytest.mark.parametrize("strategy", STRATEGIES)
    @pytest.mark.parametrize("who", ["a", "b", "c", "d"])
    @both_flavours
    @asynchronous
    async def test_who_stops_and_starts(self, strategy, who, flavour):
        log = []
        specs = members(log, "abcd", cls=flavour(Member))
        async with running(*specs, strategy=strategy) as rt:
            before = {c.id: c.pid for c in await rt.which_children("root")}
            took(log)
            await kill_and_settle(rt, who, "kill")
            await settled(rt)
            others = {
                "one_for_one": "",
                "one_for_all": "abcd".replace(who, ""),
                "rest_for_one": "abcd".partition(who)[2],
            }[strategy]
            starts = sorted({who, *others})
            assert took(log) == " ".join([f"-{o}" for o in reversed(others)] + [f"+{s}" for s in starts])
            after = {c.id: c.pid for c in await rt.which_children("root")}
            assert list(after) == list(before)
            assert {id for id in after if after[id] != before[id]} == set(starts)
            assert await rt.count_children("root") == ChildCounts(4, 4, 0, 4)

    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    @asynchronous
    async def test_temporary_bystanders_go_for_good_and_ended_ones_come_back(self, strategy):
        log = []
        specs = [
            member(log, "a"),
            member(log, "t", restart="temporary"),
            member(log, "n", restart="transient"),
            member(log, "s"),
        ]
        async with running(*specs, strategy=strategy) as rt:
            await rt.cast("n", lambda _: Stop("normal"))
            await rt.terminate_child("root", "s")
            await settled(rt)
            took(log)
            await kill_and_settle(rt, "a", "kill")
            assert took(log) == "-t +a +n +s"
            assert [c.id for c in await rt.which_children("root")] == ["a", "n", "s"]

    @pytest.mark.parametrize("strategy", STRATEGIES)
    @pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", "x"), "boom"])
    @pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
    @asynchronous
    async def test_the_end_of_one_that_is_not_started_again_touches_nobody(self, strategy, reason, restart):
        log = []
        specs = [member(log, "a", restart=restart), *members(log, "b")]
        again = restart == "permanent" or (restart == "transient" and reason == "boom")
        async with running(*specs, strategy=strategy) as rt:
            took(log)
            await rt.cast("a", lambda _: Stop(reason))
            await settled(rt)
            await settled(rt)
            both = "" if not again else " +a" if strategy == "one_for_one" else " -b +a +b"
            assert took(log) == f"-a{' ' + str(reason) if reason != 'shutdown' else ''}{both}"
            ids = [c.id for c in await rt.which_children("root")]
            assert ids == (["b"] if restart == "temporary" else ["a", "b"])

    @asynchronous
    async def test_in_one_for_all_a_start_that_fails_stops_those_started_before_and_is_tried_again(self):
        log = []
        specs = [
            member(log, "a"),
            member(log, "b", "ok", "fail", "fail"),
            member(log, "c"),
        ]
        async with running(*specs, strategy="one_for_all") as rt:
            took(log)
            await rt.kill("c")
            await until(rt, "process_restarted", 5)
            assert took(log) == "-b -a +a !b -a +a !b -a +a +b +c"
            assert [s.status for s in await rt.which_children("root")] == ["running"] * 3

    @asynchronous
    async def test_in_rest_for_one_a_start_that_fails_keeps_those_started_before(self):
        log = []
        specs = [member(log, "a"), member(log, "b", "ok", "fail", "fail"), member(log, "c")]
        async with running(*specs, strategy="rest_for_one") as rt:
            took(log)
            await rt.kill("a")
            await until(rt, "process_restarted", 3)
            assert took(log) == "-c -b +a !b !b +b +c"

    @pytest.mark.parametrize("strategy", STRATEGIES)
    @asynchronous
    async def test_starts_that_go_on_failing_spend_the_budget_and_end_the_supervisor(self, strategy):
        log = []
        specs = [member(log, "a"), member(log, "b", "ok", *["fail"] * 9), member(log, "c")]
        async with running(*specs, strategy=strategy, max_restarts=4) as rt:
            took(log)
            await rt.kill("b")
            assert await rt.wait(5) == "shutdown"
            assert log.count("!b") == 4
            (gave_up,) = await rt.events(kind="supervisor_gave_up")
            assert gave_up.detail["budget_left"] == 0
            assert log[-1] == "-a"

    @asynchronous
    async def test_a_restart_that_is_ignored_leaves_the_spec_without_a_process(self):
        log = []
        async with running(member(log, "a", "ok", "ignore")) as rt:
            await kill_and_settle(rt, "a", "kill")
            await settled(rt)
            assert await rt.which_children("root") == [ChildInfo("a", None, "worker", "exited")]
            assert await rt.count_children("root") == ChildCounts(1, 0, 0, 1)
            assert await rt.restart_child("root", "a") is not None

    @asynchronous
    async def test_the_crashed_child_of_a_restart_that_failed_elsewhere_is_not_restarting(self):
        log = []
        hold = asyncio.Event()

        def fail_later():
            async def init():
                await hold.wait()
                return Stop("no")

            return init()

        specs = [member(log, "a", "ok", "fail", fail_later), member(log, "b")]
        async with running(*specs, strategy="one_for_all") as rt:
            await rt.kill("b")
            await until(rt, "start_failed")
            tree = {p.id: p.status for p in (await rt.tree()).children}
            assert tree["b"] == "exited"
            hold.set()
            await until(rt, "process_restarted", 2)
            assert await rt.count_children("root") == ChildCounts(2, 2, 0, 2)

    @asynchronous
    async def test_nested_trees_stop_from_the_leaves_and_start_from_the_root(self):
        log = []
        pool = supervisor(members(log, "bc"), id="pool", name="pool", strategy="one_for_all")
        deep = supervisor(
            [member(log, "e"), supervisor(members(log, "fg"), id="deepest")], id="deep", name="deep"
        )
        specs = [member(log, "a"), pool, member(log, "d"), deep]
        async with running(*specs, strategy="rest_for_one") as rt:
            assert took(log) == "+a +b +c +d +e +f +g"
            await kill_and_settle(rt, "pool", "kill")
            await settled(rt)
            said = took(log)
            # Killed, the pool cannot stop its children: they get its exit signal, as linked processes do.
            assert said.endswith("-g -f -e -d +b +c +d +e +f +g")
            assert sorted(said.split(" -g")[0].split(" -")) == ["-b killed", "c killed"]
        assert took(log) == "-g -f -e -d -c -b -a"

    @asynchronous
    async def test_a_supervisor_that_gives_up_is_restarted_with_its_whole_tree(self):
        log = []
        inner = supervisor(members(log, "ab"), id="inner", name="inner", max_restarts=1)
        async with running(inner, member(log, "z"), strategy="rest_for_one") as rt:
            took(log)
            await kill_and_settle(rt, "a", "kill", "inner")
            await rt.kill("a")
            await until(rt, "process_restarted", name="z")
            assert took(log) == "+a -b -z +a +b +z"
            assert len(await rt.events(kind="supervisor_gave_up")) == 1


class TestDeathsAtTheSameTime:
    @pytest.mark.parametrize(
        ("strategy", "counted"), [("one_for_one", 3), ("one_for_all", 1), ("rest_for_one", 1)]
    )
    @asynchronous
    async def test_each_is_restarted_once(self, strategy, counted):
        log = []
        async with running(*members(log), strategy=strategy) as rt:
            kernel = rt.kernel
            took(log)
            for me in "abc":
                kernel.find(me).signal(kernel.outside, "kill")
            await settled(rt)
            await settled(rt)
            assert took(log) == "+a +b +c"
            assert len(await rt.events(kind="restart_scheduled")) == counted

    @asynchronous
    async def test_in_rest_for_one_a_later_one_is_handled_first_when_it_dies_first(self):
        log = []
        async with running(*members(log), strategy="rest_for_one") as rt:
            kernel = rt.kernel
            took(log)
            for me in "cb":
                kernel.find(me).signal(kernel.outside, "kill")
            await settled(rt)
            await settled(rt)
            assert took(log) == "+c -c +b +c"
            assert len(await rt.events(kind="restart_scheduled")) == 2

    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    @asynchronous
    async def test_one_that_dies_while_its_siblings_are_stopped_is_not_counted_again(self, strategy):
        log = []

        class Slow(Member):
            async def terminate(self, reason, state):
                exit_("b", "kill")
                await asyncio.sleep(0)
                super().terminate(reason, state)

        specs = [member(log, "a"), member(log, "b"), member(log, "c", cls=Slow)]
        async with running(*specs, strategy=strategy, max_restarts=1) as rt:
            took(log)
            await kill_and_settle(rt, "a", "kill")
            await settled(rt)
            assert took(log) == "-c +a +b +c"

    @asynchronous
    async def test_linked_siblings_that_fall_together_are_both_restarted(self):
        children = [child(Doer, id=me, name=me) for me in "ab"]
        async with running(*children) as rt:
            await rt.call("a", answer(lambda: link("b")))
            await kill_and_settle(rt, "a", "boom")
            await settled(rt)
            assert await rt.count_children("root") == ChildCounts(2, 2, 0, 2)
            assert [e.reason for e in await rt.events(kind="process_exited")] == ["boom", "boom"]

    @asynchronous
    async def test_a_name_can_be_registered_by_the_restarted_child_at_once(self):
        async with running(child(Doer, id="a", name="a"), max_restarts=100) as rt:
            for _ in range(50):
                await kill_and_settle(rt, "a", "kill")
                await settled(rt)
            assert not await rt.events(kind="start_failed")


class TestIntensity:
    @pytest.mark.parametrize("max_restarts", [0, 1, 3])
    @asynchronous
    async def test_one_more_than_allowed_ends_it(self, max_restarts):
        log = []
        async with running(*members(log, "ab"), max_restarts=max_restarts) as rt:
            for _ in range(max_restarts):
                await kill_and_settle(rt, "a", "kill")
                await settled(rt)
            took(log)
            await rt.kill("a")
            assert await rt.wait(5) == "shutdown"
            assert took(log) == "-b"

    @pytest.mark.parametrize(
        ("restart", "reason"),
        [("transient", "normal"), ("temporary", "boom"), ("transient", ("shutdown", 1))],
    )
    @asynchronous
    async def test_ends_without_a_restart_cost_nothing(self, restart, reason):
        log = []
        async with running(member(log, "a", restart=restart), max_restarts=0) as rt:
            await rt.cast("a", lambda _: Stop(reason))
            await until(rt, "process_exited", name="a")
            await settled(rt)
            assert not await rt.events(kind="supervisor_gave_up")

    @asynchronous
    async def test_verbs_cost_nothing(self):
        log = []
        async with running(member(log, "a"), max_restarts=0) as rt:
            for _ in range(5):
                await rt.terminate_child("root", "a")
                await rt.restart_child("root", "a")
            assert await rt.count_children("root") == ChildCounts(1, 1, 0, 1)

    @asynchronous
    async def test_a_storm_ends_it_and_the_others_go_on(self):
        class Crashing(GenServer):
            def init(self):
                return NoReply(None, continue_=None)

            def handle_continue(self, value, state):
                raise Exit("boom")

        inner = supervisor([child(Crashing)], id="inner", max_restarts=50, restart="temporary")
        async with running(child(Doer, id="d", name="d")) as rt:
            pid = await rt.start_child("root", inner)
            assert await rt.call("d", answer(1)) == 1
            await until(rt, "supervisor_gave_up")
            await until(rt, "process_exited", name="inner")
            assert len(await rt.events(kind="restart_scheduled")) == 50
            assert await rt.whereis(pid) is None
            assert await rt.call("d", answer(2)) == 2

    @pytest.mark.parametrize("times", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
    @asynchronous
    async def test_any_number_of_restarts_leaves_nothing_behind(self, times):
        class Crashing(GenServer):
            count = 0

            def init(self):
                Crashing.count += 1
                return NoReply(None, continue_="stay" if Crashing.count > times else "crash")

            def handle_continue(self, value, state):
                if value == "crash":
                    raise Exit("boom")
                done.set()
                return NoReply(state)

        done = asyncio.Event()
        async with running(child(Crashing, id="it", name="it"), max_restarts=20_000) as rt:
            await done.wait()
            kernel = rt.kernel
            gc.collect()
            mine = [p for p in gc.get_objects() if isinstance(p, Process) and p.kernel is kernel]
            assert len(mine) == 2
            assert len(kernel.processes) == 2
            assert len(kernel.addresses) == 4
            root = kernel.find("root")
            assert (len(root.links), len(root._keys), len(root.running)) == (1, 1, 1)
            assert not kernel.leftovers
            assert len(await rt.events()) <= 10_000


class TestShutdown:
    @pytest.mark.parametrize(
        ("shutdown", "log_says", "reason"),
        [
            ("brutal_kill", "+a", "killed"),
            (0, "+a", "killed"),  # before its async terminate has begun
            (0.01, "+a ~a", "killed"),
            (0.5, "+a ~a", "killed"),
        ],
    )
    @asynchronous
    async def test_one_that_does_not_end_by_itself(self, shutdown, log_says, reason):
        log = []
        spec = child(Stubborn, log, "a", id="a", name="a", shutdown=shutdown)
        async with running(spec, member(log, "z", shutdown="infinity")) as rt:
            assert log.pop() == "+z"
            before = asyncio.get_running_loop().time()
            await rt.terminate_child("root", "a")
            took_time = asyncio.get_running_loop().time() - before
            assert took(log) == log_says
            assert [e.reason for e in await rt.events(kind="process_exited")] == [reason]
            assert took_time < 5.0
            if shutdown != "brutal_kill":
                assert took_time >= shutdown * 0.9

    @asynchronous
    async def test_siblings_wait_for_the_one_behind_them(self):
        log = []
        release = asyncio.Event()

        class Slow(Member):
            async def terminate(self, reason, state):
                log.append("(c")
                await release.wait()
                super().terminate(reason, state)

        rt = running(member(log, "a"), member(log, "b"), member(log, "c", cls=Slow, shutdown="infinity"))
        await rt.start()
        took(log)
        stopping = asyncio.ensure_future(rt.stop())
        await asyncio.sleep(0.01)
        assert took(log) == "(c"
        release.set()
        await stopping
        assert took(log) == "-c -b -a"

    @pytest.mark.parametrize("reason", ["normal", "boom", ("shutdown", 1)])
    @asynchronous
    async def test_whatever_reason_a_child_leaves_with_the_shutdown_goes_on(self, reason):
        class Leaving(Member):
            def terminate(self, _, state):
                super().terminate("shutdown", state)
                raise Exit(reason)

        log = []
        async with running(member(log, "a"), member(log, "b", cls=Leaving)) as rt:
            took(log)
        assert took(log) == "-b -a"
        exits = {e.name: e.reason for e in await rt.events(kind="process_exited")}
        assert exits["b"] == (list(reason) if isinstance(reason, tuple) else reason)
        assert (exits["a"], exits["root"]) == ("shutdown", "shutdown")

    @asynchronous
    async def test_a_function_that_traps_exits_is_told_and_then_killed(self):
        got = []

        async def stubborn():
            trap_exit()
            while True:
                got.append((await receive()).reason)

        async with running(child(stubborn, id="s", shutdown=0.02)) as rt:
            for _ in range(3):
                await asyncio.sleep(0)
        assert got == ["shutdown"]
        assert [e.reason for e in await rt.events(kind="process_exited")] == ["killed", "shutdown"]

    @asynchronous
    async def test_a_child_that_has_unlinked_itself_is_stopped_all_the_same(self):
        async with running(child(Doer, id="a", name="a"), child(Trapping, id="t", name="t")) as rt:
            for name in ("a", "t"):
                await rt.call(name, answer(lambda: unlink("root")))
            await rt.terminate_child("root", "a")
            await rt.terminate_child("root", "t")
            assert await rt.whereis("a") is None
            assert await rt.restart_child("root", "a") == await rt.whereis("a")

    @asynchronous
    async def test_the_death_of_a_child_that_has_unlinked_itself_goes_unseen(self):
        async with running(child(Doer, id="a", name="a")) as rt:
            await rt.call("a", answer(lambda: unlink("root")))
            await kill_and_settle(rt, "a", "kill")
            assert await rt.count_children("root") == ChildCounts(1, 0, 0, 1)
            await rt.terminate_child("root", "a")
            await rt.restart_child("root", "a")
            assert await rt.count_children("root") == ChildCounts(1, 1, 0, 1)

    @asynchronous
    async def test_a_supervisor_that_is_stopped_while_it_tries_to_restart_stops_trying(self):
        log = []
        specs = [member(log, "a"), member(log, "b", "ok", *["fail"] * 1000)]
        rt = running(*specs, max_restarts=10_000)
        await rt.start()
        await rt.kill("b")
        await until(rt, "start_failed", 3)
        await rt.stop()
        assert log[-1] == "-a"
        assert log.count("!b") < 100
        assert not await rt.events(kind="supervisor_gave_up")

    @asynchronous
    async def test_a_supervisor_killed_in_the_middle_of_a_stop_takes_its_children_with_it(self):
        log = []
        inner = supervisor(
            [member(log, "a"), child(Stubborn, log, "s", id="s", name="s", shutdown="infinity")],
            id="inner",
            name="inner",
            shutdown=0.02,
        )
        async with running(inner) as rt:
            await rt.terminate_child("root", "inner")
            await asyncio.sleep(0)
            assert [e.reason for e in await rt.events(kind="process_exited") if e.name == "inner"] == [
                "killed"
            ]
            assert await rt.whereis("a") is None
            # The stubborn one traps exits: nothing but a kill ends it, as in OTP.
            assert await rt.whereis("s") is not None
        assert await rt.events(kind="process_exited")

    @pytest.mark.parametrize("reason", ["boom", "normal", ("shutdown", 1)])
    @asynchronous
    async def test_a_signal_of_a_stranger_or_a_child_does_not_end_a_supervisor(self, reason):
        async with running(supervisor([child(Doer, id="a", name="a")], id="s", name="s")) as rt:
            pid = await rt.whereis("s")
            child_pid = await rt.whereis("a")
            await rt.kill("s", reason)
            await rt.call("a", answer(lambda: exit_("s", reason)))
            await settled(rt, "s")
            assert await rt.whereis("s") == pid
            assert await rt.whereis("a") == child_pid
            assert await rt.which_children("s") == [ChildInfo("a", child_pid, "worker", "running")]

    @asynchronous
    async def test_messages_that_no_supervisor_understands_are_dropped_or_refused(self):
        async with running() as rt:
            await rt.cast("root", "what")
            await rt.send("root", "what")
            with pytest.raises(Unsupported):
                await rt.call("root", "what")
            assert await rt.which_children("root") == []

    @asynchronous
    async def test_calls_to_a_supervisor_that_ends_fail_with_its_reason(self):
        async with running(supervisor([], id="s", name="s", restart="temporary")) as rt:
            await rt.suspend("s")
            waiting = asyncio.ensure_future(rt.which_children("s"))
            await asyncio.sleep(0)
            await rt.terminate_child("root", "s")
            with pytest.raises(ProcessDied) as died:
                await waiting
            assert died.value.reason == "shutdown"

    @asynchronous
    async def test_a_server_that_traps_handles_what_came_before_its_shutdown(self):
        said = []

        class Server(Doer):
            trap_exit = True

            async def handle_cast(self, message, state):
                said.append("begins")
                await asyncio.sleep(0)
                said.append("has ended")
                return NoReply(state)

            def handle_info(self, message, state):
                said.append(message)
                return NoReply(state)

            def terminate(self, reason, state):
                said.append(reason)

        async with running(child(Server, id="a", name="a")) as rt:
            await rt.cast("a", "slow")
            await rt.send("a", "after it")
            await rt.terminate_child("root", "a")
        assert said == ["begins", "has ended", "after it", "shutdown"]

    @pytest.mark.parametrize("shutdown", ["infinity", 0.01])
    @asynchronous
    async def test_a_restart_that_hangs_in_init_holds_up_its_own_supervisor_alone(self, shutdown):
        log, go = [], asyncio.Event()

        async def hang():
            log.append("hangs")
            await go.wait()
            return (log, "a")

        inner = supervisor([member(log, "a", "ok", hang)], id="in", name="in", shutdown=shutdown)
        async with running(inner, member(log, "z")) as rt:
            await rt.kill("a")
            await turns_until(lambda: "hangs" in log)
            took(log)
            assert await rt.call("z", answer(1)) == 1
            stopping = asyncio.ensure_future(rt.terminate_child("root", "in"))
            if shutdown == "infinity":
                await turns_until(lambda: rt.kernel.find("in").mailbox)
                go.set()
            await stopping
            assert took(log) == ("-a" if shutdown == "infinity" else "")
            assert await rt.whereis("in") is None

    @asynchronous
    async def test_what_is_asked_of_a_supervisor_that_ends_fails_and_starts_nothing(self):
        log = []
        inner = supervisor([child(Stubborn, log, "s", id="s", shutdown=0.02)], id="in", name="in")
        async with running(inner) as rt:
            stopping = asyncio.ensure_future(rt.terminate_child("root", "in"))
            await turns_until(lambda: "~s" in log)
            with pytest.raises(ProcessDied) as died:
                await rt.start_child("in", member(log, "late"))
            assert died.value.reason == "shutdown"
            await stopping
            assert took(log) == "+s ~s"

    @asynchronous
    async def test_a_supervisor_that_was_terminated_comes_back_with_the_children_of_its_spec(self):
        log = []
        inner = supervisor(members(log, "bc"), id="in", name="in")
        async with running(inner) as rt:
            await rt.start_child("in", member(log, "x"))
            took(log)
            await rt.terminate_child("root", "in")
            assert took(log) == "-x -c -b"
            with pytest.raises(NoProcess):
                await rt.which_children("in")
            await rt.restart_child("root", "in")
            assert took(log) == "+b +c"


class TestSignificant:
    @pytest.mark.parametrize("strategy", STRATEGIES)
    @pytest.mark.parametrize(
        ("auto", "restart", "reason", "ends"),
        [
            ("any_significant", "transient", "normal", True),
            ("any_significant", "transient", "shutdown", True),
            ("any_significant", "transient", ("shutdown", 1), True),
            ("any_significant", "transient", "boom", False),
            ("any_significant", "temporary", "normal", True),
            ("any_significant", "temporary", "boom", True),
            ("all_significant", "transient", "normal", False),
            ("all_significant", "temporary", "boom", False),
        ],
    )
    @asynchronous
    async def test_the_end_of_one_of_two(self, strategy, auto, restart, reason, ends):
        log = []
        specs = [
            member(log, "a", restart=restart, significant=True),
            member(log, "b", restart=restart, significant=True),
            member(log, "c"),
        ]
        async with running(*specs, auto_shutdown=auto, strategy=strategy) as rt:
            took(log)
            await rt.cast("a", lambda _: Stop(reason))
            if ends:
                assert await rt.wait(5) == "shutdown"
                assert took(log).endswith("-c -b")
                assert not await rt.events(kind="supervisor_gave_up")
            else:
                await until(rt, "process_exited", name="a")
                await settled(rt)
                assert await rt.whereis("b") is not None

    @pytest.mark.parametrize("restart", ["transient", "temporary"])
    @asynchronous
    async def test_the_last_of_all_ends_it_also_when_others_were_terminated_or_ignored(self, restart):
        log = []
        options = {"restart": restart, "significant": True}
        specs = [
            member(log, "a", **options),
            member(log, "b", **options),
            member(log, "i", "ignore", **options),
            member(log, "c"),
        ]
        async with running(*specs, auto_shutdown="all_significant") as rt:
            await rt.terminate_child("root", "a")
            assert await rt.whereis("b") is not None
            await rt.cast("b", lambda _: Stop("normal"))
            assert await rt.wait(5) == "shutdown"

    @pytest.mark.parametrize("auto", ["any_significant", "all_significant"])
    @asynchronous
    async def test_terminating_or_replacing_one_never_ends_it(self, auto):
        log = []
        specs = [
            member(log, "p"),
            member(log, "a", restart="temporary", significant=True),
            member(log, "b", restart="transient", significant=True),
        ]
        async with running(*specs, auto_shutdown=auto, strategy="one_for_all") as rt:
            await kill_and_settle(rt, "p", "kill")
            await settled(rt)
            assert [c.id for c in await rt.which_children("root")] == ["p", "b"]
            await rt.terminate_child("root", "b")
            assert await rt.count_children("root") == ChildCounts(2, 1, 0, 2)

    @asynchronous
    async def test_one_that_waits_for_its_restart_counts_as_alive(self):
        log = []
        options = {"restart": "transient", "significant": True}
        specs = [member(log, "a", "ok", "fail", "fail", **options), member(log, "b", **options)]
        async with running(*specs, auto_shutdown="all_significant", max_restarts=100) as rt:
            kernel = rt.kernel
            kernel.find("a").signal(kernel.outside, "kill")
            await rt.cast("b", lambda _: Stop("normal"))
            await until(rt, "process_restarted", name="a")
            await settled(rt)
            assert await rt.whereis("a") is not None

    @pytest.mark.parametrize("how", ["auto", "gave up"])
    @asynchronous
    async def test_a_significant_supervisor_ends_the_one_above(self, how):
        log = []
        inner = supervisor(
            [
                member(
                    log, "a", restart="transient" if how == "auto" else "permanent", significant=how == "auto"
                )
            ],
            id="inner",
            restart="transient",
            significant=True,
            max_restarts=0,
            auto_shutdown="any_significant",
        )
        async with running(member(log, "z"), inner, auto_shutdown="any_significant") as rt:
            await rt.cast("a", lambda _: Stop("normal"))
            assert await rt.wait(5) == "shutdown"
            assert took(log).endswith("-z")

    @asynchronous
    async def test_a_permanent_supervisor_that_shut_itself_down_is_restarted(self):
        log = []
        inner = supervisor(
            [member(log, "a", restart="transient", significant=True)],
            id="inner",
            name="inner",
            auto_shutdown="any_significant",
        )
        async with running(inner) as rt:
            await rt.cast("a", lambda _: Stop("normal"))
            await until(rt, "process_restarted", name="inner")
            assert await rt.whereis("a") is not None

    def test_what_can_never_happen_is_refused(self):
        with pytest.raises(InvalidSpec, match="permanent"):
            child(Doer, significant=True)
        with pytest.raises(InvalidSpec, match="auto_shutdown='never'"):
            supervisor([child(Doer, significant=True, restart="transient")])
        spec = child(Doer, significant=True, restart="transient")
        with Runtime(supervisor([])) as rt, pytest.raises(InvalidSpec, match="auto_shutdown='never'"):
            rt.start_child("root", spec)


class TestVerbs:
    @asynchronous
    async def test_a_life_cycle(self):
        async with running() as rt:
            assert await rt.which_children("root") == []
            assert await rt.count_children("root") == ChildCounts(0, 0, 0, 0)
            pid = await rt.start_child("root", child(Doer, id="a"))
            assert await rt.which_children("root") == [ChildInfo("a", pid, "worker", "running")]
            assert await rt.count_children("root") == ChildCounts(1, 1, 0, 1)
            for refused in (rt.delete_child("root", "a"), rt.restart_child("root", "a")):
                with pytest.raises(ChildRunning):
                    await refused
            assert await rt.terminate_child("root", "a") is None
            assert await rt.terminate_child("root", "a") is None
            assert await rt.which_children("root") == [ChildInfo("a", None, "worker", "exited")]
            assert await rt.count_children("root") == ChildCounts(1, 0, 0, 1)
            with pytest.raises(AlreadyPresent):
                await rt.start_child("root", child(Doer, id="a"))
            again = await rt.restart_child("root", "a")
            assert again != pid
            with pytest.raises(AlreadyStarted) as refused:
                await rt.start_child("root", child(Doer, id="a"))
            assert refused.value.pid == again
            await rt.terminate_child("root", again)
            assert await rt.delete_child("root", "a") is None
            for gone in (rt.terminate_child, rt.restart_child, rt.delete_child):
                with pytest.raises(ChildNotFound):
                    await gone("root", "a")
                with pytest.raises(ChildNotFound):
                    await gone("root", ["unhashable"])
            assert await rt.start_child("root", child(Doer, id="a")) is not None

    @pytest.mark.parametrize("how", ["terminate", "kill", "normal", "sibling"])
    @pytest.mark.parametrize("strategy", STRATEGIES)
    @asynchronous
    async def test_a_temporary_child_leaves_no_spec(self, how, strategy):
        log = []
        async with running(member(log, "p"), strategy=strategy) as rt:
            await rt.start_child("root", member(log, "t", restart="temporary"))
            match how:
                case "terminate":
                    await rt.terminate_child("root", "t")
                case "kill":
                    await rt.kill("t")
                case "normal":
                    await rt.cast("t", lambda _: Stop("normal"))
                    await until(rt, "process_exited", name="t")
                case "sibling":
                    await rt.kill("p")
                    await settled(rt)
                    if strategy == "one_for_one":
                        await rt.terminate_child("root", "t")
            await settled(rt)
            assert [c.id for c in await rt.which_children("root")] == ["p"]
            assert await rt.start_child("root", member(log, "t", restart="temporary")) is not None

    @asynchronous
    async def test_start_order_is_kept_whatever_happens(self):
        log = []
        async with running(*members(log, "abc")) as rt:
            await rt.start_child("root", member(log, "d"))
            await rt.terminate_child("root", "b")
            await kill_and_settle(rt, "a", "kill")
            await rt.restart_child("root", "b")
            assert [c.id for c in await rt.which_children("root")] == ["a", "b", "c", "d"]
            await rt.terminate_child("root", "a")
            await rt.delete_child("root", "a")
            await rt.start_child("root", member(log, "a"))
            assert [c.id for c in await rt.which_children("root")] == ["b", "c", "d", "a"]
            took(log)
        assert took(log) == "-a -d -c -b"

    @asynchronous
    async def test_counts_tell_supervisors_from_workers_and_living_from_dead(self):
        log = []
        specs = [*members(log, "abc"), supervisor([], id="s"), supervisor([], id="t", name="t")]
        async with running(*specs) as rt:
            assert await rt.count_children("root") == ChildCounts(5, 5, 2, 3)
            await rt.terminate_child("root", "a")
            await rt.terminate_child("root", "t")
            assert await rt.count_children("root") == ChildCounts(5, 3, 2, 3)
            assert [(c.type, c.pid is None) for c in await rt.which_children("root")] == [
                ("worker", True),
                ("worker", False),
                ("worker", False),
                ("supervisor", False),
                ("supervisor", True),
            ]

    @asynchronous
    async def test_a_child_that_waits_for_its_restart_can_be_terminated_by_its_last_pid(self):
        log = []
        specs = [member(log, "a", "ok", *["fail"] * 100)]
        async with running(*specs, max_restarts=1000) as rt:
            kernel = rt.kernel
            pid = await rt.whereis("a")
            kernel.find("a").signal(kernel.outside, "kill")
            rows = await rt.which_children("root")
            assert rows == [ChildInfo("a", None, "worker", "restarting")]
            with pytest.raises(ChildRunning):
                await rt.restart_child("root", "a")
            with pytest.raises(ChildRunning):
                await rt.delete_child("root", "a")
            with pytest.raises(AlreadyPresent):
                await rt.start_child("root", member(log, "a"))
            assert await rt.count_children("root") == ChildCounts(1, 0, 0, 1)
            await rt.terminate_child("root", pid)
            failures = log.count("!a")
            await settled(rt)
            assert log.count("!a") == failures
            assert await rt.which_children("root") == [ChildInfo("a", None, "worker", "exited")]
            with pytest.raises(ChildNotFound):
                await rt.terminate_child("root", pid)

    @pytest.mark.parametrize("bad", [None, 1, "text", {}, Doer(), ("a", 1)])
    @asynchronous
    async def test_what_is_no_spec_is_refused_and_the_supervisor_goes_on(self, bad):
        async with running() as rt:
            with pytest.raises(InvalidSpec):
                await rt.start_child("root", bad)
            assert await rt.which_children("root") == []

    @asynchronous
    async def test_a_class_alone_is_a_spec(self):
        async with running() as rt:
            assert await rt.start_child("root", Doer) is not None
            assert [c.id for c in await rt.which_children("root")] == ["Doer"]

    @pytest.mark.parametrize(
        ("result", "error"), [(Stop("no"), "no"), (Exit("left"), "left"), (None, None), (ValueError(), None)]
    )
    @both_flavours
    @asynchronous
    async def test_start_child_and_restart_child_tell_why_they_failed(self, result, error, flavour):
        class It(GenServer):
            def init(self, plan):
                what = plan.popleft()
                if isinstance(what, BaseException):
                    raise what
                return what

        async with running() as rt:
            with pytest.raises(StartFailed) as failed:
                await rt.start_child("root", child(flavour(It), deque([result]), id="a"))
            assert error is None or failed.value.reason == error
            assert await rt.which_children("root") == []
            await rt.start_child("root", child(flavour(It), deque([1, result, 1]), id="a"))
            await rt.terminate_child("root", "a")
            with pytest.raises(StartFailed):
                await rt.restart_child("root", "a")
            assert await rt.which_children("root") == [ChildInfo("a", None, "worker", "exited")]
            assert await rt.restart_child("root", "a") is not None
            assert not await rt.events(kind="restart_scheduled")

    @asynchronous
    async def test_a_nested_supervisor_that_cannot_start_tells_which_child_was_to_blame(self):
        log = []
        async with running() as rt:
            with pytest.raises(StartFailed) as failed:
                await rt.start_child(
                    "root", supervisor([member(log, "a"), member(log, "b", "fail")], id="s", name="s")
                )
            assert failed.value.reason == ("shutdown", ("failed_to_start_child", "b", "no"))
            assert took(log) == "+a !b -a"
            assert await rt.whereis("s") is None

    @asynchronous
    async def test_a_child_may_be_started_and_stopped_by_another_process(self):
        async def grow(sender, state):
            pid = await start_child("root", child(Doer, id="new", name="new"))
            return Reply(pid, state)

        async with running(child(Doer, id="a", name="a")) as rt:
            assert await rt.call("a", grow) == await rt.whereis("new")

    @asynchronous
    async def test_only_living_supervisors_are_asked(self):
        async def ask(_, state):
            with pytest.raises(Unsupported):
                await count_children("b")
            return Reply("refused", state)

        async with running(*(child(Doer, id=n, name=n) for n in "ab")) as rt:
            pids = [await rt.whereis(n) for n in "ab"]
            with pytest.raises(NoProcess):
                await rt.which_children("nobody")
            with pytest.raises(Unsupported, match="'a' is a Doer, not a supervisor"):
                await rt.which_children("a")
            assert await rt.call("a", ask) == "refused"
            assert [await rt.whereis(n) for n in "ab"] == pids


class TestModuleBased:
    class Pool(Supervisor):
        def init(self, what):
            if isinstance(what, BaseException):
                raise what
            return what

    @pytest.mark.parametrize(
        "what", [None, [], "garbage", {}, ValueError("boom"), SystemExit(1), Exit("left")], ids=repr
    )
    @both_flavours
    def test_garbage_and_exceptions_fail_the_start(self, what, flavour):
        del flavour
        with pytest.raises(StartFailed) as failed, Runtime(supervisor([child(self.Pool, what, id="p")])):
            pass
        said = failed.value.reason
        assert said[1][:2] == ("failed_to_start_child", "p")
        if isinstance(what, Exit):
            assert said[1][2] == "left"
        elif isinstance(what, BaseException):
            assert said[1][2].reason is what
        else:
            assert isinstance(said[1][2].reason, InvalidSpec)

    @asynchronous
    async def test_ignore_keeps_the_spec(self):
        async with running(child(self.Pool, Ignore(), id="p", name="p")) as rt:
            assert await rt.which_children("root") == [ChildInfo("p", None, "supervisor", "exited")]
            assert await rt.whereis("p") is None
            assert await rt.restart_child("root", "p") is None

    @asynchronous
    async def test_its_init_runs_again_at_each_restart(self):
        sizes = iter([1, 2, 3])

        class Growing(Supervisor):
            async def init(self):
                return supervisor([child(Doer, id=n) for n in range(next(sizes))], max_restarts=0)

        async with running(child(Growing, id="g", name="g")) as rt:
            assert len(await rt.which_children("g")) == 1
            await kill_and_settle(rt, "g", "kill")
            await until(rt, "process_restarted", name="g")
            assert len(await rt.which_children("g")) == 2

    @asynchronous
    async def test_a_taken_name_in_its_spec_is_already_started(self):
        pool = child(self.Pool, supervisor([], name="taken"), id="p")
        async with running(child(Doer, id="a", name="taken")) as rt:
            with pytest.raises(AlreadyStarted) as refused:
                await rt.start_child("root", pool)
            assert refused.value.pid == await rt.whereis("taken")

    @asynchronous
    async def test_it_may_be_the_root(self):
        log = []
        async with Runtime(child(self.Pool, supervisor(members(log, "ab")), id="p"), asynchronous=True):
            assert took(log) == "+a +b"
        assert took(log) == "-b -a"


class TestTasks:
    @pytest.mark.parametrize("flavour", ["plain", "async"])
    @pytest.mark.parametrize(
        ("restart", "ends", "runs"),
        [
            ("temporary", "return", 1),
            ("temporary", "raise", 1),
            ("transient", "return", 1),
            ("transient", "raise", 3),
            ("permanent", "return", 3),
            ("permanent", "raise", 3),
        ],
    )
    @asynchronous
    async def test_how_often_it_runs(self, flavour, restart, ends, runs):
        count = []

        def work():
            count.append(whereis("task") == self_())
            if ends == "raise":
                raise ValueError

        async def async_work():
            await asyncio.sleep(0)
            work()

        spec = child(
            Task, work if flavour == "plain" else async_work, id="task", name="task", restart=restart
        )
        async with running(supervisor([spec], id="s", name="s", max_restarts=2, restart="temporary")) as rt:
            await until(rt, "process_exited", runs, name="task")
            if runs == 3:
                await until(rt, "supervisor_gave_up")
            else:
                await settled(rt, "s")
                left = [] if restart == "temporary" else [ChildInfo("task", None, "worker", "exited")]
                assert await rt.which_children("s") == left
        assert count == [True] * runs

    @pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()])
    @pytest.mark.parametrize("flavour", ["plain", "async"])
    @asynchronous
    async def test_whatever_it_raises_ends_it_alone(self, error, flavour):
        def work():
            raise error

        async def async_work():
            raise error

        fn = work if flavour == "plain" else async_work
        async with running(child(Doer, id="a", name="a")) as rt:
            await rt.start_child("root", child(Task, fn, id="task"))
            (exited,) = await until(rt, "process_exited", name="task")
            assert type(error).__name__ in exited.reason
            assert await rt.call("a", answer(1)) == 1

    @asynchronous
    async def test_its_arguments_type_and_function_are_seen(self):
        got = []

        async def work(*args):
            got.append(args)
            await receive()

        async with running(child(Task, work, 1, "two", id="task", name="task")) as rt:
            info = await rt.process("task")
            assert (info.type, info.behaviour, info.status) == ("task", "work", "running")
            await asyncio.sleep(0)
            assert got == [(1, "two")]

    @asynchronous
    async def test_a_child_function_without_task_is_permanent(self):
        runs = []

        async def work():
            runs.append(1)

        async with running(child(work, id="w"), max_restarts=2) as rt:
            assert await rt.wait(5) == "shutdown"
            assert len(runs) == 3
