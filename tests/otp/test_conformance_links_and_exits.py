"""Links, monitors, exit signals and names, case by case as OTP's own suites have them."""

from __future__ import annotations

import asyncio
import gc

import pytest
from conformance_kit import Doer, Trapping, answer, both_flavours, running, turns_until
from otp_kit import as_process, asynchronous, inside, until

from superlearner.errors import CallTimeout, NameTaken, NoProcess, ProcessDied
from superlearner.otp import (
    Down,
    Exit,
    ExitSignal,
    NoReply,
    Reply,
    Stop,
    Task,
    Timeout,
    call,
    cancel_timer,
    child,
    demonitor,
    exit_,
    link,
    monitor,
    receive,
    register,
    reply,
    self_,
    send,
    send_after,
    spawn,
    trap_exit,
    unlink,
    unregister,
    whereis,
)
from superlearner.otp._process import Process


async def forever():
    await receive(match=lambda _message: False)


async def leave_when_told():
    raise Exit(await receive())


class TestExitSignals:
    @pytest.mark.parametrize(
        ("reason", "trapping", "seen"),
        [
            ("normal", False, None),
            ("normal", True, "message"),
            ("shutdown", False, "shutdown"),
            ("shutdown", True, "message"),
            (("shutdown", "x"), False, ("shutdown", "x")),
            ("boom", False, "boom"),
            ("boom", True, "message"),
            ("kill", False, "killed"),
            ("kill", True, "killed"),
            ("killed", False, "killed"),
            ("killed", True, "message"),
            ("noproc", True, "message"),
        ],
    )
    @as_process
    async def test_what_a_signal_does_to_another_process(self, reason, trapping, seen):
        me = self_()

        async def target():
            if trapping:
                trap_exit()
            send(me, "ready")
            send(me, await receive(ExitSignal))

        pid, ref = spawn(target, monitor=True)
        await receive("ready")
        exit_(pid, reason)
        if seen == "message":
            assert await receive() == ExitSignal(me, reason)
            assert await receive() == Down(ref, pid, "normal")
        elif seen is None:
            assert whereis(pid) == pid
            demonitor(ref)
            exit_(pid, "kill")
        else:
            assert whereis(pid) is None
            assert await receive() == Down(ref, pid, seen)

    @pytest.mark.parametrize("reason", ["kill", "killed", "boom", "shutdown", ("shutdown", 1), "normal"])
    @pytest.mark.parametrize("trapping", [True, False], ids=["trapping", "not trapping"])
    @as_process
    async def test_what_a_linked_process_gets_when_the_other_ends_by_itself(self, reason, trapping):
        me = self_()

        async def partner():
            if trapping:
                trap_exit()
            pid = spawn(leave_when_told, link=True)
            send(me, pid)
            send(me, ("got", await receive(ExitSignal, timeout=1.0)))

        partner_pid, ref = spawn(partner, monitor=True)
        pid = await receive()
        send(pid, reason)
        if trapping:
            # A process that leaves with "kill" by itself sends a signal that can be trapped.
            assert await receive() == ("got", ExitSignal(pid, reason))
        elif reason == "normal":
            assert whereis(partner_pid) == partner_pid
            demonitor(ref)
            exit_(partner_pid, "kill")
        else:
            assert await receive() == Down(ref, partner_pid, reason)

    @as_process
    async def test_a_killed_process_is_seen_as_killed_along_a_chain_of_links(self):
        me = self_()

        async def chain(left):
            if left:
                spawn(chain, left - 1, link=True)
            else:
                send(me, self_())
            await forever()

        first, ref = spawn(chain, 5, monitor=True)
        last = await receive()
        last_ref = monitor(last)
        exit_(first, "kill")
        downs = {(await receive()).ref: None, (await receive()).ref: None}
        assert downs == {ref: None, last_ref: None}
        assert whereis(last) is None

    @as_process
    async def test_signals_stop_at_a_process_that_traps_and_go_on_past_one_that_does_not(self):
        me = self_()

        async def trapping():
            trap_exit()
            pid = spawn(forever, link=True)
            send(me, pid)
            send(me, await receive())
            await forever()

        end = spawn(trapping)
        pid = await receive()
        exit_(pid, "boom")
        assert await receive() == ExitSignal(pid, "boom")
        assert whereis(end) == end
        exit_(end, "kill")

    @as_process
    async def test_trapping_can_be_switched_off_again_and_what_had_come_stays(self):
        trap_exit()
        pid = spawn(leave_when_told, link=True)
        send(pid, "boom")
        signal = await receive(ExitSignal)
        trap_exit(False)
        assert signal == ExitSignal(pid, "boom")
        trap_exit(True)
        exit_(self_(), "note")
        trap_exit(False)
        assert await receive(ExitSignal) == ExitSignal(self_(), "note")

    @as_process
    async def test_a_signal_to_nobody_is_no_error(self):
        pid = spawn(leave_when_told)
        exit_(pid, "kill")
        exit_(pid, "kill")
        exit_("nobody", "boom")

    @as_process
    async def test_exit_takes_a_name_too(self):
        pid, ref = spawn(forever, name="target", monitor=True)
        exit_("target", "boom")
        assert await receive() == Down(ref, pid, "boom")

    @asynchronous
    async def test_a_process_that_is_killed_by_its_own_doing_ends_at_its_next_await(self):
        reached, stuck = [], asyncio.get_running_loop().create_future()

        async def suicidal(state):
            partner = spawn(forever, link=True)
            exit_(partner, "boom")  # the signal comes back along the link, at once
            reached.append("after")
            await stuck
            reached.append("never")

        async with running(child(Doer, name="it", restart="temporary")) as rt:
            await rt.cast("it", suicidal)
            await turns_until(lambda: reached)
            for _ in range(5):
                await asyncio.sleep(0)
            assert stuck.cancelled()
            assert reached == ["after"]
            (exited,) = [e for e in await rt.events(kind="process_exited") if e.name == "it"]
            assert exited.reason == "boom"

    @asynchronous
    async def test_a_process_that_swallows_its_own_exit_is_dead_all_the_same(self):
        after = []

        async def stubborn():
            try:
                exit_(self_(), "boom")
            except Exception:
                after.append("swallowed")
            try:
                send("other", "hello")
            except Exit as error:
                after.append(error.reason)

        async with running(child(Task, stubborn, id="it"), child(Doer, [], id="other", name="other")) as rt:
            await turns_until(lambda: len(after) == 2)
            assert after == ["swallowed", "boom"]
            assert await rt.get_state("other") == []


class TestLinks:
    @as_process
    async def test_a_link_goes_both_ways_and_is_made_once(self):
        trap_exit()
        pid = spawn(leave_when_told)
        link(pid)
        link(pid)
        send(pid, "boom")
        assert await receive() == ExitSignal(pid, "boom")
        assert await receive(timeout=0) == Timeout()

    @as_process
    async def test_one_unlink_undoes_any_number_of_links(self):
        pid, ref = spawn(leave_when_told, monitor=True, link=True)
        link(pid)
        unlink(pid)
        send(pid, "boom")
        assert await receive() == Down(ref, pid, "boom")

    @as_process
    async def test_unlinking_works_from_either_side_and_of_nobody_too(self):
        me = self_()

        async def partner():
            unlink(me)
            send(me, "unlinked")
            raise Exit(await receive())

        pid, ref = spawn(partner, link=True, monitor=True)
        await receive("unlinked")
        send(pid, "boom")
        assert await receive() == Down(ref, pid, "boom")
        unlink(pid)
        unlink("nobody")
        unlink(me)

    @as_process
    async def test_linking_to_oneself_does_nothing(self):
        link(self_())
        exit_(spawn(forever), "kill")
        assert await receive(timeout=0) == Timeout()

    @as_process
    async def test_an_exit_message_that_has_come_stays_after_unlink(self):
        trap_exit()
        pid = spawn(forever, link=True)
        exit_(pid, "boom")
        unlink(pid)
        assert await receive(timeout=0) == ExitSignal(pid, "boom")

    @pytest.mark.parametrize("trapping", [True, False], ids=["trapping", "not trapping"])
    @as_process
    async def test_linking_a_dead_process_is_an_exit_signal_with_noproc(self, trapping):
        me = self_()
        gone = spawn(forever)
        exit_(gone, "kill")

        async def linker():
            if trapping:
                trap_exit()
            link(gone)
            send(me, await receive())

        pid, ref = spawn(linker, monitor=True)
        if trapping:
            assert await receive() == ExitSignal(gone, "noproc")
            assert (await receive()).reason == "normal"
        else:
            assert await receive() == Down(ref, pid, "noproc")

    @both_flavours
    @asynchronous
    async def test_a_server_linked_to_another_gets_its_end_as_a_message_or_dies_with_it(self, flavour):
        children = [
            child(flavour(Trapping), [], id="trapping", name="trapping"),
            child(flavour(Doer), [], id="plain", name="plain", restart="temporary"),
            child(flavour(Doer), [], id="target", name="target", restart="temporary"),
        ]
        async with running(*children) as rt:
            for name in ("trapping", "plain"):
                await rt.call(name, answer(lambda: link("target")))
            pid = await rt.whereis("target")
            await rt.cast("target", lambda _state: Stop("boom"))
            await until(rt, "process_exited", 2)
            assert await rt.get_state("trapping") == [ExitSignal(pid, "boom")]
            assert await rt.whereis("plain") is None
            assert [e.reason for e in await rt.events(kind="process_exited")] == ["boom", "boom"]

    @asynchronous
    async def test_the_books_of_both_sides_are_empty_after_a_death(self):
        async def body():
            async def partner():
                monitor("hub")
                link("hub")
                send_after(self_(), "late", 60.0)
                await forever()

            for _ in range(50):
                pid = spawn(partner)
                await call("hub", answer())
                await call("hub", answer(lambda pid=pid: monitor(pid)))
                exit_(pid, "kill")
            await call("hub", answer())
            return True

        hub = child(Trapping, [], id="hub", name="hub")
        result = asyncio.get_running_loop().create_future()

        async def script():
            result.set_result(await body())

        async with running(hub, child(Task, script, id="script")) as rt:
            assert await result
            (process,) = [p for p in rt.kernel.processes.values() if p.id == "hub"]
            assert len(process.links) == 1
            assert not process.monitors
            assert not process.watchers
            assert not rt.kernel._timers
            assert {p.id for p in rt.kernel.processes.values()} <= {"supervisor", "hub", "script"}
            assert len(rt.kernel.addresses) <= 2 * len(rt.kernel.processes)


class TestMonitors:
    @as_process
    async def test_monitoring_oneself_says_nothing(self):
        ref = monitor(self_())
        demonitor(ref)
        monitor(self_())
        assert await receive(timeout=0) == Timeout()

    @as_process
    async def test_monitoring_by_name_finds_who_has_it_now(self):
        pid = spawn(leave_when_told, name="target")
        ref = monitor("target")
        send("target", "bye")
        assert await receive() == Down(ref, pid, "bye")
        assert await receive(timeout=0) == Timeout()
        again = monitor("target")
        assert await receive() == Down(again, "target", "noproc")

    @as_process
    async def test_the_name_is_free_before_down_and_exit_signals_are_seen(self):
        me = self_()

        async def watcher():
            trap_exit()
            link("target")
            monitor("target")
            send(me, "ready")
            for _ in range(2):
                await receive()
                send(me, whereis("target"))

        spawn(watcher)
        await receive("ready")
        spawn(watcher)
        spawn(forever, name="target")
        spawn(watcher)
        await receive("ready")
        exit_("target", "boom")
        register("target")
        assert whereis("target") == me
        unregister("target")
        assert [await receive(timeout=1.0) for _ in range(2)] == [None, None]

    @pytest.mark.parametrize("flush", [True, False])
    @as_process
    async def test_demonitor_of_a_monitor_that_has_fired(self, flush):
        pid, ref = spawn(forever, monitor=True)
        other, other_ref = spawn(forever, monitor=True)
        exit_(pid, "a")
        exit_(other, "b")
        demonitor(ref, flush=flush)
        left = [] if flush else [Down(ref, pid, "a")]
        assert await receive() == (left or [Down(other_ref, other, "b")])[0]

    @as_process
    async def test_demonitor_twice_and_of_nothing_is_harmless(self):
        pid, ref = spawn(forever, monitor=True)
        demonitor(ref)
        demonitor(ref, flush=True)
        exit_(pid, "boom")
        assert await receive(timeout=0) == Timeout()

    @as_process
    async def test_a_monitor_is_not_a_link(self):
        async def watcher(target):
            monitor(target)
            await forever()

        target = spawn(forever)
        pid = spawn(watcher, target)
        exit_(pid, "boom")
        assert whereis(target) == target
        exit_(target, "kill")

    @as_process
    async def test_a_linked_and_monitored_process_tells_both_ways(self):
        trap_exit()
        pid, ref = spawn(leave_when_told, link=True, monitor=True)
        send(pid, "boom")
        assert {type(await receive()) for _ in range(2)} == {Down, ExitSignal}
        assert ref

    @both_flavours
    @asynchronous
    async def test_a_server_gets_down_in_handle_info(self, flavour):
        children = [
            child(flavour(Doer), [], id="watcher", name="watcher"),
            child(flavour(Doer), id="target", name="target", restart="temporary"),
        ]
        async with running(*children) as rt:
            ref = await rt.call("watcher", answer(lambda: monitor("target")))
            pid = await rt.whereis("target")
            await rt.kill("target")
            assert await rt.get_state("watcher") == [Down(ref, pid, "killed")]


class TestNames:
    @as_process
    async def test_one_process_may_have_several_names_and_all_are_freed_with_it(self):
        pid, ref = spawn(forever, name="one", monitor=True)
        register("two", pid)
        with pytest.raises(NameTaken) as taken:
            register("two", pid)
        assert taken.value.pid == pid
        assert whereis("one") == whereis("two") == pid
        exit_("two", "boom")
        await receive(Down)
        assert whereis("one") is whereis("two") is None
        assert ref

    @as_process
    async def test_a_dead_process_gets_no_name(self):
        pid = spawn(forever)
        exit_(pid, "kill")
        with pytest.raises(NoProcess):
            register("name", pid)
        assert whereis("name") is None

    @as_process
    async def test_what_nobody_has_cannot_be_unregistered(self):
        with pytest.raises(NoProcess):
            unregister("nobody")
        with pytest.raises(NoProcess):
            unregister(self_())

    @as_process
    async def test_a_taken_name_starts_no_process(self):
        register("mine")
        with pytest.raises(NameTaken) as taken:
            spawn(forever, name="mine", link=True)
        assert taken.value.pid == self_()

    @as_process
    async def test_messages_to_a_freed_name_are_dropped_and_to_its_next_owner_arrive(self):
        first = spawn(forever, name="name")
        exit_(first, "kill")
        send("name", "lost")
        register("name")
        send("name", "kept")
        assert await receive() == "kept"

    @as_process
    async def test_no_pid_is_used_twice(self):
        pids = set()
        for _ in range(100):
            pid = spawn(forever)
            pids.add(pid)
            exit_(pid, "kill")
        assert len(pids) == 100


class TestTimers:
    @as_process
    async def test_they_fire_in_the_order_of_their_times(self):
        for seconds in (0.03, 0.01, 0.02):
            send_after(self_(), seconds, seconds)
        assert [await receive() for _ in range(3)] == [0.01, 0.02, 0.03]

    @as_process
    async def test_a_timer_outlives_who_set_it(self):
        me = self_()

        async def setter():
            send_after(me, "late", 0.01)

        _, ref = spawn(setter, monitor=True)
        assert (await receive()).ref == ref
        assert await receive(timeout=1.0) == "late"

    @as_process
    async def test_cancelling_tells_what_was_left_and_then_none(self):
        timer = send_after(self_(), "never", 60.0)
        left = cancel_timer(timer)
        assert 59.0 < left <= 60.0
        assert cancel_timer(timer) is None
        assert cancel_timer("no timer") is None

    @as_process
    async def test_a_timer_for_a_dead_pid_has_ended_with_it(self):
        async def short():
            await receive("end")

        pid, _ = spawn(short, monitor=True)
        before = send_after(pid, "late", 60.0)
        send(pid, "end")
        await receive(Down)
        after = send_after(pid, "late", 60.0)
        assert (cancel_timer(before), cancel_timer(after)) == (None, None)

    @as_process
    async def test_a_timer_of_nought_seconds_comes_after_what_is_there(self):
        send_after(self_(), "timer", 0)
        send(self_(), "message")
        assert [await receive(), await receive()] == ["message", "timer"]


class TestReceive:
    @as_process
    async def test_what_does_not_match_keeps_its_place(self):
        for message in (1, "a", 2, "b", 3):
            send(self_(), message)
        assert await receive(str) == "a"
        assert await receive(lambda m: m == 3) == 3
        assert await receive((str, float)) == "b"
        assert [await receive(), await receive()] == [1, 2]

    @as_process
    async def test_a_timeout_of_nought_looks_once(self):
        assert await receive(timeout=0) == Timeout()
        send(self_(), "there")
        assert await receive("else", timeout=0) == Timeout()
        assert await receive(timeout=0) == "there"

    @as_process
    async def test_messages_that_do_not_match_do_not_prolong_the_wait(self):
        async def chatter(to):
            while True:
                send(to, "noise")
                await asyncio.sleep(0.001)

        pid = spawn(chatter, self_())
        before = asyncio.get_running_loop().time()
        assert await receive("signal", timeout=0.03) == Timeout()
        assert asyncio.get_running_loop().time() - before < 1.0
        exit_(pid, "kill")

    @as_process
    async def test_a_match_that_raises_ends_the_receive_and_keeps_the_message(self):
        send(self_(), 0)
        with pytest.raises(ZeroDivisionError):
            await receive(lambda m: 1 / m)
        assert await receive(timeout=0) == 0

    @as_process
    async def test_a_sent_timeout_message_is_a_message(self):
        send(self_(), None)
        assert await receive() is None


class TestCallsToFunctions:
    @pytest.mark.parametrize("answers", [True, False])
    @as_process
    async def test_a_function_that_took_a_call_and_ends_fails_its_caller(self, answers):
        async def server():
            _, sender, request = await receive()
            if answers:
                reply(sender, request * 2)
            raise Exit("done")

        pid = spawn(server)
        if answers:
            assert await call(pid, 21, timeout=1.0) == 42
        else:
            with pytest.raises(ProcessDied) as died:
                await call(pid, 21, timeout=1.0)
            assert died.value.reason == "done"

    @as_process
    async def test_a_call_that_is_never_taken_fails_with_its_callee_or_times_out(self):
        pid = spawn(forever)
        with pytest.raises(CallTimeout):
            await call(pid, 1, timeout=0.01)
        waiting = asyncio.ensure_future(call(pid, 2, timeout=1.0))
        await asyncio.sleep(0)
        exit_(pid, "boom")
        with pytest.raises(ProcessDied):
            await waiting


@asynchronous
async def test_ten_thousand_dead_processes_leave_no_memory_behind():
    async def body():
        trap_exit()
        for _ in range(10_000):
            pid = spawn(forever, link=True, monitor=True)[0]
            exit_(pid, "boom")
            await receive(Down)
            await receive(ExitSignal)
            await asyncio.sleep(0)
        gc.collect()
        return sum(isinstance(thing, Process) for thing in gc.get_objects())

    assert await inside(body) < 1_000


@both_flavours
@asynchronous
async def test_a_late_reply_is_no_message(flavour):
    release = asyncio.Event()

    async def slow(sender, state):
        await release.wait()
        return Reply("late", state)

    async def body():
        with pytest.raises(CallTimeout):
            await call("slow", slow, timeout=0.001)
        release.set()
        assert await call("slow", answer("next")) == "next"
        return await receive(timeout=0)

    assert await inside(body, child(flavour(Doer), name="slow")) == Timeout()


@asynchronous
async def test_calls_that_timed_out_are_forgotten_by_a_server_that_answers_later():
    async def body():
        for _ in range(20):
            with pytest.raises(CallTimeout):
                await call("later", lambda _sender, state: NoReply(state), timeout=0)
        return True

    result = asyncio.get_running_loop().create_future()

    async def script():
        result.set_result(await body())

    async with running(child(Doer, name="later"), child(Task, script, id="script")) as rt:
        assert await result
        await rt.get_state("later")
        assert not [p for p in rt.kernel.processes.values() if p.unanswered]
