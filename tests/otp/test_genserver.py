"""GenServer: what each handler may return, and what each return does."""

from __future__ import annotations

import asyncio

import pytest

from superlearner.errors import (
    BadReturn,
    CallsItself,
    CallTimeout,
    NoProcess,
    NotInProcess,
    ProcessDied,
    StartFailed,
)
from superlearner.otp import (
    Exit,
    ExitSignal,
    GenServer,
    Ignore,
    NoReply,
    Reply,
    Runtime,
    Stop,
    Timeout,
    call,
    cast,
    child,
    exit_,
    reply,
    self_,
    send,
    supervisor,
)
from tests.otp.otp_kit import Stack, asynchronous, until


def app(cls, *args, **options):
    return supervisor([child(cls, *args, id="it", name="it", **options)], max_restarts=100)


def stack(*first):
    return Runtime(app(Stack, *first), asynchronous=True)


class TestCall:
    @asynchronous
    async def test_a_reply_carries_the_value_and_keeps_the_state(self):
        async with stack("a", "b") as rt:
            assert await rt.call("it", "pop") == "a"
            assert await rt.call("it", "state") == ["b"]

    @asynchronous
    async def test_a_pid_and_its_text_are_addresses_too(self):
        async with stack("a") as rt:
            pid = await rt.whereis("it")
            assert await rt.call(pid, "state") == await rt.call(str(pid), "state") == ["a"]

    @asynchronous
    async def test_nobody_there_is_an_error_of_its_own(self):
        async with stack() as rt:
            for target in ("nobody", "<local.main.999>", ("it", 1), ("nobody", 1), ["unhashable"]):
                with pytest.raises(NoProcess):
                    await rt.call(target, "state")

    @asynchronous
    async def test_a_late_reply_is_dropped(self):
        senders = []

        class Slow(GenServer):
            def handle_call(self, request, sender, state):
                if request == "answer now":
                    reply(senders[0], "late")
                    return Reply("ok", NoReply)
                senders.append(sender)
                return NoReply(state)

        async with Runtime(app(Slow), asynchronous=True) as rt:
            with pytest.raises(CallTimeout) as error:
                await rt.call("it", "wait", timeout=0.01)
            assert error.value.definite is False
            assert isinstance(error.value, TimeoutError)
            assert await rt.call("it", "answer now") == "ok"

    @asynchronous
    async def test_a_call_may_be_answered_later_and_by_another_process(self):
        class Deferred(GenServer):
            def handle_call(self, request, sender, state):
                cast("other", ("answer", sender, request))
                return NoReply(state)

        class Other(GenServer):
            def handle_cast(self, message, state):
                _, sender, value = message
                reply(sender, value * 2)
                return NoReply(state)

        spec = supervisor([child(Other, name="other"), child(Deferred, name="it")])
        async with Runtime(spec, asynchronous=True) as rt:
            assert await rt.call("it", 21) == 42

    @asynchronous
    async def test_a_callee_that_dies_before_it_answers_tells_why(self):
        async with stack() as rt:
            waiting = asyncio.ensure_future(rt.call("it", "noreply", timeout=None))
            await rt.call("it", "state")
            await rt.kill("it")
            with pytest.raises(ProcessDied) as error:
                await waiting
            assert error.value.reason == "killed"

    @asynchronous
    async def test_calls_still_in_the_mailbox_fail_with_their_callee(self):
        async with stack() as rt:
            first = asyncio.ensure_future(rt.call("it", ("stop", "tired")))
            second = asyncio.ensure_future(rt.call("it", "state"))
            for waiting in (first, second):
                with pytest.raises(ProcessDied) as error:
                    await waiting
                assert error.value.reason == "tired"

    @asynchronous
    async def test_the_callees_exception_is_the_cause(self):
        async with stack() as rt:
            with pytest.raises(ProcessDied) as error:
                await rt.call("it", ("raise", ValueError("boom")))
            reason = error.value.reason
            assert isinstance(reason, Exit)
            assert "ValueError: boom" in reason.traceback
            assert isinstance(error.value.__cause__, ValueError)

    def test_a_process_cannot_call_itself(self):
        class Selfish(GenServer):
            async def handle_call(self, request, sender, state):
                with pytest.raises(CallsItself):
                    await call(self_(), "again")
                return Reply("fine", NoReply)

        with Runtime(app(Selfish)) as rt:
            assert rt.call("it", "go") == "fine"

    def test_a_plain_handler_cannot_wait_and_is_told_so(self):
        class Plain(GenServer):
            def handle_call(self, request, sender, state):
                with pytest.raises(NotInProcess, match="plain function"):
                    call("other", "state")
                return Reply("told", state)

        with Runtime(app(Plain)) as rt:
            assert rt.call("it", "go") == "told"

    @asynchronous
    async def test_async_handlers_call_other_servers_in_turn(self):
        class Middle(GenServer):
            async def handle_call(self, request, sender, state):
                await asyncio.sleep(0)
                return Reply(await call("stack", request), state)

        spec = supervisor([child(Stack, 1, 2, name="stack"), child(Middle, name="it")])
        async with Runtime(spec, asynchronous=True) as rt:
            assert await asyncio.gather(rt.call("it", "pop"), rt.call("it", "pop")) == [1, 2]

    def test_the_verbs_refuse_to_work_outside_of_a_process(self):
        with pytest.raises(NotInProcess, match="self_"):
            self_()


class TestStop:
    @asynchronous
    async def test_stop_with_a_reply_terminates_first_and_then_answers(self):
        order = []

        class Stopping(GenServer):
            def init(self):
                return "before"

            def handle_call(self, request, sender, state):
                return Stop("shutdown", reply="bye", state="after")

            def terminate(self, reason, state):
                order.append((reason, state))

        async with Runtime(app(Stopping, restart="transient"), asynchronous=True) as rt:
            assert await rt.call("it", "stop") == "bye"
            assert order == [("shutdown", "after")]

    @asynchronous
    async def test_stop_without_a_reply_fails_the_caller_with_the_reason(self):
        async with stack() as rt:
            with pytest.raises(ProcessDied) as error:
                await rt.call("it", ("stop", ("shutdown", "enough")))
            assert error.value.reason == ("shutdown", "enough")

    @pytest.mark.parametrize(
        "how", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()]
    )
    @asynchronous
    async def test_no_exception_reaches_further_than_its_process(self, how):
        async with stack("still here") as rt:
            with pytest.raises(ProcessDied) as error:
                await rt.call("it", ("raise", how))
            assert isinstance(error.value.reason, Exit)
            await until(rt, "process_restarted")
            assert await rt.call("it", "state") == ["still here"]

    @asynchronous
    async def test_raising_exit_leaves_with_a_plain_reason(self):
        async with stack() as rt:
            with pytest.raises(ProcessDied) as error:
                await rt.call("it", ("raise", Exit("tired")))
            assert error.value.reason == "tired"

    @pytest.mark.parametrize(
        ("where", "value"),
        [
            ("call", None),
            ("call", "a bare value"),
            ("call", Ignore()),
            ("cast", None),
            ("cast", Reply(1, 2)),
            ("info", None),
            ("info", Ignore()),
        ],
    )
    @asynchronous
    async def test_nonsense_ends_the_process_and_the_error_teaches(self, where, value):
        async with stack() as rt:
            waiting = asyncio.ensure_future(rt.call("it", "noreply"))
            await asyncio.sleep(0)
            if where == "call":
                asyncio.ensure_future(rt.call("it", ("return", value))).add_done_callback(
                    lambda f: f.exception()
                )
            else:
                await (rt.cast if where == "cast" else rt.send)("it", ("return", value))
            with pytest.raises(ProcessDied, match=f"handle_{where} returned") as error:
                await waiting
            assert isinstance(error.value.__cause__, BadReturn)
            if where != "call":
                assert "return the new state" in str(error.value)

    @asynchronous
    async def test_none_is_a_state_when_it_is_said(self):
        async with stack("x") as rt:
            await rt.cast("it", ("return", NoReply(None)))
            assert await rt.get_state("it") is None

    @asynchronous
    async def test_what_a_verb_returns_is_no_state(self):
        class Forgetful(GenServer):
            def handle_cast(self, message, state):
                return send(self_(), "me")

        async with Runtime(app(Forgetful), asynchronous=True) as rt:
            await rt.cast("it", "go")
            (event,) = await until(rt, "process_exited")
            assert "returned ok" in event.reason


class TestInit:
    @asynchronous
    async def test_stop_from_init_fails_the_start_with_a_plain_reason(self):
        class Refusing(GenServer):
            def init(self):
                return Stop("no money")

        with pytest.raises(StartFailed) as error:
            await Runtime(app(Refusing), asynchronous=True).start()
        assert error.value.reason == ("shutdown", ("failed_to_start_child", "it", "no money"))

    @pytest.mark.parametrize("wait", [False, True])
    def test_an_exception_in_init_fails_the_start_and_is_its_cause(self, wait):
        class Plain(GenServer):
            def init(self):
                raise ValueError("boom")

        class Async(GenServer):
            async def init(self):
                await asyncio.sleep(0)
                raise ValueError("boom")

        with pytest.raises(StartFailed, match="boom") as error, Runtime(app(Async if wait else Plain)):
            pass
        assert isinstance(error.value.__cause__, ValueError)

    def test_init_that_forgets_its_state_is_told_so(self):
        class Forgetful(GenServer):
            def init(self):
                self.ready = True

        with pytest.raises(StartFailed, match=r"NoReply\(None\)"), Runtime(app(Forgetful)):
            pass

    def test_ignore_lets_the_supervisor_go_on_without(self):
        class Ignoring(GenServer):
            def init(self):
                return Ignore()

        with Runtime(app(Ignoring)) as rt:
            assert rt.which_children("root") == [("it", None, "worker", "exited")]
            assert rt.whereis("it") is None

    def test_the_default_init_keeps_its_argument(self):
        with Runtime(app(GenServer, "given")) as rt:
            assert rt.get_state("it") == "given"

    def test_a_start_that_takes_too_long_says_so(self):
        class Hanging(GenServer):
            async def init(self):
                await asyncio.Event().wait()

        with (
            pytest.raises(StartFailed, match=r"timed out after 0\.01 s"),
            Runtime(app(Hanging), start_timeout=0.01),
        ):
            pass


class TestMessages:
    @asynchronous
    async def test_casts_and_messages_come_in_order(self):
        async with stack() as rt:
            await rt.cast("it", ("push", 1))
            await rt.send("it", "two")
            await rt.cast("it", ("push", 3))
            assert await rt.call("it", "state") == [3, "two", 1]

    @asynchronous
    async def test_sending_to_nobody_is_no_error(self):
        async with stack() as rt:
            await rt.cast("nobody", 1)
            await rt.send(("nobody", 1), 1)

    @asynchronous
    async def test_the_default_handlers_refuse_calls_and_casts_and_drop_messages(self):
        async with Runtime(app(GenServer), asynchronous=True) as rt:
            await rt.send("it", "whatever")
            with pytest.raises(ProcessDied, match="has no handle_call"):
                await rt.call("it", "what")
            await until(rt, "process_restarted")
            await rt.cast("it", "what")
            events = await until(rt, "process_exited", 2)
            assert "has no handle_cast" in events[1].reason

    @asynchronous
    async def test_messages_can_be_copied_to_show_why(self):
        shared = [1]
        async with Runtime(app(Stack), asynchronous=True) as rt:
            await rt.cast("it", ("push", shared))
            assert (await rt.get_state("it"))[0] is shared
        async with Runtime(app(Stack), asynchronous=True, copy_messages=True) as rt:
            await rt.cast("it", ("push", shared))
            (got,) = await rt.get_state("it")
            assert got == shared
            assert got is not shared
            assert await rt.call("it", "pop") is not got

    @asynchronous
    async def test_a_long_queue_does_not_starve_the_loop(self):
        async with stack() as rt:
            for n in range(2_000):
                rt.kernel.cast("it", ("push", n))
            turns = 0
            while len(await rt.get_state("it")) < 2_000:
                turns += 1
            assert len(await rt.call("it", "state")) == 2_000


class TestContinue:
    @asynchronous
    async def test_continue_comes_before_any_other_message(self):
        class Continuing(GenServer):
            def init(self):
                send(self_(), "message")
                return NoReply([], continue_="first")

            def handle_continue(self, value, state):
                if value == "first":
                    return NoReply([*state, value], continue_="second")
                return [*state, value]

            def handle_info(self, message, state):
                return [*state, message]

            def handle_call(self, request, sender, state):
                send(self_(), "later")
                return Reply(list(state), state, continue_="after reply")

        async with Runtime(app(Continuing), asynchronous=True) as rt:
            assert await rt.call("it", "state") == ["first", "second", "message"]
            assert await rt.get_state("it") == ["first", "second", "message", "after reply", "later"]

    @asynchronous
    async def test_a_server_without_handle_continue_is_told(self):
        class Missing(GenServer):
            def init(self):
                return NoReply(0)

            def handle_cast(self, message, state):
                return NoReply(state, continue_=1)

        async with Runtime(app(Missing), asynchronous=True) as rt:
            await rt.cast("it", 1)
            (event,) = await until(rt, "process_exited")
            assert "has no handle_continue" in event.reason


class TestTimeout:
    class Impatient(GenServer):
        def init(self, seen, timeout):
            self.seen, self.timeout = seen, timeout
            return NoReply(0, timeout=timeout)

        def handle_info(self, message, state):
            self.seen.put_nowait(message)
            return state + 1

        def handle_cast(self, message, state):
            return NoReply(state, timeout=self.timeout)

    @asynchronous
    async def test_silence_brings_a_timeout_once(self):
        seen = asyncio.Queue()
        async with Runtime(app(self.Impatient, seen, 0.001), asynchronous=True) as rt:
            assert await seen.get() == Timeout()
            assert await rt.get_state("it") == 1
            assert seen.empty()

    @asynchronous
    async def test_any_message_comes_before_a_timeout_of_nought(self):
        seen = asyncio.Queue()
        async with Runtime(app(self.Impatient, seen, 0), asynchronous=True) as rt:
            await rt.send("it", "before")
            assert await seen.get() == "before"
            await rt.cast("it", "again")
            assert await seen.get() == Timeout()

    @asynchronous
    async def test_looking_at_the_state_does_not_disarm_it(self):
        seen = asyncio.Queue()
        async with Runtime(app(self.Impatient, seen, 0.01), asynchronous=True) as rt:
            await asyncio.sleep(0)
            await rt.get_state("it")
            assert await seen.get() == Timeout()


class TestTerminate:
    class Witness(GenServer):
        def init(self, seen):
            self.seen = seen
            return "state"

        def terminate(self, reason, state):
            self.seen.append((reason, state))

        def handle_cast(self, message, state):
            raise Exit(message)

        def handle_info(self, message, state):
            self.seen.append(message)
            return state

    class TrappingWitness(Witness):
        trap_exit = True

    @asynchronous
    async def test_it_is_called_on_a_crash(self):
        seen = []
        async with Runtime(app(self.Witness, seen), asynchronous=True) as rt:
            await rt.cast("it", "crash")
            await until(rt, "process_exited")
            assert seen == [("crash", "state")]

    @asynchronous
    async def test_it_is_called_on_shutdown_only_when_exits_are_trapped(self):
        plain, trapping = [], []
        async with Runtime(app(self.Witness, plain), asynchronous=True):
            pass
        async with Runtime(app(self.TrappingWitness, trapping), asynchronous=True):
            pass
        assert (plain, trapping) == ([], [("shutdown", "state")])

    @asynchronous
    async def test_it_is_not_called_on_kill(self):
        seen = []
        async with Runtime(app(self.TrappingWitness, seen, restart="temporary"), asynchronous=True) as rt:
            await rt.kill("it")
            assert seen == []

    @asynchronous
    async def test_an_exit_signal_from_a_stranger_is_a_message_when_trapped(self):
        seen = []
        async with Runtime(app(self.TrappingWitness, seen), asynchronous=True) as rt:
            await rt.kill("it", "nudge")
            await rt.get_state("it")
            assert seen == [ExitSignal(rt.kernel.outside, "nudge")]

    @pytest.mark.parametrize("wait", [False, True])
    @asynchronous
    async def test_a_crash_of_terminate_gives_the_reason(self, wait):
        class Plain(GenServer):
            def handle_cast(self, message, state):
                return Stop("first")

            def terminate(self, reason, state):
                raise ValueError("second")

        class Async(Plain):
            async def terminate(self, reason, state):
                await asyncio.sleep(0)
                raise ValueError("second")

        async with Runtime(app(Async if wait else Plain), asynchronous=True) as rt:
            await rt.cast("it", "stop")
            (event,) = await until(rt, "process_exited")
            assert event.reason == "ValueError: second"

    @asynchronous
    async def test_an_async_terminate_is_awaited(self):
        seen = []

        class Async(GenServer):
            trap_exit = True

            async def terminate(self, reason, state):
                await asyncio.sleep(0)
                seen.append(reason)

        async with Runtime(app(Async), asynchronous=True):
            pass
        assert seen == ["shutdown"]


class TestKill:
    @asynchronous
    async def test_a_hanging_handler_is_cancelled(self):
        entered, unwound = asyncio.Event(), []

        class Hanging(GenServer):
            async def handle_cast(self, message, state):
                try:
                    entered.set()
                    await asyncio.Event().wait()
                finally:
                    unwound.append(True)

        async with Runtime(app(Hanging), asynchronous=True) as rt:
            await rt.cast("it", "hang")
            await entered.wait()
            await rt.kill("it")
            await until(rt, "process_restarted")
            assert unwound == [True]

    @asynchronous
    async def test_a_handler_that_swallows_its_cancellation_is_dead_for_everybody(self):
        entered = asyncio.Event()

        class Stubborn(GenServer):
            async def handle_cast(self, message, state):
                while True:
                    try:
                        entered.set()
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        pass

        async with Runtime(app(Stubborn, restart="temporary"), asynchronous=True) as rt:
            await rt.cast("it", "hang")
            await entered.wait()
            await rt.kill("it")
            assert await rt.whereis("it") is None
            (event,) = await until(rt, "process_orphaned")
            assert event.detail["swallowed"] == "CancelledError"

    @asynchronous
    async def test_what_is_left_of_a_dead_process_can_do_nothing_more(self):
        refused = []

        class Leftover(GenServer):
            async def handle_cast(self, message, state):
                try:
                    exit_(self_(), "kill")
                finally:
                    try:
                        send("it", "from beyond")
                    except Exit as error:
                        refused.append(error.reason)

        async with Runtime(app(Leftover), asynchronous=True) as rt:
            await rt.cast("it", "go")
            await until(rt, "process_restarted")
        assert refused == ["killed"]
