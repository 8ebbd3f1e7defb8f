"""Looking and touching: suspend, get and replace the state, process info, tracing and reload."""

from __future__ import annotations

import asyncio

import pytest

from superlearner.errors import CallTimeout, InvalidSpec, NoProcess, ProcessDied, ReloadFailed, Unsupported
from superlearner.otp import (
    Exit,
    GenServer,
    NoReply,
    Reply,
    Runtime,
    Stop,
    Supervisor,
    Task,
    call,
    child,
    supervisor,
)
from tests.otp.otp_kit import Stack, asynchronous, until


def running(*children, **options):
    return Runtime(supervisor(list(children), max_restarts=100), asynchronous=True, **options)


def stack(*first, **options):
    return child(Stack, *first, **({"id": "it", "name": "it"} | options))


class TestSuspend:
    @asynchronous
    async def test_messages_wait_while_it_is_suspended_and_come_in_order(self):
        async with running(stack()) as rt:
            await rt.suspend("it")
            await rt.cast("it", ("push", 1))
            await rt.cast("it", ("push", 2))
            with pytest.raises(CallTimeout):
                await rt.call("it", "state", timeout=0.001)
            info = await rt.process("it")
            assert (info.status, info.mailbox) == ("suspended", 3)
            assert await rt.get_state("it") == []
            await rt.replace_state("it", ["new"])
            await rt.resume("it")
            assert await rt.call("it", "state") == [2, 1, "new"]
            assert (await rt.process("it")).status == "running"

    @asynchronous
    async def test_its_supervisor_can_still_stop_it(self):
        seen = []

        class Trapping(Stack):
            trap_exit = True

            def terminate(self, reason, state):
                seen.append(reason)

        async with running(child(Trapping, name="it")) as rt:
            await rt.suspend("it")
            await rt.send("it", "waiting")
        assert seen == ["shutdown"]

    @asynchronous
    async def test_a_suspended_supervisor_restarts_nobody_until_it_is_resumed(self):
        async with running(stack()) as rt:
            await rt.suspend("root")
            await rt.kill("it")
            await rt.get_state("root")
            assert await rt.whereis("it") is None
            await rt.resume("root")
            await until(rt, "process_restarted")


class TestState:
    @asynchronous
    async def test_who_has_no_state_says_so(self):
        started = asyncio.Event()

        async def work():
            started.set()
            await asyncio.Event().wait()

        async with running(child(Task, work, name="task", shutdown="brutal_kill")) as rt:
            await started.wait()
            with pytest.raises(Unsupported):
                await rt.get_state("task")
            with pytest.raises(Unsupported):
                await rt.replace_state("root", 1)
            with pytest.raises(NoProcess):
                await rt.get_state("nobody")

    @asynchronous
    async def test_asking_a_process_that_dies_tells_its_reason(self):
        entered = asyncio.Event()

        class Busy(GenServer):
            async def handle_cast(self, message, state):
                entered.set()
                await asyncio.Event().wait()

        async with running(child(Busy, name="it")) as rt:
            await rt.cast("it", 1)
            await entered.wait()
            assert (await rt.process("it")).current == "handle_cast"
            with pytest.raises(CallTimeout):
                await rt.get_state("it", timeout=0.001)
            waiting = asyncio.ensure_future(rt.get_state("it"))
            await asyncio.sleep(0)
            await rt.kill("it")
            with pytest.raises(ProcessDied):
                await waiting


class TestInfo:
    @asynchronous
    async def test_a_tree_shows_each_process_below_its_supervisor(self):
        pool = supervisor([stack()], id="pool", name="pool", strategy="rest_for_one")
        async with running(pool) as rt:
            await rt.call("it", "state")
            tree = await rt.tree()
            assert [(p.id, p.name, p.type, p.status) for p in tree.walk()] == [
                ("supervisor", "root", "supervisor", "running"),
                ("pool", "pool", "supervisor", "running"),
                ("it", "it", "worker", "running"),
            ]
            it = await rt.process("it")
            assert (it.handled, it.behaviour, it.restarts) == (1, "Stack", 0)
            assert it.links == (str(await rt.whereis("pool")),)
            assert len(await rt.processes()) == 3
            assert rt.handled >= 1
            with pytest.raises(NoProcess):
                await rt.process("nobody")

    @asynchronous
    async def test_the_story_is_still_told_after_the_end(self):
        rt = running(stack())
        async with rt:
            await rt.kill("it")
            await until(rt, "process_restarted")
        tree = await rt.tree()
        assert [(p.id, p.pid, p.status) for p in tree.walk()] == [
            ("supervisor", None, "exited"),
            ("it", None, "exited"),
        ]
        assert [e.kind for e in await rt.events(kind="process_restarted")] == ["process_restarted"]
        with pytest.raises(NoProcess):
            await rt.cast("it", 1)


class TestEvents:
    @asynchronous
    async def test_they_tell_who_why_which_restart_and_what_is_left(self):
        heard = []
        async with running(
            stack(), node="alpha", sandbox="shop", epoch=7, first_serial=100, on_event=heard.append
        ) as rt:
            await rt.cast("it", ("raise", ValueError("boom")))
            await until(rt, "process_restarted")
            events = await rt.events()
            assert heard == events
            assert [e.seq for e in events] == list(range(1, len(events) + 1))
            assert {(e.node, e.sandbox, e.epoch) for e in events} == {("alpha", "shop", 7)}
            by_kind = {e.kind: e for e in events}
            exited, planned, again = (
                by_kind[k] for k in ("process_exited", "restart_scheduled", "process_restarted")
            )
            assert (exited.name, exited.pid, exited.reason) == ("it", "<alpha.shop.101>", "ValueError: boom")
            assert "Traceback" in exited.detail["traceback"]
            assert planned.cause == str(exited.seq)
            assert (planned.detail["restart"], planned.detail["budget_left"], planned.detail["strategy"]) == (
                1,
                99,
                "one_for_one",
            )
            assert (again.cause, again.pid) == (str(planned.seq), "<alpha.shop.102>")
            freed, taken = by_kind["name_freed"], by_kind["name_registered"]
            assert (freed.pid, taken.pid) == (exited.pid, again.pid)
            await rt.kill("it")
            killed = (await rt.events(kind="process_exited"))[-1]
            assert (killed.reason, killed.detail["who"]) == ("killed", "<alpha.shop.0>")


class TestTrace:
    @asynchronous
    async def test_a_cause_has_a_smaller_clock_than_its_effect(self):
        class Front(GenServer):
            async def handle_call(self, request, sender, state):
                return Reply(await call("it", request), state)

        async with running(stack("x"), child(Front, name="front")) as rt:
            tracing = asyncio.ensure_future(rt.trace(duration=60, limit=8))
            await asyncio.sleep(0)
            assert await rt.call("front", "pop") == "x"
            events = await tracing
            assert [(e.kind, e.form) for e in events] == [
                ("send", "call"),
                ("receive", "call"),
                ("send", "call"),
                ("receive", "call"),
                ("send", "reply"),
                ("receive", "reply"),
                ("send", "reply"),
                ("receive", "reply"),
            ]
            assert events[0].message == "'pop'"
            sends = {e.id: e.clock for e in events if e.kind == "send"}
            assert all(e.clock > sends[e.id] for e in events if e.kind == "receive")
            assert rt.kernel.tracer is None

    @asynchronous
    async def test_it_ends_with_its_time_and_messages_on_their_way_arrive_all_the_same(self):
        async with running(stack()) as rt:
            await rt.suspend("it")
            tracing = asyncio.ensure_future(rt.trace(duration=0.005))
            await asyncio.sleep(0)
            await rt.cast("it", ("push", "m" * 500))
            await rt.send("it", "n")
            waiting = asyncio.ensure_future(rt.get_state("it"))
            assert [e.form for e in await tracing if e.kind == "send"] == ["cast", "info", "system"]
            await waiting
            await rt.resume("it")
            assert await rt.call("it", "state") == ["n", "m" * 500]


class V1(GenServer):
    def init(self, start=0):
        return start

    def handle_call(self, request, sender, state):
        return Reply(("v1", state), state)


class V2(GenServer):
    version = 2

    def handle_call(self, request, sender, state):
        return Reply(("v2", state), state)

    def code_change(self, old_version, state):
        return {"from": old_version, "value": state}


class Broken(V2):
    def code_change(self, old_version, state):
        raise ValueError("cannot")


class Forgetful(V2):
    def code_change(self, old_version, state):
        pass


class Refusing(GenServer):
    def init(self):
        return Stop("no")


class TestReload:
    @asynchronous
    async def test_servers_keep_their_pid_and_get_code_change(self):
        async with running(child(V1, 5, id="it", name="it")) as rt:
            pid = await rt.whereis("it")
            await rt.reload(supervisor([child(V2, id="it", name="it")], max_restarts=50))
            assert await rt.whereis("it") == pid
            assert await rt.call("it", "x") == ("v2", {"from": 1, "value": 5})
            assert (await rt.process("it")).behaviour == "V2"
            assert (await rt.tree()).max_restarts == 50
            assert len(await rt.events(kind="application_reloaded")) == 1
            await rt.kill("it")
            await until(rt, "process_restarted")
            assert await rt.call("it", "x") == ("v2", None)

    @asynchronous
    async def test_children_come_and_go_also_below(self):
        pool = lambda *kids: supervisor(list(kids), id="pool", name="pool")
        old, keep, new = (child(V1, id=id, name=id) for id in ("old", "keep", "new"))
        async with running(pool(old, keep)) as rt:
            pid = await rt.whereis("keep")
            await rt.reload(supervisor([pool(keep, new)]))
            assert [c.id for c in await rt.which_children("pool")] == ["keep", "new"]
            assert await rt.whereis("keep") == pid
            assert await rt.whereis("old") is None

    @pytest.mark.parametrize(
        ("bad", "message"),
        [(Broken, "cannot"), (Forgetful, "return the new state")],
    )
    @asynchronous
    async def test_a_failing_code_change_changes_nothing(self, bad, message):
        async with running(child(V1, [1], id="a", name="a"), child(V1, id="b", name="b")) as rt:
            with pytest.raises(ReloadFailed, match=message) as error:
                await rt.reload(supervisor([child(V2, id="a"), child(bad, id="b")]))
            assert error.value.id == "b"
            assert await rt.call("a", "x") == ("v1", [1])
            assert await rt.call("b", "x") == ("v1", 0)

    @asynchronous
    async def test_a_new_child_that_cannot_start_rolls_everything_back(self):
        async with running(child(V1, id="a", name="a"), child(V1, id="gone", name="gone")) as rt:
            pid = await rt.whereis("gone")
            with pytest.raises(ReloadFailed):
                await rt.reload(supervisor([child(V2, id="a"), child(V2, id="n", name="n"), child(Refusing)]))
            assert await rt.call("a", "x") == ("v1", 0)
            assert await rt.whereis("gone") == pid
            assert await rt.whereis("n") is None
            assert [c.id for c in await rt.which_children("root")] == ["a", "gone"]

    @asynchronous
    async def test_a_child_cannot_change_its_kind(self):
        pool = supervisor([], id="pool")
        async with running(child(V1, id="a", name="a"), pool) as rt:
            for app in (
                supervisor([child(asyncio.sleep, 0, id="a"), pool]),
                supervisor([child(V1, id="a"), child(V1, id="pool")]),
                supervisor([supervisor([], id="a"), pool]),
            ):
                with pytest.raises(InvalidSpec, match="give it another id"):
                    await rt.reload(app)
            assert await rt.call("a", "x") == ("v1", 0)

    @asynchronous
    async def test_module_based_supervisors_are_asked_again(self):
        class Old(Supervisor):
            def init(self):
                return supervisor([child(V1, 1, id="it", name="it")])

        class New(Supervisor):
            async def init(self):
                return supervisor([child(V2, id="it", name="it")])

        async with running(child(Old, id="pool")) as rt:
            await rt.reload(supervisor([child(New, id="pool")]))
            assert (await rt.call("it", "x"))[0] == "v2"
            await rt.kill("it", "crash")
            await until(rt, "process_restarted")
            assert await rt.call("it", "x") == ("v2", None)

    @asynchronous
    async def test_a_suspended_server_stays_suspended_and_an_async_code_change_is_awaited(self):
        class Later(V2):
            async def code_change(self, old_version, state):
                await asyncio.sleep(0)
                return NoReply(None)

        async with running(child(V1, id="it", name="it")) as rt:
            await rt.suspend("it")
            await rt.reload(supervisor([child(Later, id="it")]))
            assert (await rt.process("it")).status == "suspended"
            assert await rt.get_state("it") is None


class TestExit:
    def test_reasons_read_well(self):
        assert str(Exit("tired")) == "tired"
        assert repr(Exit(ValueError("boom"), "trace")) == "Exit(ValueError: boom)"
        assert Exit("a") == Exit("a")
        assert len({Exit("a"), Exit("a")}) == 1
