"""Supervisors: start and stop order, strategies, intensity, verbs, and the three kinds."""

from __future__ import annotations

import asyncio

import pytest

from superlearner.errors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRunning,
    InvalidSpec,
    MaxChildren,
    NoProcess,
    ProcessDied,
    StartFailed,
    Unsupported,
)
from superlearner.otp import (
    Exit,
    GenServer,
    Ignore,
    Reply,
    Runtime,
    Stop,
    Supervisor,
    Task,
    child,
    count_children,
    delete_child,
    restart_child,
    start_child,
    supervisor,
    terminate_child,
    which_children,
)
from tests.otp.otp_kit import Stack, asynchronous, inside, until


class Worker(GenServer):
    """Notes its start and its end."""

    trap_exit = True

    def init(self, name, log):
        self.name, self.log = name, log
        log.append(f"+{name}")
        return name

    def handle_call(self, request, sender, state):
        return Reply(state, state)

    def handle_cast(self, message, state):
        raise Exit(message)

    def terminate(self, reason, state):
        self.log.append(f"-{self.name}")


def workers(log, names="abc", **options):
    return [child(Worker, n, log, id=n, name=n, **options) for n in names]


def running(app):
    return Runtime(app, asynchronous=True)


async def crash(rt, name, reason="crash", count=1):
    await rt.cast(name, reason)
    await until(rt, "process_restarted", count, name)


class TestStrategies:
    @pytest.mark.parametrize(
        ("strategy", "expected"),
        [
            ("one_for_one", ["-b", "+b"]),
            ("one_for_all", ["-b", "-c", "-a", "+a", "+b", "+c"]),
            ("rest_for_one", ["-b", "-c", "+b", "+c"]),
        ],
    )
    @asynchronous
    async def test_who_stops_and_starts_in_what_order(self, strategy, expected):
        log = []
        async with running(supervisor(workers(log), strategy=strategy)) as rt:
            assert log == ["+a", "+b", "+c"]
            log.clear()
            await crash(rt, "b")
            await rt.which_children("root")
            assert log == expected
            log.clear()
        assert log == ["-c", "-b", "-a"]

    @pytest.mark.parametrize(
        ("restart", "reason", "comes_back"),
        [
            ("permanent", "normal", True),
            ("permanent", "shutdown", True),
            ("transient", "normal", False),
            ("transient", "shutdown", False),
            ("transient", ("shutdown", 1), False),
            ("transient", "crash", True),
            ("temporary", "crash", False),
        ],
    )
    @asynchronous
    async def test_restart_types_against_exit_reasons(self, restart, reason, comes_back):
        log = []
        async with running(supervisor(workers(log, "a", restart=restart))) as rt:
            await rt.cast("a", reason)
            await until(rt, "process_exited")
            left = await rt.which_children("root")
            assert log == ["+a", "-a", *(["+a"] if comes_back else [])]
            assert len(left) == (0 if restart == "temporary" else 1)
            assert (
                [c.status for c in left] == []
                if restart == "temporary"
                else ["running" if comes_back else "exited"]
            )

    @asynchronous
    async def test_one_for_all_forgets_temporary_siblings_and_starts_ended_ones(self):
        log = []
        specs = [
            *workers(log, "a"),
            *workers(log, "t", restart="temporary"),
            *workers(log, "n", restart="transient"),
        ]
        async with running(supervisor(specs, strategy="one_for_all")) as rt:
            await rt.cast("n", "normal")
            await until(rt, "process_exited")
            log.clear()
            await crash(rt, "a")
            ids = [c.id for c in await rt.which_children("root")]
            assert (ids, log) == (["a", "n"], ["-a", "-t", "+a", "+n"])


class TestIntensity:
    @asynchronous
    async def test_one_restart_too_many_ends_the_supervisor(self):
        log = []
        rt = running(supervisor(workers(log, "ab"), max_restarts=2, max_seconds=60))
        async with rt:
            await crash(rt, "a", count=1)
            await crash(rt, "a", count=2)
            await rt.cast("a", "crash")
            assert await rt.wait() == "shutdown"
            (event,) = await rt.events(kind="supervisor_gave_up")
            assert event.detail["budget_left"] == 0
            assert event.detail["child"] == "a"
            with pytest.raises(NoProcess):
                await rt.call("b", "anything")
        assert log[-2:] == ["-a", "-b"]

    @asynchronous
    async def test_giving_up_escalates_to_the_next_supervisor(self):
        log = []
        inner = supervisor(workers(log, "a"), id="inner", name="inner", max_restarts=0)
        async with running(supervisor([inner])) as rt:
            before = await rt.whereis("inner")
            await rt.cast("a", "crash")
            await until(rt, "process_restarted", 1, "inner")
            assert await rt.whereis("inner") not in (None, before)
            assert await rt.call("a", "anything") == "a"

    @asynchronous
    async def test_failed_restarts_count_against_the_intensity(self):
        starts = []

        class OnlyOnce(GenServer):
            def init(self):
                starts.append(1)
                return 0 if len(starts) == 1 else Stop("not again")

            def handle_cast(self, message, state):
                raise Exit(message)

        async with running(supervisor([child(OnlyOnce, name="a")], max_restarts=3, max_seconds=60)) as rt:
            await rt.cast("a", "crash")
            assert await rt.wait() == "shutdown"
            assert len(starts) == 1 + 3
            assert len(await rt.events(kind="start_failed")) == 3

    @asynchronous
    async def test_a_failed_restart_lets_other_requests_through_and_is_listed_as_restarting(self):
        starts, seen = [], asyncio.get_running_loop().create_future()

        class Slow(GenServer):
            def init(self):
                starts.append(1)
                return 0 if len(starts) in (1, 6) else Stop("not yet")

            def handle_cast(self, message, state):
                raise Exit(message)

        async with running(supervisor([child(Slow, name="a")], max_restarts=100)) as rt:
            await rt.cast("a", "crash")
            while (row := (await rt.which_children("root"))[0]).status != "restarting":
                pass
            seen.set_result(row)
            assert seen.result() == ("Slow", None, "worker", "restarting")
            await until(rt, "process_restarted")
            assert len(starts) == 6


class TestStart:
    @asynchronous
    async def test_a_failed_start_stops_those_before_it_in_reverse(self):
        log = []

        class Failing(GenServer):
            def init(self):
                return Stop("no")

        with pytest.raises(StartFailed) as error:
            await running(supervisor([*workers(log, "ab"), child(Failing), *workers(log, "c")])).start()
        assert error.value.reason == ("shutdown", ("failed_to_start_child", "Failing", "no"))
        assert log == ["+a", "+b", "-b", "-a"]

    @asynchronous
    async def test_a_taken_name_fails_the_start(self):
        log = []
        twice = [child(Worker, n, log, id=n, name="same") for n in "ab"]
        with pytest.raises(StartFailed, match="already_started"):
            await running(supervisor(twice)).start()

    def test_a_child_that_dies_during_its_own_start_is_a_failed_start(self):
        class Suicidal(GenServer):
            async def init(self):
                await asyncio.sleep(0)
                raise SystemExit

        with pytest.raises(StartFailed), Runtime(Suicidal):
            pass


class TestShutdown:
    class Stubborn(GenServer):
        trap_exit = True

        async def terminate(self, reason, state):
            await asyncio.Event().wait()

    @asynchronous
    async def test_a_child_that_takes_too_long_is_killed(self):
        async with running(supervisor([child(self.Stubborn, name="a", shutdown=0.01)])) as rt:
            await rt.terminate_child("root", "Stubborn")
            (event,) = await rt.events(kind="process_exited")
            assert event.reason == "killed"

    @asynchronous
    async def test_brutal_kill_asks_nobody(self):
        async with running(supervisor([child(self.Stubborn, name="a", shutdown="brutal_kill")])) as rt:
            await rt.terminate_child("root", "Stubborn")
            assert (await rt.events(kind="process_exited"))[0].reason == "killed"

    @asynchronous
    async def test_stopping_the_runtime_can_be_bounded(self):
        rt = running(supervisor([child(self.Stubborn, shutdown="infinity")]))
        await rt.start()
        await rt.stop(timeout=0.01)
        assert await rt.wait() == "killed"
        await rt.stop()

    @asynchronous
    async def test_killing_a_supervisor_takes_all_below_it_down(self):
        log = []
        inner = supervisor(workers(log, "ab"), id="inner", name="inner")
        async with running(supervisor([inner])) as rt:
            await rt.kill("inner")
            await until(rt, "process_restarted", 1, "inner")
            assert log[:4] == ["+a", "+b", "-a", "-b"]
            assert sorted(log[4:]) == ["+a", "+b"]


class TestSignificant:
    @pytest.mark.parametrize(
        ("auto_shutdown", "ends", "stops"),
        [
            ("any_significant", "a", True),
            ("any_significant", "c", False),
            ("all_significant", "a", False),
            ("all_significant", "ab", True),
        ],
    )
    @asynchronous
    async def test_the_end_of_significant_children_ends_the_supervisor(self, auto_shutdown, ends, stops):
        log = []
        specs = [
            *workers(log, "ab", restart="transient", significant=True),
            *workers(log, "c", restart="transient"),
        ]
        async with running(supervisor(specs, auto_shutdown=auto_shutdown)) as rt:
            for name in ends:
                await rt.cast(name, "normal")
            await until(rt, "process_exited", len(ends))
            if stops:
                assert await rt.wait() == "shutdown"
            else:
                await rt.which_children("root")

    @asynchronous
    async def test_terminating_one_by_hand_does_not(self):
        log = []
        specs = workers(log, "a", restart="transient", significant=True)
        async with running(supervisor(specs, auto_shutdown="any_significant")) as rt:
            await rt.terminate_child("root", "a")
            assert await rt.which_children("root") == [("a", None, "worker", "exited")]
            with pytest.raises(InvalidSpec):
                await rt.start_child("root", child(Worker, "x", log, id="x", significant=True))


class TestVerbs:
    @asynchronous
    async def test_a_static_supervisor_keeps_what_it_terminates(self):
        log = []
        async with running(supervisor(workers(log, "a"))) as rt:
            new = child(Worker, "b", log, id="b", name="b")
            pid = await rt.start_child("root", new)
            assert pid == await rt.whereis("b")
            with pytest.raises(AlreadyStarted) as error:
                await rt.start_child("root", new)
            assert error.value.pid == pid
            for refused in (rt.delete_child, rt.restart_child):
                with pytest.raises(ChildRunning):
                    await refused("root", "b")
            await rt.terminate_child("root", pid)
            await rt.terminate_child("root", "b")
            with pytest.raises(AlreadyPresent):
                await rt.start_child("root", new)
            assert await rt.count_children("root") == (2, 1, 0, 2)
            assert await rt.restart_child("root", "b") == await rt.whereis("b")
            await rt.terminate_child("root", "b")
            await rt.delete_child("root", "b")
            for verb in (rt.terminate_child, rt.restart_child, rt.delete_child):
                with pytest.raises(ChildNotFound):
                    await verb("root", "b")

    @asynchronous
    async def test_start_child_tells_why_it_failed_and_keeps_nothing(self):
        class Failing(GenServer):
            def init(self, how):
                if isinstance(how, Exception):
                    raise how
                return how

        async with running(supervisor([])) as rt:
            with pytest.raises(StartFailed) as error:
                await rt.start_child("root", child(Failing, Stop("no")))
            assert error.value.reason == "no"
            with pytest.raises(StartFailed) as error:
                await rt.start_child("root", child(Failing, ValueError("boom")))
            assert isinstance(error.value.__cause__, ValueError)
            assert await rt.start_child("root", child(Failing, Ignore(), id="i")) is None
            assert await rt.start_child("root", child(Failing, Ignore(), id="t", restart="temporary")) is None
            assert await rt.which_children("root") == [("i", None, "worker", "exited")]
            with pytest.raises(InvalidSpec, match="write child"):
                await rt.start_child("root", "nonsense")
            with pytest.raises(Unsupported):
                await rt.call("root", "nonsense")

    @asynchronous
    async def test_the_verbs_work_inside_a_process(self):
        async def body():
            pid = await start_child("root", child(Stack, id="new"))
            assert (await which_children("root"))[-1] == ("new", pid, "worker", "running")
            await terminate_child("root", pid)
            assert await restart_child("root", "new") != pid
            await terminate_child("root", "new")
            await delete_child("root", "new")
            return await count_children("root")

        assert await inside(body) == (1, 1, 0, 1)


class TestDynamic:
    @asynchronous
    async def test_it_takes_children_up_to_its_limit_and_forgets_those_that_end(self):
        log = []
        jobs = supervisor([], id="jobs", name="jobs", kind="dynamic", max_children=2)
        async with running(supervisor([jobs])) as rt:
            first = await rt.start_child("jobs", child(Worker, "a", log, restart="temporary"))
            second = await rt.start_child("jobs", child(Worker, "b", log, restart="temporary"))
            with pytest.raises(MaxChildren):
                await rt.start_child("jobs", child(Worker, "c", log))
            assert [c.pid for c in await rt.which_children("jobs")] == [first, second]
            await rt.terminate_child("jobs", first)
            await rt.cast(second, "crash")
            await until(rt, "process_exited", 2)
            assert await rt.count_children("jobs") == (0, 0, 0, 0)
            assert await rt.start_child("jobs", child(GenServer, Ignore())) is not None

    @asynchronous
    async def test_its_children_restart_and_stop_together(self):
        log = []
        async with running(supervisor([], kind="dynamic", max_restarts=10)) as rt:
            for n in "abc":
                await rt.start_child("root", child(Worker, n, log, name=n))
            await crash(rt, "b")
            assert await rt.count_children("root") == (3, 3, 0, 3)
            assert len({c.id for c in await rt.which_children("root")}) == 3
        assert sorted(log[-3:]) == ["-a", "-b", "-c"]


class TestPartition:
    @asynchronous
    async def test_a_key_always_reaches_the_same_child(self):
        shards = supervisor([child(Stack, id="shard")], id="shards", kind="partition", partitions=4)
        async with running(supervisor([shards])) as rt:
            pids = [await rt.whereis(("shards", n)) for n in range(4)]
            assert len(set(pids)) == 4
            assert await rt.whereis(("shards", 5)) == pids[1]
            await rt.cast(("shards", "ann"), ("push", 1))
            assert await rt.call(("shards", "ann"), "state") == [1]
            assert [c.id for c in await rt.which_children("shards")] == [0, 1, 2, 3]
            await rt.terminate_child("shards", 2)
            with pytest.raises(NoProcess):
                await rt.call(("shards", 2), "state")


class TestModuleBased:
    class Pool(Supervisor):
        def init(self, names, log):
            return supervisor(workers(log, names), strategy="one_for_all", name="pool")

    @asynchronous
    async def test_it_serves_wherever_a_spec_does(self):
        log = []
        async with running(supervisor([child(self.Pool, "ab", log)])) as rt:
            assert [c.id for c in await rt.which_children("pool")] == ["a", "b"]
            (info,) = (await rt.tree()).children
            assert (info.behaviour, info.strategy, info.type) == ("Pool", "one_for_all", "supervisor")
        async with running(child(self.Pool, "a", log)) as rt:
            assert await rt.call("a", "anything") == "a"

    def test_it_may_ignore_or_fail(self):
        class Ignoring(Supervisor):
            def init(self):
                return Ignore()

        class Wrong(Supervisor):
            def init(self):
                return [1]

        class Async(Supervisor):
            async def init(self):
                await asyncio.sleep(0)
                return supervisor([child(Stack, name="s")])

        with Runtime(supervisor([child(Ignoring), child(Async)])) as rt:
            assert [c.pid is None for c in rt.which_children("root")] == [True, False]
            assert rt.call("s", "state") == []
        for bad in (Wrong, Supervisor):
            with pytest.raises(StartFailed), Runtime(child(bad)):
                pass


class TestTask:
    @asynchronous
    async def test_it_runs_once_plain_or_async(self):
        ran = []

        async def work(value):
            ran.append(value)

        specs = [child(Task, ran.append, 1), child(Task, work, 2, id="two")]
        async with running(supervisor(specs)) as rt:
            await until(rt, "process_exited", 2)
            assert ran == [1, 2]
            assert await rt.which_children("root") == []

    @asynchronous
    async def test_it_is_started_again_only_when_it_is_asked_to(self):
        runs = []

        def fails():
            runs.append(1)
            raise ValueError("boom")

        async with running(supervisor([child(Task, fails, restart="transient")], max_restarts=2)) as rt:
            assert await rt.wait() == "shutdown"
        assert len(runs) == 3

    @asynchronous
    async def test_a_function_is_a_child_too(self):
        started = asyncio.Event()

        async def ticker():
            started.set()
            await asyncio.Event().wait()

        async with running(supervisor([child(ticker, name="ticker")])) as rt:
            await started.wait()
            assert (await rt.process("ticker")).behaviour == "ticker"
            with pytest.raises(Unsupported):
                await rt.get_state("ticker")
            waiting = asyncio.ensure_future(rt.call("ticker", "anything"))
            await asyncio.sleep(0)
            await rt.kill("ticker")
            with pytest.raises(ProcessDied):
                await waiting
