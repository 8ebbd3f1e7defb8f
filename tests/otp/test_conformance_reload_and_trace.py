"""Reload with code_change and roll-back, suspended processes, and tracing, in their corners."""

from __future__ import annotations

import asyncio
import pickle

import pytest
from conformance_kit import Doer, Member, Trapping, answer, member, running, settled, took
from otp_kit import asynchronous, until

from superlearner.errors import BadReturn, CallTimeout, InvalidSpec, ReloadFailed
from superlearner.otp import (
    Exit,
    GenServer,
    Ignore,
    NoReply,
    Reply,
    Stop,
    Supervisor,
    Task,
    Timeout,
    call,
    cast,
    child,
    exit_,
    receive,
    reply,
    self_,
    send,
    send_after,
    spawn,
    supervisor,
)


class Old(GenServer):
    version = "old"

    def init(self, *args):
        return list(args)

    def handle_call(self, request, sender, state):
        return Reply((type(self).__name__, list(state)), state)

    def handle_cast(self, message, state):
        return [*state, message]

    handle_info = handle_cast


class New(Old):
    version = "new"

    def code_change(self, old_version, state):
        return [*state, f"from {old_version}"]


class AsyncNew(Old):
    version = "new"

    async def code_change(self, old_version, state):
        await asyncio.sleep(0)
        return NoReply([*state, f"from {old_version}", self_()])


def old(id, *args, cls=Old, **options):
    return child(cls, *args, id=id, name=id, **options)


class TestCodeChange:
    @pytest.mark.parametrize(
        "error",
        [ValueError("no"), SystemExit(1), KeyboardInterrupt(), Exit("left"), GeneratorExit()],
        ids=repr,
    )
    @pytest.mark.parametrize("wait", [False, True], ids=["plain", "async"])
    @asynchronous
    async def test_whatever_it_raises_is_rolled_back(self, error, wait):
        class Raising(Old):
            def code_change(self, old_version, state):
                state.append("touched")
                if not wait:
                    raise error

                async def later():
                    await asyncio.sleep(0)
                    raise error

                return later()

        async with running(old("a", 1), old("b", 2), old("c", 3)) as rt:
            pids = [await rt.whereis(name) for name in "abc"]
            with pytest.raises(ReloadFailed) as failed:
                await rt.reload(supervisor([old("a", cls=New), old("b", cls=Raising), old("c", cls=New)]))
            assert failed.value.id == "b"
            assert [await rt.whereis(name) for name in "abc"] == pids
            for name, state in zip("abc", (1, 2, 3), strict=True):
                assert await rt.call(name, "who") == ("Old", [state])
                assert (await rt.process(name)).status == "running"
            assert not await rt.events(kind="application_reloaded")

    @pytest.mark.parametrize(
        ("result", "reason"),
        [
            (Stop("not yet"), "not yet"),
            *((nonsense, BadReturn) for nonsense in (None, Ignore(), Reply(1, 2), Stop, NoReply)),
        ],
        ids=repr,
    )
    @pytest.mark.parametrize("wait", [False, True], ids=["plain", "async"])
    @asynchronous
    async def test_what_is_no_state_is_rolled_back(self, result, reason, wait):
        class Odd(Old):
            def code_change(self, old_version, state):
                async def later():
                    return result

                return later() if wait else result

        async with running(old("a", 1), old("b", 2)) as rt:
            with pytest.raises(ReloadFailed) as failed:
                await rt.reload(supervisor([old("a", cls=New), old("b", cls=Odd)]))
            assert failed.value.id == "b"
            if reason is BadReturn:
                assert isinstance(failed.value.reason, BadReturn)
                assert "Odd.code_change" in str(failed.value)
            else:
                assert failed.value.reason == reason
            assert [await rt.call(name, "who") for name in "ab"] == [("Old", [1]), ("Old", [2])]

    @asynchronous
    async def test_an_async_one_runs_as_its_process(self):
        async with running(old("a", 1)) as rt:
            await rt.reload(supervisor([old("a", cls=AsyncNew)]))
            assert await rt.get_state("a") == [1, "from old", await rt.whereis("a")]

    @asynchronous
    async def test_a_state_that_no_code_change_touches_is_not_copied(self):
        state = [asyncio.Event(), iter([1])]
        async with running(child(Doer, state, id="a", name="a")) as rt:
            await rt.reload(supervisor([child(Trapping, state, id="a", name="a")]))
            assert await rt.get_state("a") is state

    @asynchronous
    async def test_messages_that_wait_are_handled_by_the_new_code_with_the_new_state(self):
        async with running(old("a")) as rt:
            await rt.suspend("a")
            await rt.cast("a", "waiting")
            asked = asyncio.ensure_future(rt.call("a", "who"))
            await asyncio.sleep(0)
            await rt.reload(supervisor([old("a", cls=New)]))
            await rt.resume("a")
            assert await asked == ("New", ["from old", "waiting"])

    @asynchronous
    async def test_calls_that_are_answered_later_are_answered_by_the_new_code(self):
        class Keeping(Old):
            def handle_call(self, request, sender, state):
                return NoReply([*state, sender])

        class Answering(Keeping):
            def code_change(self, old_version, state):
                return state

            def handle_cast(self, message, state):
                for sender in state:
                    reply(sender, message)
                return []

        async with running(old("a", cls=Keeping)) as rt:
            asked = asyncio.ensure_future(rt.call("a", "later"))
            await asyncio.sleep(0)
            await rt.reload(supervisor([old("a", cls=Answering)]))
            await rt.cast("a", "answer")
            assert await asked == "answer"

    @asynchronous
    async def test_names_links_and_timers_stay(self):
        async with running(old("a"), child(Doer, [], id="watch", name="watch")) as rt:
            pid = await rt.whereis("a")
            await rt.call("watch", answer(lambda: spawn_link_to(pid)))
            await rt.reload(supervisor([old("a", cls=New), child(Doer, id="watch")]))
            assert len((await rt.process("a")).links) == 2
            assert await rt.whereis("a") == pid
            await until_state(rt, "a", ["from old", "tick"])

    @asynchronous
    async def test_a_server_restarted_after_it_runs_the_new_code_from_its_new_arguments(self):
        async with running(old("a", 1), strategy="one_for_one") as rt:
            await rt.reload(supervisor([old("a", 7, cls=New)], strategy="one_for_all", max_restarts=9))
            tree = await rt.tree()
            assert (tree.strategy, tree.max_restarts) == ("one_for_all", 9)
            await rt.kill("a")
            await until(rt, "process_restarted")
            assert await rt.call("a", "who") == ("New", [7])

    @asynchronous
    async def test_a_server_that_does_not_come_to_rest_in_time_is_left_as_it_was(self):
        release = asyncio.Event()

        async def busy(state):
            await release.wait()
            return NoReply(state)

        doer = lambda name: child(Doer, 1, id=name, name=name)
        async with running(doer("a"), doer("b")) as rt:
            await rt.cast("b", busy)
            with pytest.raises(ReloadFailed) as failed:
                await rt.reload(supervisor([doer("a"), doer("b")]), timeout=0.01)
            assert failed.value.id == "b"
            assert isinstance(failed.value.__cause__, CallTimeout)
            release.set()
            await rt.get_state("b")
            assert [p.status for p in (await rt.tree()).children] == ["running", "running"]

    @asynchronous
    async def test_a_server_that_is_killed_while_another_changes_rolls_it_back(self):
        class Killing(Old):
            async def code_change(self, old_version, state):
                exit_("a", "kill")
                return state

        async with running(old("a", 1), old("b", 2)) as rt:
            with pytest.raises(ReloadFailed, match="ended meanwhile") as failed:
                await rt.reload(supervisor([old("a", cls=New), old("b", cls=Killing), old("c")]))
            assert failed.value.id == "a"
            assert [await rt.call(n, "who") for n in "ab"] == [("Old", [1]), ("Old", [2])]
            assert [c.id for c in await rt.which_children("root")] == ["a", "b"]

    @pytest.mark.parametrize("turns", range(1, 12))
    @asynchronous
    async def test_one_that_is_given_up_leaves_everything_as_it_was_or_has_worked(self, turns):
        async with running(old("a", 1), old("b", 2)) as rt:
            reloading = asyncio.ensure_future(
                rt.reload(supervisor([old("a", cls=AsyncNew), old("b", cls=AsyncNew), old("c")]))
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            reloading.cancel()
            await asyncio.gather(reloading, return_exceptions=True)
            names = [(await rt.call(n, "who"))[0] for n in "ab"]
            assert names == (["Old", "Old"] if reloading.cancelled() else ["AsyncNew", "AsyncNew"])
            assert (await rt.whereis("c") is None) is reloading.cancelled()
            assert {p.status for p in (await rt.tree()).children} == {"running"}

    @asynchronous
    async def test_two_reloads_at_once_follow_each_other(self):
        async with running(old("a")) as rt:
            app = supervisor([old("a", cls=AsyncNew)])
            await asyncio.gather(rt.reload(app), rt.reload(app))
            pid = await rt.whereis("a")
            assert await rt.get_state("a") == ["from old", pid, "from new", pid]

    @asynchronous
    async def test_a_server_that_dies_meanwhile_fails_it(self):
        async def die(state):
            await asyncio.sleep(0)
            raise Exit("gone")

        async with running(child(Doer, id="a", name="a")) as rt:
            await rt.cast("a", die)
            with pytest.raises(ReloadFailed):
                await rt.reload(supervisor([child(Doer, id="a", name="a")]))
            await until(rt, "process_restarted")
            assert await rt.call("a", answer(1)) == 1


def spawn_link_to(pid):
    async def partner():
        from superlearner.otp import link

        link(pid)
        send_after(pid, "tick", 0.01)
        await receive()

    spawn(partner)


async def until_state(rt, name, state):
    async with asyncio.timeout(5):
        while True:
            if await rt.get_state(name) == state:
                return
            await asyncio.sleep(0)


class TestChildren:
    @asynchronous
    async def test_new_ones_start_in_order_and_old_ones_stop_in_reverse_only_when_all_has_worked(self):
        log = []
        async with running(*(member(log, me) for me in "abcd")) as rt:
            took(log)
            await rt.reload(supervisor([member(log, me) for me in "xbyd"]))
            assert took(log) == "+x +y -c -a"
            assert [c.id for c in await rt.which_children("root")] == ["x", "b", "y", "d"]
            with pytest.raises(ReloadFailed):
                await rt.reload(supervisor([member(log, "b"), member(log, "p"), member(log, "q", "fail")]))
            assert took(log) == "+p !q -p"
            assert [c.id for c in await rt.which_children("root")] == ["x", "b", "y", "d"]
        assert took(log) == "-d -y -b -x"

    @asynchronous
    async def test_those_that_start_child_added_stay(self):
        log = []
        async with running(member(log, "a"), supervisor([], id="d", name="d", kind="dynamic")) as rt:
            await rt.start_child("root", member(log, "added"))
            pid = await rt.start_child("d", member(log, "job"))
            took(log)
            await rt.reload(
                supervisor(
                    [member(log, "a"), supervisor([], id="d", name="d", kind="dynamic", max_children=1)]
                )
            )
            assert took(log) == ""
            assert [c.id for c in await rt.which_children("root")] == ["a", "d", "added"]
            assert await rt.whereis("job") == pid

    @asynchronous
    async def test_one_that_was_terminated_by_hand_stays_so(self):
        log = []
        async with running(member(log, "a"), member(log, "b")) as rt:
            await rt.terminate_child("root", "b")
            took(log)
            await rt.reload(supervisor([member(log, "a"), member(log, "b")]))
            assert took(log) == ""
            assert [c.status for c in await rt.which_children("root")] == ["running", "exited"]

    @asynchronous
    async def test_a_failure_deep_below_puts_back_what_was_done_above(self):
        log = []

        def app(*more, top=()):
            inner = supervisor([member(log, "b"), *more], id="inner", name="inner")
            return supervisor([*top, member(log, "a"), inner])

        async with running(*app().children) as rt:
            took(log)
            with pytest.raises(ReloadFailed):
                await rt.reload(app(member(log, "c", "fail"), top=[member(log, "t")]))
            assert took(log) == "+t !c -t"
            assert [c.id for c in await rt.which_children("root")] == ["a", "inner"]
            assert [c.id for c in await rt.which_children("inner")] == ["b"]

    @pytest.mark.parametrize("wait", [False, True], ids=["plain", "async"])
    @pytest.mark.parametrize("how", ["ignore", "raise", "exit", "garbage"])
    @asynchronous
    async def test_a_module_based_supervisor_may_ignore_or_fail(self, how, wait):
        log = []
        asked = []

        class Pool(Supervisor):
            def init(self):
                asked.append(1)
                result = supervisor([member(log, "a")])
                if len(asked) > 1:
                    result = {"ignore": Ignore(), "raise": ValueError("no"), "exit": SystemExit(1)}.get(
                        how, 5
                    )

                def finish():
                    if isinstance(result, BaseException):
                        raise result
                    return result

                async def later():
                    return finish()

                return later() if wait else finish()

        async with running(child(Pool, id="pool", name="pool")) as rt:
            app = supervisor([child(Pool, id="pool"), member(log, "new")])
            if how == "ignore":
                await rt.reload(app)
                assert await rt.whereis("new") is not None
            else:
                with pytest.raises(InvalidSpec if how == "garbage" else ReloadFailed):
                    await rt.reload(app)
                assert await rt.whereis("new") is None
            assert [c.id for c in await rt.which_children("pool")] == ["a"]
            assert await rt.whereis("a") is not None


class TestTrace:
    @asynchronous
    async def test_each_message_is_sent_and_taken_once_with_growing_clocks(self):
        async with running(child(Doer, [], id="a", name="a"), child(Doer, [], id="b", name="b")) as rt:
            tracing = asyncio.ensure_future(rt.trace(0.05))
            await asyncio.sleep(0)

            async def ask(state):
                send("b", "info")
                cast("b", lambda state: [*state, "cast"])
                return [await call("b", lambda _, state: Reply("answer", state))]

            await rt.cast("a", ask)
            await until_state(rt, "a", ["answer"])
            events = await tracing
            by_id = {}
            for event in events:
                by_id.setdefault(event.id, []).append(event)
            pairs = [pair for pair in by_id.values() if len(pair) == 2 and pair[0].form != "system"]
            assert len(pairs) >= 4
            for sent, taken in pairs:
                assert (sent.kind, taken.kind) == ("send", "receive")
                assert sent.clock < taken.clock
                assert (sent.pid, sent.peer) == (taken.peer, taken.pid)
                assert sent.form == taken.form
            assert [p[0].form for p in pairs][:5] == ["cast", "info", "cast", "call", "reply"]
            clocks = {}
            for event in events:
                assert event.clock > clocks.get(event.pid, 0)
                clocks[event.pid] = event.clock

    @asynchronous
    async def test_a_traced_message_is_received_matched_and_flushed_like_any_other(self):
        got = asyncio.get_running_loop().create_future()

        async def script():
            send(self_(), 1)
            send(self_(), "two")
            first = await receive(str)
            got.set_result([first, await receive(), await receive(timeout=0)])

        async with running() as rt:
            tracing = asyncio.ensure_future(rt.trace(0.05))
            await asyncio.sleep(0)
            await rt.start_child("root", child(Task, script, id="script"))
            assert await got == ["two", 1, Timeout()]
            assert await tracing

    @asynchronous
    async def test_suspending_and_death_work_while_tracing(self):
        log = []
        async with running(member(log, "a", cls=Member), child(Doer, id="d", name="d")) as rt:
            tracing = asyncio.ensure_future(rt.trace(0.05))
            await asyncio.sleep(0)
            await rt.suspend("a")
            waiting = asyncio.ensure_future(rt.call("a", answer(1)))
            await asyncio.sleep(0)
            await rt.terminate_child("root", "a")
            assert "died" in str((await asyncio.gather(waiting, return_exceptions=True))[0])
            await rt.kill("d", "boom")
            await settled(rt)
            assert await rt.call("d", answer(2)) == 2
            assert await tracing
            assert rt.kernel.tracer is None

    @asynchronous
    async def test_a_trace_that_is_given_up_ends(self):
        async with running(child(Doer, id="d", name="d")) as rt:
            tracing = asyncio.ensure_future(rt.trace(60.0))
            await asyncio.sleep(0)
            tracing.cancel()
            await asyncio.gather(tracing, return_exceptions=True)
            assert rt.kernel.tracer is None


class TestSnapshot:
    @asynchronous
    async def test_a_snapshot_of_a_server_that_owes_answers_can_be_pickled(self):
        async with running(child(Doer, id="d", name="d")) as rt:
            asked = asyncio.ensure_future(rt.call("d", lambda sender, _: NoReply([sender])))
            await asyncio.sleep(0)
            await rt.get_state("d")
            snapshot = rt.snapshot()
            assert not snapshot["skipped"]
            assert pickle.loads(pickle.dumps(snapshot))
            await rt.cast("d", lambda _: Stop("normal"))
            await asyncio.gather(asked, return_exceptions=True)
