"""Processes: spawn and receive, links, monitors, exit signals, names and timers."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from superlearner.errors import InvalidSpec, NameTaken, NoProcess
from superlearner.otp import (
    Down,
    Exit,
    ExitSignal,
    Timeout,
    call,
    cancel_timer,
    cast,
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
from superlearner.otp._pid import Pid
from tests.otp.otp_kit import Stack, as_process, asynchronous, inside


async def forever():
    await asyncio.Event().wait()


async def leave(reason):
    raise Exit(reason)


async def obey():
    """Leave with the reason that comes."""
    raise Exit(await receive())


async def report(to, function):
    send(to, await function())


class TestSpawnAndReceive:
    @as_process
    async def test_a_spawned_function_sends_to_its_parent(self):
        me = self_()
        pid = spawn(report, me, lambda: asyncio.sleep(0, "hello"))
        assert isinstance(pid, Pid)
        assert await receive() == "hello"

    @as_process
    async def test_receive_takes_the_first_that_matches_and_leaves_the_others(self):
        for message in (1, "two", ("three", 3), 4.0):
            send(self_(), message)
        assert await receive(("three", 3)) == ("three", 3)
        assert await receive(float) == 4.0
        assert await receive(lambda m: m == "two") == "two"
        assert await receive((int, str)) == 1
        assert await receive(timeout=0) == Timeout()

    @as_process
    async def test_receive_waits_for_a_message_that_comes_later(self):
        me = self_()

        async def sender():
            send(me, "other")
            await asyncio.sleep(0)
            send(me, "wanted")

        spawn(sender)
        assert await receive("wanted", timeout=5) == "wanted"
        assert await receive() == "other"
        assert await receive(timeout=0.001) == Timeout()

    @as_process
    async def test_a_function_process_sees_calls_and_casts_as_the_protocol_does(self):
        me = self_()

        async def client():
            cast(me, "a cast")
            send("client", await call(me, "a call"))
            send(me, await receive())

        spawn(client, name="client")
        assert await receive() == ("$gen_cast", "a cast")
        tag, sender, request = await receive()
        assert (tag, request) == ("$gen_call", "a call")
        await reply(sender, "an answer")
        assert await receive() == "an answer"

    @as_process
    async def test_it_ends_as_its_function_does(self):
        for function, args, reason in [
            (asyncio.sleep, (0,), "normal"),
            (leave, ("tired",), "tired"),
            (lambda: None, (), "normal"),
        ]:
            pid, ref = spawn(function, *args, monitor=True)
            assert await receive() == Down(ref, pid, reason)

    @as_process
    async def test_a_crash_becomes_an_exit_with_its_traceback(self):
        async def crash():
            raise SystemExit(7)

        spawn(crash, monitor=True)
        reason = (await receive(Down)).reason
        assert isinstance(reason, Exit)
        assert isinstance(reason.reason, SystemExit)
        assert "SystemExit: 7" in reason.traceback

    @as_process
    async def test_an_unknown_option_is_refused_with_the_right_spelling(self):
        with pytest.raises(InvalidSpec, match="did you mean 'monitor'"):
            spawn(forever, monitr=True)

    @as_process
    async def test_awaiting_the_plain_verbs_is_harmless(self):
        assert await self_() == self_()
        pid, ref = spawn(forever, monitor=True)
        assert await monitor(pid) != await monitor(pid)
        timer = await send_after(self_(), "m", 60)
        assert 59 < await cancel_timer(timer) <= 60
        for done in (link(pid), unlink(pid), demonitor(ref), cast(pid, 1), send(pid, 1), trap_exit(False)):
            await done


class TestLinks:
    @as_process
    async def test_a_linked_process_dies_with_the_other(self):
        async def pair():
            spawn(leave, "boom", link=True)
            await forever()

        pid, ref = spawn(pair, monitor=True)
        assert await receive() == Down(ref, pid, "boom")

    @as_process
    async def test_a_normal_end_does_not_travel(self):
        spawn(leave, "normal", link=True)
        other, ref = spawn(leave, "normal", monitor=True)
        assert await receive() == Down(ref, other, "normal")

    @as_process
    async def test_trapped_signals_are_messages_even_normal_ones(self):
        trap_exit(True)
        pid = spawn(leave, "normal", link=True)
        assert await receive() == ExitSignal(pid, "normal")

    @as_process
    async def test_unlinked_processes_die_alone(self):
        trap_exit(True)
        pid = spawn(obey, link=True)
        unlink(pid)
        unlink("nobody")
        ref = monitor(pid)
        send(pid, "boom")
        assert await receive() == Down(ref, pid, "boom")
        assert await receive(timeout=0) == Timeout()

    @as_process
    async def test_linking_a_dead_process_gives_noproc(self):
        dead, ref = spawn(leave, "normal", monitor=True)
        await receive()

        async def links_dead():
            link(dead)

        pid, ref = spawn(links_dead, monitor=True)
        assert await receive() == Down(ref, pid, "noproc")
        trap_exit(True)
        link(dead)
        assert await receive() == ExitSignal(dead, "noproc")

    @as_process
    async def test_a_link_carries_kill_as_killed_which_can_be_trapped(self):
        trap_exit(True)
        pid = spawn(forever, link=True)
        exit_(pid, "kill")
        assert await receive() == ExitSignal(pid, "killed")
        pid = spawn(leave, "kill", link=True)
        assert await receive() == ExitSignal(pid, "kill")

    @as_process
    async def test_a_long_chain_of_links_falls_without_a_deep_stack(self):
        async def chain(n):
            if n:
                spawn(chain, n - 1, link=True)
            else:
                send("script_", "built")
            await forever()

        register("script_")
        pid, ref = spawn(chain, 2_000, monitor=True)
        assert await receive() == "built"
        exit_(pid, "boom")
        assert await receive() == Down(ref, pid, "boom")


class TestMonitors:
    @as_process
    async def test_each_monitor_tells_once(self):
        pid = spawn(obey)
        refs = {monitor(pid), monitor(pid)}
        send(pid, "bye")
        assert {(await receive()).ref, (await receive()).ref} == refs

    @as_process
    async def test_monitoring_nobody_gives_noproc(self):
        ref = monitor("nobody")
        assert await receive() == Down(ref, "nobody", "noproc")

    @as_process
    async def test_demonitor_stops_it_and_flush_removes_what_has_come(self):
        pid = spawn(obey)
        demonitor(monitor(pid))
        ref = monitor(pid)
        send(pid, "bye")
        await receive(Down)
        late = monitor("nobody")
        send(self_(), "other")
        demonitor(late, flush=True)
        demonitor(ref, flush=True)
        assert await receive() == "other"
        assert await receive(timeout=0) == Timeout()

    @as_process
    async def test_a_dead_watcher_is_told_nothing(self):
        target = spawn(forever)

        async def watch():
            monitor(target)
            raise Exit("gone")

        spawn(watch, monitor=True)
        await receive()
        exit_(target, "boom")
        assert await receive(timeout=0) == Timeout()


class TestExitSignals:
    @as_process
    async def test_normal_to_another_process_is_ignored(self):
        pid = spawn(forever)
        exit_(pid, "normal")
        assert whereis(pid) == pid
        exit_(pid, "boom")
        assert whereis(pid) is None
        exit_(pid, "again")

    @as_process
    async def test_kill_cannot_be_trapped_and_is_seen_as_killed(self):
        me = self_()

        async def trapper():
            trap_exit(True)
            send(me, "trapping")
            send(me, await receive())
            await forever()

        pid, ref = spawn(trapper, monitor=True)
        await receive()
        exit_(pid, "boom")
        assert await receive() == ExitSignal(me, "boom")
        exit_(pid, "kill")
        assert await receive() == Down(ref, pid, "killed")

    @pytest.mark.parametrize(("reason", "seen"), [("normal", "normal"), ("boom", "boom"), ("kill", "killed")])
    def test_a_signal_to_oneself_ends_at_once_unless_trapped(self, reason, seen):
        @asynchronous
        async def test():
            async def body():
                async def leaves():
                    exit_(self_(), reason)
                    send("script_", "not reached")

                register("script_")
                pid, ref = spawn(leaves, monitor=True)
                assert await receive() == Down(ref, pid, seen)
                trap_exit(True)
                if reason != "kill":
                    exit_(self_(), reason)
                    assert await receive() == ExitSignal(self_(), reason)

            await inside(body)

        test()


class TestNames:
    @as_process
    async def test_a_name_is_an_address_until_its_owner_dies(self):
        pid, _ = spawn(obey, monitor=True, name="worker")
        assert whereis("worker") == pid
        send("worker", "bye")
        await receive()
        assert whereis("worker") is None

    @as_process
    async def test_a_taken_name_is_refused_with_its_owner(self):
        register("me")
        with pytest.raises(NameTaken) as error:
            register("me", spawn(forever))
        assert error.value.pid == self_()
        with pytest.raises(NameTaken):
            spawn(forever, name="me")

    @as_process
    async def test_a_name_can_be_given_to_another_and_freed(self):
        pid = spawn(forever)
        register("other", pid)
        assert whereis("other") == pid
        unregister("other")
        assert whereis("other") is None
        with pytest.raises(NoProcess):
            unregister("other")
        with pytest.raises(NoProcess):
            register("ghost", "<local.main.999>")

    @pytest.mark.parametrize("name", ["", "<0>", "shop/counter", None, 3])
    def test_what_cannot_be_a_name_is_refused(self, name):
        @asynchronous
        async def test():
            async def body():
                with pytest.raises(InvalidSpec):
                    register(name)

            await inside(body)

        test()


class TestTimers:
    @as_process
    async def test_a_timer_sends_once_and_cannot_be_cancelled_after(self):
        timer = send_after(self_(), "tick", 0.001)
        assert await receive() == "tick"
        assert cancel_timer(timer) is None

    @as_process
    async def test_a_name_is_looked_up_when_the_timer_fires(self):
        me = self_()
        send_after("later", "tick", 0.001)

        async def owner():
            register("later")
            send(me, await receive())

        spawn(owner)
        assert await receive() == "tick"

    @as_process
    async def test_timers_to_a_pid_end_with_it(self):
        pid = spawn(forever)
        timer = send_after(pid, "tick", 60)
        exit_(pid, "kill")
        assert cancel_timer(timer) is None


class TestValues:
    def test_pids_refs_and_senders_survive_pickling(self):
        pid = Pid.of("alpha", "shop", 3)
        copy = pickle.loads(pickle.dumps(pid))
        assert copy == pid == "<alpha.shop.3>"
        assert type(copy) is Pid
        assert (pid.node, pid.sandbox, pid.serial) == ("alpha", "shop", 3)
        with pytest.raises(InvalidSpec):
            Pid("alpha.shop.3")

    def test_an_exit_carries_its_exception_where_that_can_travel(self):
        class Local(Exception):
            pass

        plain = pickle.loads(pickle.dumps(Exit(ValueError("boom"), "trace")))
        assert isinstance(plain.reason, ValueError)
        local = pickle.loads(pickle.dumps(Exit(Local("boom"), "trace")))
        assert "Local: boom" in local.reason
        assert local.traceback == "trace"

    def test_an_exit_is_matched_by_its_reason_and_traceback(self):
        match Exit(ValueError("boom"), "trace"):
            case Exit(ValueError(), traceback):
                assert traceback == "trace"
            case other:
                pytest.fail(f"{other!r} was not matched")

    @asynchronous
    async def test_a_sender_in_a_restored_state_answers_nobody(self):
        async def body():
            pid, _ = spawn(asker, monitor=True)
            _, sender, _ = await receive()
            copy = pickle.loads(pickle.dumps(sender))
            reply(copy, "nobody hears")
            assert copy.pid == pid
            assert copy.answered
            reply(sender, "heard")
            assert (await receive(Down)).reason == "normal"

        async def asker():
            assert await call("script_", "question") == "heard"

        async def named():
            register("script_")
            await body()

        await inside(named, child(Stack, name="stack"))
