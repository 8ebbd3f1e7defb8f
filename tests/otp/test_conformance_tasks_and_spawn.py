"""Spawned functions, tasks and what handlers may and may not do, plus many threads at one runtime."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from conformance_kit import Doer, Trapping, answer, both_flavours, running, settled, turns_until
from otp_kit import as_process, asynchronous, until

from superlearner.errors import InvalidSpec, NoProcess, NotInProcess, ProcessDied
from superlearner.otp import (
    Down,
    Exit,
    ExitSignal,
    GenServer,
    Ignore,
    NoReply,
    Reply,
    Runtime,
    Stop,
    Supervisor,
    Task,
    Timeout,
    call,
    child,
    exit_,
    link,
    monitor,
    receive,
    register,
    reply,
    self_,
    send,
    spawn,
    supervisor,
    terminate_child,
    trap_exit,
    whereis,
)


async def forever():
    await receive(match=lambda _: False)


class TestSpawn:
    @pytest.mark.parametrize("wait", [False, True], ids=["plain", "async"])
    @pytest.mark.parametrize(
        ("ends", "reason"),
        [
            ("return", "normal"),
            (Exit("left"), "left"),
            (Exit("normal"), "normal"),
            (ValueError("boom"), None),
        ],
        ids=str,
    )
    @as_process
    async def test_how_it_ends(self, wait, ends, reason):
        def plain():
            if ends != "return":
                raise ends.with_traceback(None)
            return "ignored"

        async def later():
            await asyncio.sleep(0)
            return plain()

        pid, ref = spawn(later if wait else plain, monitor=True)
        down = await receive()
        assert (down.ref, down.pid) == (ref, pid)
        if reason is None:
            assert down.reason.reason is ends
            assert "ValueError: boom" in down.reason.traceback
            assert "superlearner/otp" not in down.reason.traceback
        else:
            assert down.reason == reason

    @as_process
    async def test_arguments_and_options(self):
        me = self_()

        async def work(*args):
            send(me, (self_(), *args))
            await forever()

        plain = spawn(work, 1, 2)
        assert await receive() == (plain, 1, 2)
        pid, ref = spawn(work, link=True, monitor=True, name="all")
        assert await receive() == (pid,)
        assert whereis("all") == pid
        trap_exit()
        exit_("all", "boom")
        assert {type(await receive()) for _ in range(2)} == {Down, ExitSignal}
        assert ref
        with pytest.raises(InvalidSpec, match="monitor"):
            spawn(work, monitr=True)

    @pytest.mark.parametrize("linked", [True, False])
    @asynchronous
    async def test_whether_it_outlives_who_spawned_it(self, linked):
        async with running(child(Doer, id="a", name="a", restart="temporary")) as rt:
            pid = await rt.call("a", answer(lambda: spawn(forever, link=linked)))
            await rt.kill("a")
            assert (await rt.whereis(pid) is None) is linked
        exits = [e for e in await rt.events(kind="process_exited") if e.pid == pid]
        assert [e.reason for e in exits] == ["killed"]

    @asynchronous
    async def test_a_normal_end_of_who_spawned_it_does_not_touch_it(self):
        async with running(child(Doer, id="a", name="a", restart="temporary")) as rt:
            pid = await rt.call("a", answer(lambda: spawn(forever, link=True)))
            await rt.cast("a", lambda _: Stop("normal"))
            await until(rt, "process_exited", name="a")
            assert await rt.whereis(pid) == pid

    @asynchronous
    async def test_it_is_a_process_outside_of_the_tree(self):
        async with running(child(Doer, id="a", name="a")) as rt:
            pid = await rt.call("a", answer(lambda: spawn(forever, name="spawned")))
            assert pid in {p.pid for p in await rt.processes()}
            assert pid not in {p.pid for p in (await rt.tree()).walk()}
            info = await rt.process("spawned")
            assert (info.id, info.name, info.type, info.restarts) == ("forever", "spawned", "worker", 0)

    @as_process
    async def test_a_million_things_may_be_tried_on_a_dead_one(self):
        pid, _ = spawn(forever, monitor=True)
        exit_(pid, "kill")
        assert (await receive()).reason == "killed"
        send(pid, "x")
        exit_(pid, "x")
        with pytest.raises(NoProcess):
            await call(pid, "x")
        ref = monitor(pid)
        assert await receive() == Down(ref, pid, "noproc")


class TestZombies:
    @pytest.mark.parametrize(
        "verb",
        [
            lambda: send("a", 1),
            lambda: spawn(forever),
            lambda: register("zombie"),
            lambda: link("a"),
            lambda: monitor("a"),
            lambda: call("a", 1),
            lambda: whereis("a"),
            self_,
            trap_exit,
        ],
    )
    @asynchronous
    async def test_what_is_left_of_a_dead_process_can_use_no_verb(self, verb):
        seen = asyncio.get_running_loop().create_future()

        async def stubborn():
            try:
                await receive()
            except asyncio.CancelledError:
                try:
                    verb()
                except Exit as error:
                    seen.set_result(error.reason)

        async with running(child(Doer, [], id="a", name="a"), child(Task, stubborn, id="t", name="t")) as rt:
            await asyncio.sleep(0)
            await rt.kill("t", "gone")
            assert await seen == "gone"
            assert await rt.get_state("a") == []

    @asynchronous
    async def test_tasks_that_a_handler_made_know_when_their_process_is_dead(self):
        seen = asyncio.get_running_loop().create_future()
        go_on = asyncio.Event()

        async def helper():
            await go_on.wait()
            try:
                send("a", 1)
            except Exit as error:
                seen.set_result(error.reason)

        async def start(state):
            start.task = asyncio.ensure_future(helper())
            return NoReply(state)

        async with running(child(Doer, [], id="a", name="a", restart="temporary")) as rt:
            await rt.cast("a", start)
            await rt.get_state("a")
            await rt.kill("a")
            go_on.set()
            assert await seen == "killed"


class TestHandlers:
    @pytest.mark.parametrize("nonsense", [Reply, NoReply, Ignore, Stop, None], ids=str)
    @both_flavours
    @asynchronous
    async def test_a_class_is_no_return_value_and_the_error_says_so(self, nonsense, flavour):
        async with running(child(flavour(Doer), id="a", name="a", restart="temporary")) as rt:
            await rt.cast("a", lambda _: nonsense)
            (exited,) = await until(rt, "process_exited", name="a")
            assert "returned" in exited.reason
            assert "return the new state" in exited.reason

    @pytest.mark.parametrize("value", [0, False, "", [], (), {}, Timeout(), Down("r", "p", 1), int, object])
    @both_flavours
    @asynchronous
    async def test_anything_else_is_a_state(self, value, flavour):
        async with running(child(flavour(Doer), 1, id="a", name="a")) as rt:
            await rt.cast("a", lambda _: value)
            assert await rt.get_state("a") is value

    @asynchronous
    async def test_a_child_may_have_itself_terminated(self):
        async def leave(state):
            await terminate_child("root", "a")

        async with running(child(Doer, id="a", name="a")) as rt:
            await rt.cast("a", leave)
            (exited,) = await until(rt, "process_exited", name="a")
            assert exited.reason == "shutdown"
            assert [c.pid for c in await rt.which_children("root")] == [None]

    @asynchronous
    async def test_two_that_kill_each_other_both_die_once(self):
        async with running(*(child(Trapping, id=n, name=n, restart="temporary") for n in "ab")) as rt:
            await rt.call("a", answer(lambda: link("b")))
            await rt.cast("a", lambda _: exit_("b", "kill") and Stop("boom"))
            await until(rt, "process_exited", 2)
            assert [e.reason for e in await rt.events(kind="process_exited")] == ["killed", "boom"]

    @asynchronous
    async def test_a_server_may_be_a_bare_class_in_start_child_and_so_may_a_supervisor(self):
        class Pool(Supervisor):
            def init(self):
                return supervisor([child(Doer, name="inner")])

        async with running() as rt:
            await rt.start_child("root", Doer)
            await rt.start_child("root", Pool)
            assert [(c.id, c.type) for c in await rt.which_children("root")] == [
                ("Doer", "worker"),
                ("Pool", "supervisor"),
            ]
            assert await rt.whereis("inner") is not None

    def test_verbs_outside_of_a_process_say_so(self):
        for verb in (self_, lambda: send("a", 1), lambda: call("a", 1), lambda: spawn(forever)):
            with pytest.raises(NotInProcess):
                verb()


class TestThreads:
    def test_many_threads_may_use_one_runtime(self):
        def count(_, state):
            return Reply(state + 1, state + 1)

        app = supervisor([child(Doer, 0, id="a", name="a")], max_restarts=100)
        with Runtime(app) as rt, ThreadPoolExecutor(8) as pool:

            def work(n):
                for _ in range(20):
                    rt.call("a", count)
                    rt.cast("a", lambda state: state + 1)
                    rt.send("a", lambda state: state + 1)
                    rt.whereis("a")
                    rt.tree()
                    rt.processes()
                    rt.events()
                    rt.which_children("root")
                pid = rt.start_child("root", child(Doer, n, id=n))
                assert rt.get_state(pid) == n
                rt.kill(pid)
                rt.terminate_child("root", n)
                rt.delete_child("root", n)

            list(pool.map(work, range(8)))
            assert rt.get_state("a") == 8 * 20 * 3
            assert rt.count_children("root").specs == 1

    def test_a_thread_keeps_the_order_of_what_it_sends(self):
        with Runtime(child(Doer, [], id="a", name="a")) as rt:
            for n in range(100):
                (rt.cast if n % 2 else rt.send)("a", lambda state, n=n: [*state, n])
            assert rt.call("a", lambda _, state: Reply(list(state), state)) == list(range(100))

    def test_calls_under_way_when_the_root_ends_get_an_answer(self):
        started = threading.Barrier(5)

        async def never(_, state):
            await asyncio.Event().wait()

        with Runtime(child(Doer, id="a", name="a", shutdown="brutal_kill")) as rt:

            def ask(n):
                started.wait()
                with pytest.raises((ProcessDied, NoProcess)):
                    rt.call("a", never, timeout=10)
                return n

            with ThreadPoolExecutor(4) as pool:
                asked = [pool.submit(ask, n) for n in range(4)]
                started.wait()
                rt.stop()
                assert [f.result(5) for f in asked] == [0, 1, 2, 3]
            for work in (
                lambda: rt.cast("a", 1),
                lambda: rt.send("a", 1),
                lambda: rt.kill("a"),
                lambda: rt.whereis("a"),
                lambda: rt.call("a", 1),
                rt.processes,
                lambda: rt.which_children("root"),
            ):
                with pytest.raises(NoProcess):
                    work()
            assert rt.tree().status == "exited"
            assert rt.events(kind="process_exited")
            assert rt.wait(1) == "shutdown"

    def test_casts_do_not_wait_for_a_handler_that_blocks(self):
        release = threading.Event()

        def block(state):
            release.wait(5)
            return [*state, "blocked"]

        with Runtime(child(Doer, [], id="a", name="a")) as rt:
            rt.cast("a", block)
            for n in range(3):
                rt.cast("a", lambda state, n=n: [*state, n])
            release.set()
            assert rt.get_state("a") == ["blocked", 0, 1, 2]

    def test_no_method_may_be_used_inside_of_a_process(self):
        with Runtime(child(Doer, id="a", name="a")) as rt:
            for work in (
                lambda: rt.cast("a", 1),
                lambda: rt.call("a", 1),
                lambda: rt.kill("a"),
                rt.tree,
                rt.stop,
            ):

                def ask(_, state, work=work):
                    with pytest.raises(NotInProcess):
                        work()
                    return Reply("refused", state)

                assert rt.call("a", ask) == "refused"


@asynchronous
async def test_what_a_task_leaves_behind_is_nothing():
    async def work():
        monitor("a")
        link("a")
        await asyncio.sleep(0)

    async with running(child(Trapping, [], id="a", name="a")) as rt:
        for _ in range(20):
            await rt.start_child("root", child(Task, work, id="t"))
            await until(rt, "process_exited")
            await settled(rt)
            await turns_until(lambda: len(rt.kernel.processes) == 2)
        a = rt.kernel.find("a")
        assert (len(a.links), len(a.watchers), len(a.monitors)) == (1, 0, 0)


@asynchronous
async def test_a_server_whose_own_init_registers_more_names_frees_them_all():
    class Named(GenServer):
        def init(self):
            register("one")
            register("two")
            return 0

    async with running(child(Named, id="n", name="n")) as rt:
        pid = await rt.whereis("n")
        assert await rt.whereis("one") == await rt.whereis("two") == pid
        await rt.kill("n")
        await until(rt, "process_restarted")
        assert await rt.whereis("one") == await rt.whereis("two") == await rt.whereis("n") != pid
        freed = [e.name for e in await rt.events(kind="name_freed")]
        assert sorted(freed) == ["n", "one", "two"]


class Uncomparable:
    """Like an array: comparing it says nothing."""

    def __eq__(self, other):
        raise ValueError("ambiguous")

    __hash__ = object.__hash__


@pytest.mark.parametrize("how", ["stop", "exit", "signal", "link"])
@pytest.mark.parametrize("restart", ["transient", "temporary"])
@asynchronous
async def test_any_value_may_be_a_reason(how, restart):
    reason = Uncomparable()
    watcher = child(Trapping, [], id="w", name="w")
    async with running(child(Doer, id="a", name="a", restart=restart), watcher) as rt:
        await rt.call("w", answer(lambda: link("a")))
        match how:
            case "stop":
                await rt.cast("a", lambda _: Stop(reason))
            case "exit":

                def leave(_):
                    raise Exit(reason)

                await rt.cast("a", leave)
            case "signal":
                await rt.kill("a", reason)
            case "link":
                await rt.cast("a", lambda _: exit_(spawn(forever, link=True), reason))
        await until(rt, "process_exited")
        await settled(rt)
        (signal,) = await rt.get_state("w")
        assert signal.reason is reason
        assert (await rt.whereis("a") is None) is (restart == "temporary")


@asynchronous
async def test_a_child_that_ends_before_its_supervisor_goes_on_has_its_start_and_end_told():
    class Short(GenServer):
        async def init(self):
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(self.end.kernel.find("short").die, "soon")
            return 0

    async with running(supervisor([], id="s", name="s", restart="temporary")) as rt:
        Short.end = rt
        await rt.start_child("s", child(Short, id="short", name="short", restart="temporary"))
        await until(rt, "process_exited", name="short")
        story = [e.kind for e in await rt.events() if e.name == "short"]
        assert story == ["name_registered", "name_freed", "process_started", "process_exited"]
        await settled(rt, "s")
        assert await rt.which_children("s") == []


@asynchronous
async def test_a_caller_is_answered_by_a_helper_that_got_a_copied_message():
    def hand_on(sender, state):
        send("helper", [sender])
        return NoReply(state)

    class Helper(GenServer):
        def init(self):
            return 0

        def handle_info(self, message, state):
            reply(message[0], "from the helper")
            return state

    app = supervisor([child(Doer, id="a", name="a"), child(Helper, id="helper", name="helper")])
    async with Runtime(app, asynchronous=True, copy_messages=True) as rt:
        assert await rt.call("a", hand_on, timeout=1.0) == "from the helper"
