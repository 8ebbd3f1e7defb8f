"""A running supervisor: other options, a pause, and children that are ended or made to fail from outside."""

from __future__ import annotations

import asyncio

import pytest

from superlearner.errors import InvalidSpec, NoProcess, NotEnded, ReloadFailed
from superlearner.otp import GenServer, Runtime, Stop, Task, child, supervisor
from tests.otp.otp_kit import Stack, asynchronous, until


def stack(id, **options):
    return child(Stack, id=id, name=id, **options)


def running(*children, **options):
    return Runtime(supervisor(children, name="root", **options), asynchronous=True)


def inner(*children, **options):
    return supervisor(children, id="inner", name="inner", **options)


async def alive(rt, *names):
    return [name for name in names if await rt.whereis(name) is not None]


class TestOptions:
    @asynchronous
    async def test_another_strategy_counts_from_the_next_end_on(self):
        async with running(inner(stack("a"), stack("b"))) as rt:
            await rt.change_supervisor("inner", "one_for_all", max_restarts=7)
            info = await rt.process("inner")
            assert (info.strategy, info.max_restarts, info.max_seconds) == ("one_for_all", 7, 5.0)
            before = await rt.whereis("b")
            await rt.kill("a")
            await until(rt, "process_restarted", 2)
            assert await rt.whereis("b") != before
            (changed,) = await rt.events(kind="supervisor_changed")
            assert changed.name == "inner"
            assert changed.detail["after"]["strategy"] == "one_for_all"

    @asynchronous
    async def test_what_it_cannot_have_is_refused_in_a_sentence(self):
        async with running(supervisor([], id="jobs", name="jobs", kind="dynamic")) as rt:
            with pytest.raises(InvalidSpec, match="one_for_one"):
                await rt.change_supervisor("jobs", "one_for_all")
            with pytest.raises(InvalidSpec, match="max_restarts"):
                await rt.change_supervisor("jobs", max_restarts=-1)
            assert (await rt.process("jobs")).strategy == "one_for_one"

    @asynchronous
    async def test_a_checkpoint_holds_it_and_its_own_restart_does_not(self):
        app = supervisor([inner(stack("a"))], name="root")
        async with Runtime(app, asynchronous=True) as rt:
            await rt.change_supervisor("inner", "one_for_all", 9, 60.0)
            snapshot = rt.snapshot()
        async with Runtime(app, asynchronous=True, restore=snapshot) as rt:
            info = await rt.process("inner")
            assert (info.strategy, info.max_restarts, info.max_seconds) == ("one_for_all", 9, 60.0)
            await rt.terminate("inner")
            await until(rt, "process_restarted", name="inner")
            info = await rt.process("inner")
            assert (info.strategy, info.max_restarts, info.max_seconds) == ("one_for_one", 3, 5.0)

    @asynchronous
    async def test_a_failed_reload_leaves_it(self):
        class Refusing(Stack):
            def init(self, *first):
                raise ValueError("no")

        async with running(stack("a")) as rt:
            await rt.change_supervisor("root", max_restarts=9)
            with pytest.raises(ReloadFailed):
                await rt.reload(supervisor([stack("a"), child(Refusing, id="new")], name="root"))
            assert (await rt.process("root")).max_restarts == 9
            assert rt.snapshot()["options"][()]["max_restarts"] == 9
            await rt.reload(supervisor([stack("a")], name="root"))
            assert (await rt.process("root")).max_restarts == 3


class TestPause:
    @asynchronous
    async def test_a_paused_supervisor_restarts_nobody_and_still_answers(self):
        async with running(inner(stack("a"), stack("b"))) as rt:
            await rt.pause_supervision("inner")
            assert (await rt.process("inner")).paused
            first = await rt.whereis("a")
            assert await rt.terminate("a", "boom") == "boom"
            rows = {row.id: row for row in await rt.which_children("inner")}
            assert (rows["a"].pid, rows["a"].status) == (None, "exited")
            assert (await rt.count_children("inner")).active == 1
            assert await alive(rt, "a", "b") == ["b"]
            assert await rt.resume_supervision("inner") == ["a"]
            await rt.which_children("inner")
            assert await rt.whereis("a") not in {None, first}
            assert not (await rt.process("inner")).paused
            (exited,) = [e for e in await rt.events(kind="process_exited") if e.name == "a"]
            (scheduled,) = await rt.events(kind="restart_scheduled")
            assert (scheduled.reason, scheduled.cause) == ("boom", str(exited.seq))

    @asynchronous
    async def test_checkpoints_are_taken_meanwhile_and_do_not_hold_the_pause(self):
        app = supervisor([stack("a"), stack("b")], name="root")
        async with Runtime(app, asynchronous=True) as rt:
            await rt.pause_supervision("root")
            await rt.terminate("a")
            await rt.which_children("root")
            snapshot = rt.snapshot()
            assert set(snapshot["states"]) == {("b",)}
        async with Runtime(app, asynchronous=True, restore=snapshot) as rt:
            assert not (await rt.process("root")).paused
            assert await alive(rt, "a", "b") == ["a", "b"]

    @asynchronous
    async def test_too_many_ends_are_too_many_afterwards(self):
        async with running(inner(stack("a"), stack("b"), max_restarts=1)) as rt:
            await rt.pause_supervision("inner")
            await rt.terminate("a")
            await rt.terminate("b")
            assert await rt.resume_supervision("inner") == ["a", "b"]
            await until(rt, "supervisor_gave_up")
            await until(rt, "process_restarted", name="inner")


class TestTerminate:
    @asynchronous
    async def test_it_answers_when_the_process_is_dead(self):
        async with running(stack("a", restart="temporary")) as rt:
            assert await rt.terminate("a") == "killed"
            assert await rt.whereis("a") is None
            with pytest.raises(NoProcess):
                await rt.terminate("a")

    @asynchronous
    async def test_one_that_traps_exits_may_go_on_and_then_that_is_said(self):
        class Stubborn(Stack):
            trap_exit = True

        async with running(child(Stubborn, name="it", restart="temporary")) as rt:
            with pytest.raises(NotEnded, match="still lives") as caught:
                await rt.terminate("it", "please", timeout=0.01)
            assert not caught.value.definite
            assert await rt.terminate("it", "kill") == "killed"

    @asynchronous
    async def test_nobody_else_ends_with_normal(self):
        async with running(stack("a")) as rt:
            with pytest.raises(NotEnded, match="'kill'"):
                await rt.terminate("a", "normal", timeout=0.01)

    def test_from_another_thread_too(self):
        with Runtime(stack("a")) as rt:
            assert rt.terminate("a", "boom") == "boom"
            assert rt.crash("root", "over") == "over"


class TestCrash:
    @asynchronous
    async def test_a_server_ends_as_by_its_own_code_also_when_it_traps_exits(self):
        last = []

        class Trapping(GenServer):
            trap_exit = True

            def init(self):
                return 0

            async def terminate(self, reason, state):
                await asyncio.sleep(0)
                last.append(reason)

        async with running(child(Trapping, name="it")) as rt:
            await rt.suspend("it")
            assert await rt.crash("it", "tired") == "tired"
            assert last == ["tired"]
            (scheduled,) = await until(rt, "restart_scheduled")
            assert scheduled.reason == "tired"

    @asynchronous
    async def test_it_waits_for_the_message_under_way(self):
        entered, go_on = asyncio.Event(), asyncio.Event()

        class Busy(Stack):
            async def handle_cast(self, message, state):
                entered.set()
                await go_on.wait()
                return Stop("done")

        async with running(child(Busy, name="it", restart="temporary")) as rt:
            await rt.cast("it", 1)
            await entered.wait()
            with pytest.raises(NotEnded):
                await rt.crash("it", timeout=0.01)
            waiting = asyncio.ensure_future(rt.crash("it"))
            await asyncio.sleep(0)
            go_on.set()
            assert await waiting == "done"

    @asynchronous
    async def test_a_supervisor_and_a_task_can_fail_too(self):
        async def work():
            await asyncio.Event().wait()

        async with running(inner(stack("a")), child(Task, work, id="task", name="task")) as rt:
            below = await rt.whereis("a")
            assert await rt.crash("inner", "boom") == "boom"
            await until(rt, "process_restarted", name="inner")
            assert await rt.whereis("a") != below
            assert await rt.crash("task", "boom") == "boom"
