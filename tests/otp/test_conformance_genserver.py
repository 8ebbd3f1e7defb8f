"""GenServers, case by case as the suites of OTP's gen_server and Elixir's GenServer have them."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise

import pytest
from conformance_kit import (
    Doer,
    Member,
    Trapping,
    answer,
    both_flavours,
    member,
    plain,
    running,
    settled,
    took,
    turns_until,
)
from otp_kit import asynchronous, inside, until

from superlearner.errors import (
    AlreadyStarted,
    BadReturn,
    CallTimeout,
    NoProcess,
    ProcessDied,
    StartFailed,
    Unsupported,
)
from superlearner.otp import (
    Exit,
    ExitSignal,
    GenServer,
    NoReply,
    Reply,
    Runtime,
    Stop,
    Timeout,
    call,
    cast,
    child,
    exit_,
    link,
    receive,
    reply,
    self_,
    send,
    spawn,
    trap_exit,
    whereis,
)

NOT_GIVEN = object()


class Noting(GenServer):
    """Tells `log` what `terminate` gets, and lets a message say what a handler returns or raises."""

    def init(self, log, state="first"):
        self.log = log
        return NoReply(state)

    def _do(self, what):
        if isinstance(what, BaseException):
            raise what
        return what

    def handle_call(self, request, sender, state):
        return self._do(request)

    def handle_cast(self, message, state):
        return self._do(message)

    def handle_info(self, message, state):
        return self._do(message)

    def handle_continue(self, value, state):
        return self._do(value)

    def terminate(self, reason, state):
        self.log.append((reason, state))


def last_reason(events, name="it"):
    return [e.reason for e in events if e.kind == "process_exited" and e.name == name][-1]


async def deliver(rt, handler, what):
    """Make a handler of `it` return or raise `what`; return what a caller sees."""
    match handler:
        case "handle_call":
            try:
                return await rt.call("it", what)
            except ProcessDied as died:
                return ("died", died.reason)
        case "handle_cast":
            await rt.cast("it", what)
        case "handle_info":
            await rt.send("it", what)
        case "handle_continue":
            await rt.cast("it", NoReply("first", continue_=what))
    return None


each_handler = pytest.mark.parametrize(
    "handler", ["handle_call", "handle_cast", "handle_info", "handle_continue"]
)


class TestStop:
    @each_handler
    @pytest.mark.parametrize("state", [NOT_GIVEN, "last", None], ids=["no state", "state", "None"])
    @pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", 1), "boom", "kill"])
    @both_flavours
    @asynchronous
    async def test_stop_terminates_with_reason_and_state(self, handler, state, reason, flavour):
        log = []
        stop = Stop(reason) if state is NOT_GIVEN else Stop(reason, state=state)
        async with running(child(flavour(Noting), log, id="it", name="it", restart="temporary")) as rt:
            seen = await deliver(rt, handler, stop)
            await until(rt, "process_exited", name="it")
            assert log == [(reason, "first" if state is NOT_GIVEN else state)]
            assert seen == (("died", reason) if handler == "handle_call" else None)
            expected = list(reason) if isinstance(reason, tuple) else reason
            assert last_reason(await rt.events()) == expected

    @pytest.mark.parametrize("reason", ["normal", "boom"])
    @pytest.mark.parametrize("value", [1, None])
    @both_flavours
    @asynchronous
    async def test_stop_with_a_reply_answers_whatever_the_reason(self, reason, value, flavour):
        log = []
        async with running(child(flavour(Noting), log, id="it", name="it", restart="temporary")) as rt:
            assert await rt.call("it", Stop(reason, reply=value, state="last")) == value
            await until(rt, "process_exited", name="it")
            assert log == [(reason, "last")]

    @pytest.mark.parametrize("handler", ["handle_cast", "handle_info", "handle_continue"])
    @both_flavours
    @asynchronous
    async def test_a_reply_to_nobody_is_nonsense(self, handler, flavour):
        log = []
        async with running(child(flavour(Noting), log, id="it", name="it", restart="temporary")) as rt:
            await deliver(rt, handler, Stop("normal", reply=1))
            (exited,) = await until(rt, "process_exited", name="it")
            assert "nobody waits for a reply" in exited.reason
            assert isinstance(log[0][0].reason, BadReturn)

    @each_handler
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (Exit("normal"), "normal"),
            (Exit(("shutdown", "x")), ["shutdown", "x"]),
            (ValueError("boom"), "ValueError: boom"),
            (SystemExit(3), "SystemExit: 3"),
            (KeyboardInterrupt(), "KeyboardInterrupt"),
            (asyncio.CancelledError(), "asyncio.exceptions.CancelledError"),
            (GeneratorExit(), "GeneratorExit"),
            (StopIteration(), "StopIteration"),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
    )
    @both_flavours
    @asynchronous
    async def test_whatever_is_raised_ends_its_process_alone(self, handler, error, reason, flavour):
        log = []
        other = child(Doer, id="other", name="other")
        async with running(child(flavour(Noting), log, id="it", name="it", restart="temporary"), other) as rt:
            await deliver(rt, handler, error)
            (exited,) = await until(rt, "process_exited", name="it")
            if not isinstance(error, StopIteration):
                assert exited.reason == reason
            assert len(log) == 1
            assert await rt.call("other", answer("alive")) == "alive"

    @pytest.mark.parametrize("how", ["raise", "exit", "stop"])
    @both_flavours
    @asynchronous
    async def test_a_caller_learns_the_reason_of_a_terminate_that_fails_too(self, how, flavour):
        class Failing(Doer):
            def terminate(self, reason, state):
                raise KeyError("second")

        def end(sender, state):
            match how:
                case "raise":
                    raise ValueError("first")
                case "exit":
                    raise Exit("first")
            return Stop("first")

        async with running(child(flavour(Failing), id="it", name="it", restart="temporary")) as rt:
            with pytest.raises(ProcessDied) as died:
                await rt.call("it", end)
            assert isinstance(died.value.__cause__, KeyError)

    @pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), Exit("changed")])
    @both_flavours
    @asynchronous
    async def test_a_terminate_may_raise_anything(self, error, flavour):
        class Failing(Doer):
            def terminate(self, reason, state):
                raise error

        async with running(
            child(flavour(Failing), id="it", name="it", restart="temporary"), child(Doer, id="o", name="o")
        ) as rt:
            await rt.cast("it", lambda _state: Stop("normal"))
            (exited,) = await until(rt, "process_exited", name="it")
            assert exited.reason == ("changed" if isinstance(error, Exit) else exited.reason)
            assert exited.reason != "normal"
            assert await rt.call("o", answer(1)) == 1

    @asynchronous
    async def test_messages_that_wait_when_it_stops_are_never_handled(self):
        log = []

        def note(what):
            def handle(state):
                log.append(what)
                return NoReply(state)

            return handle

        def stop(state):
            cast("it", note("after"))
            return Stop("normal")

        async with running(child(Doer, id="it", name="it", restart="temporary")) as rt:
            await rt.cast("it", note("before"))
            await rt.cast("it", stop)
            await rt.cast("it", note("behind"))
            await until(rt, "process_exited", name="it")
            assert log == ["before"]


class TestTerminate:
    @pytest.mark.parametrize("trapping", [True, False], ids=["trapping", "not trapping"])
    @pytest.mark.parametrize(
        ("how", "called_with"),
        [
            ("shutdown", "shutdown"),
            ("kill", None),
            ("signal", None),
            ("stop", "bye"),
            ("crash", "crash"),
        ],
    )
    @both_flavours
    @asynchronous
    async def test_when_it_is_called(self, trapping, how, called_with, flavour):
        log = []

        class It(Noting):
            trap_exit = trapping

        async with running(child(flavour(It), log, id="it", name="it", restart="temporary")) as rt:
            match how:
                case "shutdown":
                    await rt.terminate_child("root", "it")
                case "kill":
                    await rt.kill("it")
                case "signal":
                    await rt.kill("it", "boom")
                case "stop":
                    await rt.cast("it", Stop("bye"))
                case "crash":
                    await rt.cast("it", Exit("crash"))
            if how == "signal" and trapping:
                # A stranger's signal is a message: this one returns it as its new state.
                assert isinstance(await rt.get_state("it"), ExitSignal)
                called_with = None
            else:
                await until(rt, "process_exited", name="it")
            if how == "shutdown" and not trapping:
                called_with = None
            assert [reason for reason, _ in log] == ([] if called_with is None else [called_with])

    @both_flavours
    @asynchronous
    async def test_trapping_may_begin_in_init(self, flavour):
        log = []

        class It(Noting):
            def init(self, log):
                trap_exit(True)
                return super().init(log)

        async with running(child(flavour(It), log, id="it", name="it")):
            pass
        assert log == [("shutdown", "first")]

    @asynchronous
    async def test_it_is_not_called_when_init_fails(self):
        log = []

        class It(Noting):
            def init(self, log):
                super().init(log)
                return Stop("no")

        with pytest.raises(StartFailed):
            async with running(child(It, log, id="it")):
                pass
        assert log == []

    @asynchronous
    async def test_while_it_runs_calls_wait_and_then_fail_with_the_reason(self):
        release = asyncio.Event()

        class Slow(Doer):
            async def terminate(self, reason, state):
                await release.wait()

        async with running(child(Slow, id="it", name="it", restart="temporary")) as rt:
            await rt.cast("it", lambda _state: Stop("bye"))
            waiting = asyncio.ensure_future(rt.call("it", answer(1)))
            for _ in range(5):
                await asyncio.sleep(0)
            assert (await rt.process("it")).status == "stopping"
            assert not waiting.done()
            release.set()
            with pytest.raises(ProcessDied) as died:
                await waiting
            assert died.value.reason == "bye"

    @asynchronous
    async def test_it_may_still_send_and_call(self):
        class Last(Trapping):
            async def terminate(self, reason, state):
                await call("log", lambda _sender, state: Reply(None, [*state, reason]))

        async with running(
            child(Doer, [], id="log", name="log"), child(Last, id="it", name="it", restart="temporary")
        ) as rt:
            await rt.terminate_child("root", "it")
            assert await rt.get_state("log") == ["shutdown"]


class TestInit:
    @pytest.mark.parametrize(
        ("result", "reason"),
        [
            (Stop("normal"), "normal"),
            (Stop("shutdown"), "shutdown"),
            (Stop(("shutdown", "x")), ("shutdown", "x")),
            (Exit("left"), "left"),
            (SystemExit(1), SystemExit),
            (KeyboardInterrupt(), KeyboardInterrupt),
            (ValueError("boom"), ValueError),
            (None, BadReturn),
            (Reply(1, 2), BadReturn),
            (NoReply(1, timeout="soon"), BadReturn),
            (NoReply(1, timeout=-1), BadReturn),
        ],
        ids=str,
    )
    @both_flavours
    def test_how_a_start_fails(self, result, reason, flavour):
        class It(GenServer):
            def init(self):
                if isinstance(result, BaseException):
                    raise result
                return result

        with pytest.raises(StartFailed) as failed, Runtime(child(flavour(It), id="it")):
            pass
        said = ("shutdown", ("failed_to_start_child", "it", reason))
        if isinstance(reason, type):
            said = failed.value.reason
            assert said[:1] == ("shutdown",)
            assert said[1][:2] == ("failed_to_start_child", "it")
            assert isinstance(said[1][2].reason, reason)
        assert failed.value.reason == said

    @pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
    @both_flavours
    @asynchronous
    async def test_ignore_keeps_the_spec_unless_it_is_temporary(self, restart, flavour):
        log = []
        spec = member(log, "it", "ignore", cls=flavour(Member), restart=restart)
        async with running(spec) as rt:
            children = await rt.which_children("root")
            assert [c.pid for c in children] == ([] if restart == "temporary" else [None])
            assert await rt.whereis("it") is None
            if children:
                pid = await rt.restart_child("root", "it")
                assert pid == await rt.whereis("it")
            assert not await rt.events(kind="process_exited")

    @both_flavours
    @asynchronous
    async def test_its_name_is_there_in_init_and_free_after_a_failed_one(self, flavour):
        seen = []

        class It(GenServer):
            def init(self):
                seen.append(whereis("it") == self_())
                return Stop("no")

        async with running() as rt:
            for _ in range(2):
                with pytest.raises(StartFailed) as failed:
                    await rt.start_child("root", child(flavour(It), id="it", name="it"))
                assert failed.value.reason == "no"
                assert await rt.whereis("it") is None
            assert seen == [True, True]
            assert [e.reason for e in await rt.events(kind="start_failed")] == ["no", "no"]

    @asynchronous
    async def test_messages_sent_during_init_come_after_its_continue(self):
        class It(GenServer):
            async def init(self):
                send(self_(), "message")
                await asyncio.sleep(0)
                return NoReply([], continue_="continue")

            def handle_continue(self, value, state):
                return [*state, value]

            handle_info = handle_continue

        async with running(child(It, id="it", name="it")) as rt:
            assert await rt.get_state("it") == ["continue", "message"]

    @asynchronous
    async def test_a_linked_process_that_dies_in_init_fails_the_start(self):
        class It(GenServer):
            async def init(self):
                async def crash():
                    raise Exit("partner")

                spawn(crash, link=True)
                await receive()

        with pytest.raises(StartFailed) as failed:
            async with running(child(It, id="it")):
                pass
        assert failed.value.reason == ("shutdown", ("failed_to_start_child", "it", "partner"))


class TestCalls:
    @both_flavours
    @asynchronous
    async def test_a_reply_before_the_return_is_the_answer(self, flavour):
        def early(sender, state):
            reply(sender, "early")
            return NoReply(state)

        def twice(sender, state):
            reply(sender, "first")
            return Reply("second", state)

        def then_crash(sender, state):
            reply(sender, "answered")
            raise ValueError

        async with running(child(flavour(Doer), id="it", name="it")) as rt:
            assert await rt.call("it", early) == "early"
            assert await rt.call("it", twice) == "first"
            assert await rt.call("it", then_crash) == "answered"

    @both_flavours
    @asynchronous
    async def test_answers_may_come_in_another_order_than_calls(self, flavour):
        def keep(sender, state):
            return NoReply([*(state or ()), sender])

        def release(state):
            for number, sender in reversed(list(enumerate(state))):
                reply(sender, number)
            return NoReply(None)

        async with running(child(flavour(Doer), id="it", name="it")) as rt:
            calls = [asyncio.ensure_future(rt.call("it", keep)) for _ in range(3)]
            await asyncio.sleep(0)
            await rt.cast("it", release)
            assert await asyncio.gather(*calls) == [0, 1, 2]

    @pytest.mark.parametrize("reason", ["normal", "boom", "kill"])
    @both_flavours
    @asynchronous
    async def test_calls_kept_for_later_fail_with_their_callee(self, reason, flavour):
        async with running(child(flavour(Doer), id="it", name="it", restart="temporary")) as rt:
            kept = asyncio.ensure_future(rt.call("it", lambda sender, _state: NoReply(sender)))
            await asyncio.sleep(0)
            await rt.get_state("it")
            if reason == "normal":
                await rt.cast("it", lambda _state: Stop("normal"))
            else:
                await rt.kill("it", reason)
            with pytest.raises(ProcessDied) as died:
                await kept
            assert died.value.reason == ("killed" if reason == "kill" else reason)

    @both_flavours
    @asynchronous
    async def test_an_uncaught_failure_of_a_call_ends_the_caller_with_it(self, flavour):
        async def ask(state):
            return NoReply(await call("callee", lambda _sender, _state: Stop("gone")))

        children = [
            child(flavour(Doer), id=name, name=name, restart="temporary") for name in ("caller", "callee")
        ]
        async with running(*children) as rt:
            await rt.cast("caller", ask)
            (exited,) = await until(rt, "process_exited", name="caller")
            assert "ProcessDied" in exited.reason

    @asynchronous
    async def test_a_timeout_of_nought_and_none(self):
        async with running(child(Doer, id="it", name="it")) as rt:
            assert await rt.call("it", answer(1), timeout=None) == 1
            await rt.suspend("it")
            with pytest.raises(CallTimeout):
                await rt.call("it", answer(2), timeout=0)
            await rt.resume("it")
            assert await rt.call("it", answer(3)) == 3

    @asynchronous
    async def test_a_request_whose_caller_gave_up_is_handled_all_the_same(self):
        async with running(child(Doer, [], id="it", name="it")) as rt:
            await rt.suspend("it")
            with pytest.raises(CallTimeout) as timeout:
                await rt.call("it", lambda _sender, state: Reply(1, [*state, "handled"]), timeout=0.001)
            assert timeout.value.definite is False
            assert (await rt.process("it")).mailbox == 1
            await rt.resume("it")
            assert await rt.get_state("it") == ["handled"]

    @both_flavours
    @asynchronous
    async def test_a_caller_that_dies_while_it_waits_does_not_hurt_its_callee(self, flavour):
        senders = []

        def keep(sender, state):
            senders.append(sender)
            return NoReply(state)

        async def ask(state):
            await call("callee", keep, timeout=None)

        children = [child(flavour(Doer), id=n, name=n, restart="temporary") for n in ("caller", "callee")]
        async with running(*children) as rt:
            await rt.cast("caller", ask)
            await turns_until(lambda: senders)
            await rt.kill("caller")
            await rt.cast("callee", lambda _state: NoReply(reply(senders[0], "late")))
            assert await rt.call("callee", answer("fine")) == "fine"

    @asynchronous
    async def test_two_servers_that_call_each_other_time_out(self):
        async def back(sender, state):
            return Reply(await call("a", answer(1)), state)

        async def cross(sender, state):
            with pytest.raises(CallTimeout):
                await call("b", back, timeout=0.01)
            return Reply("done", state)

        async with running(*(child(Doer, id=n, name=n, restart="temporary") for n in "ab")) as rt:
            assert await rt.call("a", cross) == "done"

    @pytest.mark.parametrize("target", ["nobody", "<local.main.999>", ["a"], None, ("a", 1), ("nobody", 1)])
    @asynchronous
    async def test_who_is_not_there_is_no_process(self, target):
        async with running(child(Doer, id="a", name="a")) as rt:
            with pytest.raises(NoProcess):
                await rt.call(target, 1)
            await rt.cast(target, 1)
            await rt.send(target, 1)
            for look in (rt.get_state, rt.process, rt.kill, rt.suspend):
                with pytest.raises(NoProcess):
                    await look(target)

    @asynchronous
    async def test_the_callees_name_is_free_when_its_caller_learns_of_its_death(self):
        async def body():
            with pytest.raises(ProcessDied):
                await call("it", lambda _sender, _state: Stop("boom"))
            return whereis("it")

        assert await inside(body, child(Doer, name="it", restart="temporary")) is None


class TestContinue:
    @both_flavours
    @asynchronous
    async def test_the_answer_comes_before_the_continuation(self, flavour):
        order = []

        def go_on(state):
            order.append("continued")
            return NoReply(state)

        async with running(child(flavour(Doer), id="it", name="it")) as rt:
            asked = asyncio.ensure_future(rt.call("it", lambda _s, state: Reply(1, state, continue_=go_on)))
            asked.add_done_callback(lambda _: order.append("answered"))
            assert await asked == 1
            await rt.get_state("it")
            assert sorted(order) == ["answered", "continued"]

    @both_flavours
    @asynchronous
    async def test_continuations_follow_each_other_before_any_message(self, flavour):
        def step(left):
            def handle(state):
                state = [*(state or ()), left]
                return NoReply(state, continue_=step(left - 1)) if left else NoReply(state)

            return handle

        async with running(child(flavour(Doer), id="it", name="it")) as rt:
            await rt.cast("it", lambda _state: NoReply([], continue_=step(3)))
            await rt.send("it", "message")
            assert await rt.get_state("it") == [3, 2, 1, 0, "message"]

    @asynchronous
    async def test_an_endless_chain_lets_the_others_have_their_turn(self):
        def again(state):
            return NoReply(state, continue_=again)

        async with running(child(Doer, id="busy", name="busy"), child(Doer, id="it", name="it")) as rt:
            await rt.cast("busy", again)
            assert await rt.call("it", answer("served")) == "served"
            await rt.kill("busy")

    @both_flavours
    @asynchronous
    async def test_none_is_a_continuation_like_any_other(self, flavour):
        class It(GenServer):
            def init(self):
                return NoReply([], continue_=None)

            def handle_continue(self, value, state):
                return [*state, value]

        async with running(child(flavour(It), id="it", name="it")) as rt:
            assert await rt.get_state("it") == [None]


class TestTimeout:
    @each_handler
    @both_flavours
    @asynchronous
    async def test_any_handler_may_ask_for_one(self, handler, flavour):
        seen = asyncio.Event()

        class It(Noting):
            def handle_info(self, message, state):
                if message == Timeout():
                    seen.set()
                    return [*state, "timeout"]
                return super().handle_info(message, state)

        async with running(child(flavour(It), [], [], id="it", name="it")) as rt:
            await deliver(
                rt,
                handler,
                Reply(1, [], timeout=0.001) if handler == "handle_call" else NoReply([], timeout=0.001),
            )
            await asyncio.wait_for(seen.wait(), 5)
            assert await rt.get_state("it") == ["timeout"]

    @both_flavours
    @asynchronous
    async def test_any_message_ends_it_even_one_that_is_dropped(self, flavour):
        class It(GenServer):
            def init(self):
                return NoReply([], timeout=0.02)

            def handle_info(self, message, state):
                return [*state, message]

        async with running(child(flavour(It), id="it", name="it")) as rt:
            await rt.send("it", "message")
            await asyncio.sleep(0.05)
            assert await rt.get_state("it") == ["message"]

    @asynchronous
    async def test_it_starts_anew_after_a_look_at_the_state(self):
        seen = asyncio.Event()

        class It(GenServer):
            def init(self):
                return NoReply(0, timeout=0.03)

            def handle_info(self, message, state):
                seen.set()
                return state + 1

        async with running(child(It, id="it", name="it")) as rt:
            for _ in range(3):
                assert await rt.get_state("it") == 0
                await asyncio.sleep(0.005)
            await asyncio.wait_for(seen.wait(), 5)
            assert await rt.get_state("it") == 1

    @asynchronous
    async def test_none_comes_while_it_is_suspended_and_it_starts_anew_after(self):
        seen = asyncio.Event()

        class It(GenServer):
            def init(self):
                return NoReply(0, timeout=0.01)

            def handle_info(self, message, state):
                seen.set()
                return state + 1

        async with running(child(It, id="it", name="it")) as rt:
            await rt.suspend("it")
            await asyncio.sleep(0.03)
            assert await rt.get_state("it") == 0
            await rt.resume("it")
            await asyncio.wait_for(seen.wait(), 5)

    @asynchronous
    async def test_it_ends_with_its_process(self):
        class It(GenServer):
            def init(self):
                return NoReply(0, timeout=60.0)

        async with running(child(It, id="it", name="it", restart="temporary")) as rt:
            await rt.get_state("it")
            (process,) = [p for p in rt.kernel.processes.values() if p.id == "it"]
            assert process._timer is not None
            await rt.kill("it")
            assert process._timer is None

    @pytest.mark.parametrize("result", [1, NoReply(1)], ids=["bare", "NoReply"])
    @both_flavours
    @asynchronous
    async def test_what_the_continuation_returns_decides(self, result, flavour):
        class It(GenServer):
            def init(self):
                return NoReply(0, continue_="go", timeout=0.001)

            def handle_continue(self, value, state):
                return result

            def handle_info(self, message, state):
                return "timeout"

        async with running(child(flavour(It), id="it", name="it")) as rt:
            await asyncio.sleep(0.01)
            assert await rt.get_state("it") == 1

    @each_handler
    @pytest.mark.parametrize("timeout", ["soon", -1, True, float("nan")])
    @asynchronous
    async def test_nonsense_ends_the_process(self, handler, timeout):
        log = []
        async with running(child(Noting, log, id="it", name="it", restart="temporary")) as rt:
            make = Reply if handler == "handle_call" else NoReply
            args = (1, "s") if handler == "handle_call" else ("s",)
            await deliver(rt, handler, make(*args, timeout=timeout))
            (exited,) = await until(rt, "process_exited", name="it")
            assert "timeout=" in exited.reason


class TestSystem:
    @asynchronous
    async def test_a_suspended_server_keeps_messages_in_order_and_answers_system_requests(self):
        def push(item):
            return lambda state: [*state, item]

        async with running(child(Doer, [], id="it", name="it")) as rt:
            await rt.suspend("it")
            await rt.suspend("it")
            await rt.cast("it", push(1))
            await rt.send("it", 2)
            waiting = asyncio.ensure_future(rt.call("it", lambda _s, state: Reply(len(state), [*state, 3])))
            await asyncio.sleep(0)
            assert await rt.get_state("it") == []
            assert (await rt.process("it")).status == "suspended"
            assert (await rt.process("it")).mailbox == 3
            assert await rt.replace_state("it", [0]) == [0]
            await rt.resume("it")
            await rt.resume("it")
            assert await waiting == 3
            assert await rt.get_state("it") == [0, 1, 2, 3]

    @pytest.mark.parametrize("how", ["kill", "signal", "shutdown", "link"])
    @pytest.mark.parametrize("trapping", [True, False], ids=["trapping", "not trapping"])
    @asynchronous
    async def test_a_suspended_server_can_be_ended(self, how, trapping):
        log = []

        class It(Noting):
            trap_exit = trapping

        async with running(child(It, log, id="it", name="it", restart="temporary")) as rt:
            await rt.suspend("it")
            match how:
                case "kill":
                    await rt.kill("it")
                case "shutdown":
                    await rt.terminate_child("root", "it")
                case _:
                    await rt.kill("it", "boom")
            if how in {"signal", "link"} and trapping:
                assert (await rt.process("it")).mailbox == 1
                return
            await until(rt, "process_exited", name="it")
            assert log == ([("shutdown", "first")] if how == "shutdown" and trapping else [])

    @asynchronous
    async def test_a_restarted_server_is_not_suspended_any_more(self):
        async with running(child(Doer, id="it", name="it")) as rt:
            await rt.suspend("it")
            await rt.kill("it")
            await until(rt, "process_restarted")
            assert await rt.call("it", answer(1)) == 1

    @asynchronous
    async def test_a_state_that_was_replaced_is_the_one_handlers_get(self):
        async with running(child(Doer, 1, id="it", name="it")) as rt:
            await rt.replace_state("it", None)
            assert await rt.call("it", lambda _s, state: Reply(state, state)) is None
            with pytest.raises(Unsupported):
                await rt.replace_state("root", 1)

    @both_flavours
    @asynchronous
    async def test_process_tells_what_it_is_doing(self, flavour):
        release, entered = asyncio.Event(), asyncio.Event()

        async def wait(state):
            entered.set()
            await release.wait()
            return NoReply(state)

        async with running(child(flavour(Doer), id="it", name="it")) as rt:
            idle = await rt.process("it")
            assert (idle.status, idle.current, idle.mailbox, idle.type) == ("running", None, 0, "worker")
            assert idle.links == (await rt.whereis("root"),)
            await rt.cast("it", wait)
            await rt.cast("it", NoReply)
            await entered.wait()
            busy = await rt.process("it")
            assert (busy.current, busy.mailbox, busy.handled) == ("handle_cast", 1, 1)
            release.set()
            await rt.get_state("it")
            after = await rt.process("it")
            assert (after.handled, after.restarts, after.monitors) == (3, 0, ())
            assert after.pid == idle.pid

    @both_flavours
    @asynchronous
    async def test_copied_messages_are_nobody_elses(self, flavour):
        mine = [1]

        class It(GenServer):
            def init(self):
                return []

            def handle_call(self, request, sender, state):
                request.append(2)
                return Reply(request, request)

            def handle_cast(self, message, state):
                message.append(3)
                return message

        for copies in (True, False):
            async with Runtime(
                child(flavour(It), id="it", name="it"), asynchronous=True, copy_messages=copies
            ) as rt:
                given = await rt.call("it", mine)
                assert (given is mine) is not copies
                assert (await rt.get_state("it") is given) is not copies
                await rt.cast("it", mine)
                await rt.get_state("it")
            assert mine == ([1] if copies else [1, 2, 3])

    @asynchronous
    async def test_a_message_that_cannot_be_copied_is_told_to_its_sender(self):
        async with Runtime(child(Doer, id="it", name="it"), asynchronous=True, copy_messages=True) as rt:
            pid = await rt.whereis("it")
            with pytest.raises(TypeError):
                await rt.call("it", (i for i in ()))
            with pytest.raises(TypeError):
                await rt.cast("it", (i for i in ()))
            assert await rt.whereis("it") == pid

    @both_flavours
    @asynchronous
    async def test_an_answer_that_cannot_be_copied_is_told_to_its_caller_and_the_server_goes_on(
        self, flavour
    ):
        def later(sender, state):
            reply(sender, (i for i in ()))
            return NoReply(state)

        async with Runtime(
            child(flavour(Doer), id="it", name="it"), asynchronous=True, copy_messages=True
        ) as rt:
            pid = await rt.whereis("it")
            for request in (answer(lambda: (i for i in ())), later):
                with pytest.raises(TypeError):
                    await rt.call("it", request)
            assert await rt.call("it", answer(1)) == 1
            assert await rt.whereis("it") == pid

    @pytest.mark.parametrize("handler", ["handle_call", "handle_cast", "handle_info", "handle_continue"])
    @both_flavours
    @asynchronous
    async def test_a_result_that_cannot_even_be_looked_at_ends_its_server_alone(self, handler, flavour):
        class Odd:
            def __getattr__(self, name):
                raise ValueError(name)

        async with running(child(flavour(Noting), [], id="it", name="it", restart="temporary")) as rt:
            await deliver(rt, handler, [Odd()][0])
            if handler == "handle_call" or flavour is plain:
                await until(rt, "process_exited", name="it")
            else:
                # Awaited as a coroutine's value, it is a state like any other.
                assert isinstance(await rt.get_state("it"), Odd)

    @pytest.mark.parametrize("how", ["reason", "state", "message", "answer", "error"])
    @asynchronous
    async def test_what_cannot_be_shown_disturbs_nobody(self, how):
        class Shy:
            def __repr__(self):
                raise ValueError

        class Shyest(Exception):
            __repr__ = __str__ = Shy.__repr__

        async with running(child(Doer, id="it", name="it")) as rt:
            tracing = asyncio.ensure_future(rt.trace(60.0, limit=6))
            await asyncio.sleep(0)
            match how:
                case "reason":
                    await rt.cast("it", lambda _: Stop(Shy()))
                case "state":
                    with pytest.raises(ProcessDied):
                        await rt.call("it", lambda *_: Shy())
                case "message":
                    await rt.send("it", Shy())
                case "answer":
                    assert isinstance(await rt.call("it", answer(Shy)), Shy)
                case "error":

                    def fail(_):
                        raise Shyest

                    await rt.cast("it", fail)
            for _ in range(3):
                await settled(rt)
            assert await rt.call("it", answer(1)) == 1
            assert len(await tracing) == 6


class TestRuntime:
    def test_a_call_times_out_although_a_plain_handler_blocks(self):
        release = threading.Event()

        def block(state):
            release.wait(5)
            return NoReply(state)

        with Runtime(child(Doer, id="it", name="it")) as rt:
            rt.cast("it", block)
            try:
                with pytest.raises(CallTimeout):
                    rt.call("it", answer(1), timeout=0.01)
                with pytest.raises(CallTimeout):
                    rt.get_state("it", timeout=0.01)
            finally:
                release.set()
            assert rt.call("it", answer(2)) == 2

    @pytest.mark.parametrize("timeout", [None, float("inf"), 1e12, 5, 5.0])
    def test_a_call_may_wait_for_ever(self, timeout):
        with Runtime(child(Doer, id="it", name="it")) as rt:
            assert rt.call("it", answer(1), timeout=timeout) == 1
            assert rt.get_state("it", timeout=timeout) is None
            rt.stop(timeout=timeout)

    def test_a_stop_with_a_timeout_comes_back_although_a_plain_handler_blocks(self, monkeypatch):
        monkeypatch.setattr("superlearner.otp.runtime._STOP_GRACE", 0.05)
        release = threading.Event()

        def block(state):
            release.wait(5)
            return NoReply(state)

        rt = Runtime(child(Doer, id="it", name="it"))
        rt.start()
        rt.cast("it", block)
        with pytest.raises(CallTimeout):
            rt.stop(timeout=0.01)
        release.set()
        rt.stop()
        assert rt.tree().status == "exited"

    def test_a_callee_that_answers_with_its_own_timeout_error_is_heard(self):
        def fail(sender, state):
            raise TimeoutError("mine")

        with Runtime(child(Doer, id="it", name="it")) as rt, pytest.raises(ProcessDied) as died:
            rt.call("it", fail)
        assert isinstance(died.value.__cause__, TimeoutError)

    @pytest.mark.parametrize("asynchronous_one", [True, False])
    def test_it_runs_once_at_a_time_and_may_be_started_again_after_its_end(self, asynchronous_one):
        async def within():
            rt = Runtime(child(Doer, id="it", name="it"), asynchronous=True)
            pids = []
            for _ in range(2):
                async with rt:
                    pids.append(await rt.whereis("it"))
                    with pytest.raises(AlreadyStarted):
                        rt.start()
            return pids

        if asynchronous_one:
            pids = asyncio.run(within())
        else:
            rt, pids = Runtime(child(Doer, id="it", name="it")), []
            for _ in range(2):
                with rt:
                    pids.append(rt.whereis("it"))
                    with pytest.raises(AlreadyStarted):
                        rt.start()
                    assert rt.call("it", answer(1)) == 1
        assert len(set(pids)) == 2

    @asynchronous
    async def test_a_listener_that_raises_is_reported_and_stops_nothing(self):
        reported = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))

        def listen(event):
            if event.kind == "process_exited":
                raise ValueError("listener")

        async with Runtime(child(Doer, id="it", name="it"), asynchronous=True, on_event=listen) as rt:
            await rt.kill("it")
            await until(rt, "process_restarted")
            assert await rt.call("it", answer(1)) == 1
        assert "on_event" in reported[0]["message"]

    @asynchronous
    async def test_after_the_root_has_ended_every_method_says_so(self):
        async with running(child(Doer, id="it", name="it"), max_restarts=0) as rt:
            await rt.kill("it")
            assert await rt.wait(5) == "shutdown"
            for work in (
                rt.call("it", 1),
                rt.cast("it", 1),
                rt.send("it", 1),
                rt.kill("it"),
                rt.suspend("it"),
                rt.resume("it"),
                rt.get_state("it"),
                rt.replace_state("it", 1),
                rt.processes(),
                rt.process("it"),
                rt.whereis("it"),
                rt.which_children("root"),
                rt.count_children("root"),
                rt.start_child("root", child(Doer)),
                rt.reload(child(Doer, id="it")),
                rt.trace(0),
            ):
                with pytest.raises(NoProcess):
                    await work
            assert (await rt.tree()).status == "exited"
            assert [e.kind for e in await rt.events(kind="supervisor_gave_up")] == ["supervisor_gave_up"]

    @asynchronous
    async def test_events_count_up_and_are_in_time(self):
        async with running(child(Doer, id="it", name="it")) as rt:
            await rt.kill("it", "boom")
            await until(rt, "process_restarted")
            events = await rt.events()
            assert [e.seq for e in events] == list(range(1, len(events) + 1))
            assert [e.at for e in events] == sorted(e.at for e in events)
            exited, scheduled, registered, started, restarted = [e for e in events if e.name == "it"][-5:]
            assert [exited.kind, exited.reason] == ["process_exited", "boom"]
            assert [scheduled.kind, scheduled.cause] == ["restart_scheduled", str(exited.seq)]
            assert registered.kind == "name_registered"
            assert [started.kind, started.cause] == ["process_started", str(scheduled.seq)]
            assert [restarted.kind, restarted.cause] == ["process_restarted", str(scheduled.seq)]
            assert restarted.detail["budget_left"] == 2
            assert await rt.events(since=events[-1].seq) == []


@asynchronous
async def test_an_end_names_the_event_that_brought_it_about():
    children = [child(Doer, id=n, name=n) for n in "abc"]
    async with running(*children, strategy="rest_for_one") as rt:
        await rt.call("a", answer(lambda: link("b")))
        await rt.kill("a", "boom")
        await until(rt, "process_restarted", 3)
        events = await rt.events()
        exits = {e.name: e for e in events if e.kind == "process_exited"}
        (scheduled,) = [e for e in events if e.kind == "restart_scheduled"]
        assert exits["a"].cause is None
        assert exits["b"].cause == scheduled.cause == str(exits["a"].seq)
        assert exits["c"].cause == str(scheduled.seq)
        assert exits["c"].detail["who"] == await rt.whereis("root")
        assert {e.cause for e in events if e.kind == "process_restarted"} == {str(scheduled.seq)}


@asynchronous
async def test_each_try_to_restart_names_the_failure_before_it():
    log = []
    spec = member(log, "a", "ok", "fail", "fail")
    async with running(spec, member(log, "b"), max_restarts=9) as rt:
        await rt.kill("a")
        await rt.kill("b")
        await until(rt, "process_restarted", 2)
        story = [
            e for e in await rt.events() if e.name == "a" and e.kind in {"start_failed", "restart_scheduled"}
        ]
        assert [e.kind for e in story] == ["restart_scheduled", "start_failed"] * 2 + ["restart_scheduled"]
        for before, after in pairwise(story):
            assert after.cause == str(before.seq)


@both_flavours
@asynchronous
async def test_whatever_a_member_is_told_the_log_says_who_stopped(flavour):
    log = []
    async with running(*(member(log, me, cls=flavour(Member)) for me in "abc")):
        assert took(log) == "+a +b +c"
    assert took(log) == "-c -b -a"


@asynchronous
async def test_exit_of_itself_inside_of_a_handler():
    def leave(reason):
        def handle(state):
            exit_(self_(), reason)
            return NoReply("not reached unless trapped")

        return handle

    async with running(
        child(Doer, id="it", name="it", restart="temporary"), child(Trapping, [], id="t", name="t")
    ) as rt:
        await rt.cast("it", leave("normal"))
        (exited,) = await until(rt, "process_exited", name="it")
        assert exited.reason == "normal"
        await rt.cast("t", leave("normal"))
        assert await rt.get_state("t") != []
        pid = await rt.whereis("t")
        await rt.cast("t", leave("kill"))
        (exited,) = await until(rt, "process_exited", name="t")
        assert (exited.reason, exited.pid) == ("killed", pid)
