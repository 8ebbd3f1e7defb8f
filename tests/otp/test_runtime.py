"""The runtime itself: threads, ends, applications, snapshots."""

from __future__ import annotations

import asyncio
import pickle
import signal
import threading

import pytest

from superlearner.errors import (
    CheckpointFailed,
    InvalidSpec,
    NoProcess,
    NotInProcess,
    ProcessDied,
    StartFailed,
    SuperlearnerError,
)
from superlearner.otp import (
    GenServer,
    NoReply,
    Reply,
    Runtime,
    Stop,
    Supervisor,
    Task,
    as_application,
    child,
    self_,
    send_after,
    supervisor,
)
from tests.otp.otp_kit import Stack, asynchronous, until


class Counter(GenServer):
    def init(self, start=0):
        return start

    def handle_call(self, request, sender, state):
        return Reply(state + 1, state + 1)

    def handle_cast(self, message, state):
        raise ValueError("boom")


counter = child(Counter, name="counter")


class TestThread:
    def test_everything_works_from_any_thread(self):
        with Runtime(counter) as rt:
            answers = []
            threads = [
                threading.Thread(target=lambda: answers.append(rt.call("counter", "x"))) for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(answers) == list(range(1, 9))
            assert rt.process("counter").name == "counter"
            assert [p.pid for p in rt.processes()]
            assert rt.snapshot()["version"] == 1

    def test_no_thread_is_left(self):
        before = set(threading.enumerate())
        rt = Runtime(counter)
        rt.start()
        assert len(set(threading.enumerate()) - before) == 1
        rt.stop()
        rt.stop()
        assert set(threading.enumerate()) == before
        with pytest.raises(StartFailed), Runtime(child(Failing)):
            pass
        assert set(threading.enumerate()) == before

    def test_its_end_can_be_waited_for_and_leaves_the_story(self):
        rt = Runtime(supervisor([counter], max_restarts=0))
        with rt:
            with pytest.raises(TimeoutError):
                rt.wait(0.001)
            rt.cast("counter", "x")
            assert rt.wait() == "shutdown"
            for ask in (lambda: rt.call("counter", 1), rt.processes, rt.snapshot):
                with pytest.raises(NoProcess):
                    ask()
            assert rt.tree().status == "exited"
            assert rt.events(kind="supervisor_gave_up")
            assert rt.events(since=10_000) == []

    def test_calling_the_runtime_from_inside_a_process_is_refused(self):
        class Inside(GenServer):
            def handle_call(self, request, sender, state):
                with pytest.raises(NotInProcess):
                    request.call("counter", 1)
                return Reply("refused", state)

        with Runtime(supervisor([counter, child(Inside, name="it")])) as rt:
            assert rt.call("it", rt) == "refused"

    def test_interrupting_a_waiting_call_gives_the_prompt_back(self):
        class Waiting(GenServer):
            def handle_call(self, request, sender, state):
                if request == "wait":
                    threading.Timer(0, main_interrupted).start()
                    return NoReply(state)
                return Reply("alive", state)

        def main_interrupted():
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        with Runtime(child(Waiting, name="it")) as rt:
            with pytest.raises(KeyboardInterrupt):
                rt.call("it", "wait", timeout=None)
            assert rt.call("it", "still there?") == "alive"

    def test_tasks_that_a_handler_left_running_end_with_the_runtime(self):
        ended = []

        class Background(GenServer):
            def handle_call(self, request, sender, state):
                async def work():
                    try:
                        await asyncio.Event().wait()
                    finally:
                        ended.append(True)

                self.work = asyncio.create_task(work())
                return Reply("ok", state)

            def handle_cast(self, message, state):
                async def leave():
                    raise SystemExit

                self.leave = asyncio.create_task(leave())
                return NoReply(state)

        with Runtime(child(Background, name="it")) as rt:
            rt.call("it", "go")
            rt.cast("it", "leave")
            assert rt.call("it", "go") == "ok"
        assert ended == [True, True]

    def test_the_wrong_kind_of_with_is_refused(self):
        with pytest.raises(TypeError, match="async with"), Runtime(counter, asynchronous=True):
            pass
        rt = Runtime(counter)
        assert rt.handled == 0
        rt.stop()
        with pytest.raises(NoProcess):
            rt.call("counter", 1)


class Failing(GenServer):
    def init(self):
        return Stop("no")


class TestAsynchronous:
    @asynchronous
    async def test_stopping_before_the_start_and_twice_is_harmless(self):
        rt = Runtime(counter, asynchronous=True)
        await rt.stop()
        await rt.start()
        await rt.stop("enough")
        await rt.stop()
        assert await rt.wait() == "enough"

    @asynchronous
    async def test_a_start_that_is_cancelled_leaves_nothing(self):
        entered = asyncio.Event()

        class Hanging(GenServer):
            async def init(self):
                entered.set()
                await asyncio.Event().wait()

        starting = asyncio.ensure_future(Runtime(child(Hanging), asynchronous=True).start())
        await entered.wait()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    @asynchronous
    async def test_timers_end_with_the_runtime(self):
        class Ticking(GenServer):
            def init(self):
                send_after(self_(), "tick", 60)
                send_after("it", "tick", 60)
                return 0

        async with Runtime(child(Ticking, name="it"), asynchronous=True):
            pass
        scheduled = [h for h in asyncio.get_running_loop()._scheduled if not h.cancelled()]
        assert len(scheduled) == 1  # the test's own time limit


class TestApplication:
    def test_what_can_be_an_application(self):
        spec = supervisor([counter])
        assert as_application(spec) is spec
        assert as_application(counter).children == (counter,)
        assert as_application(Counter).children[0].start is Counter
        assert as_application(f"{__name__}:counter").children == (counter,)

        class Pool(Supervisor):
            def init(self):
                return spec

        assert as_application(Pool).children[0].type == "supervisor"

    @pytest.mark.parametrize(
        "bad", [3, object, "json", "json:nothing", "no.such.module:x", ":x", "json:loads"]
    )
    def test_what_cannot_is_refused_with_what_to_write(self, bad):
        with pytest.raises(InvalidSpec):
            as_application(bad)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: child(3), "cannot be a child"),
            (lambda: child(int), "cannot be a child"),
            (lambda: child(Task), "child(Task, fn"),
            (lambda: child(counter, 1), "has its arguments already"),
            (lambda: child(Counter, restrat="x"), "did you mean 'restart'"),
            (lambda: supervisor([], strategie="x"), "did you mean 'strategy'"),
            (lambda: supervisor([3]), "write child(3)"),
        ],
    )
    def test_specs_teach_at_construction(self, make, message):
        with pytest.raises(InvalidSpec) as error:
            make()
        assert message in str(error.value)

    def test_specs_have_the_defaults_of_otp(self):
        assert child(Counter).id == "Counter"
        assert child(counter, id="other", name=None).start is Counter
        assert child(Task, print).restart == "temporary"
        assert child(asyncio.sleep, 1).id == "sleep"
        assert supervisor([Counter]).children[0].id == "Counter"


class TestSnapshot:
    @asynchronous
    async def test_states_and_added_children_come_back_once(self):
        jobs = supervisor([], id="jobs", name="jobs", kind="dynamic")
        app = supervisor([counter, jobs], max_restarts=10)
        async with Runtime(app, asynchronous=True) as rt:
            for _ in range(3):
                await rt.call("counter", "x")
            job = await rt.start_child("jobs", child(Counter, id="job"))
            await rt.start_child("jobs", child(Counter, 100, id="job", name="second"))
            await rt.call(job, "x")
            await rt.start_child("root", child(Counter, id="added", name="added"))
            saved = pickle.loads(pickle.dumps(rt.snapshot()))
        async with Runtime(app, asynchronous=True, restore=saved) as rt:
            assert await rt.get_state("counter") == 3
            assert [c.id for c in await rt.which_children("jobs")] == ["job", "job#2"]
            assert [await rt.get_state(c.pid) for c in await rt.which_children("jobs")] == [1, 100]
            assert await rt.get_state("added") == 0
            assert min(int(p.pid[1:-1].split(".")[2]) for p in await rt.processes()) >= saved["next_serial"]
            await rt.kill("counter")
            await until(rt, "process_restarted")
            assert await rt.get_state("counter") == 0

    @asynchronous
    async def test_a_tree_that_comes_down_is_not_copied(self):
        seen = []

        class Slow(Stack):
            trap_exit = True

            async def terminate(self, reason, state):
                for _ in range(3):
                    await asyncio.sleep(0)
                    seen.append(rt.falling)
                    with pytest.raises(CheckpointFailed, match="coming down"):
                        rt.snapshot()

        app = supervisor([child(Slow, id="slow"), counter], max_restarts=0)
        async with Runtime(app, asynchronous=True) as rt:
            assert not rt.falling
            rt.kernel.find("counter").die("killed")
            assert rt.falling, "its supervisor has not decided yet"
            with pytest.raises(CheckpointFailed):
                rt.snapshot()
            assert await rt.wait() == "shutdown"
            assert seen == [True] * 3
            assert not rt.falling
            with pytest.raises(SuperlearnerError):
                rt.snapshot()

    @asynchronous
    async def test_a_tree_whose_process_was_started_again_is_copied(self):
        async with Runtime(supervisor([counter], max_restarts=5), asynchronous=True) as rt:
            await rt.call("counter", "x")
            await rt.kill("counter")
            await until(rt, "process_restarted")
            assert list(rt.snapshot()["states"]) == [("Counter",)]

    @asynchronous
    async def test_a_bad_state_is_skipped_with_its_reason(self):
        app = supervisor([counter, child(Stack, threading.Lock(), name="stack")])
        async with Runtime(app, asynchronous=True) as rt:
            saved = rt.snapshot()
        assert set(saved["states"]) == {("Counter",)}
        assert "lock" in saved["skipped"][("Stack",)]

    @asynchronous
    async def test_states_of_local_classes_travel_by_value(self):
        class Local:
            value = 7

        async with Runtime(child(Stack, Local(), name="it"), asynchronous=True) as rt:
            saved = rt.snapshot()
        assert pickle.loads(saved["states"][("Stack",)])[0].value == 7

    @pytest.mark.parametrize("wait", [False, True])
    @asynchronous
    async def test_the_hook_decides_what_is_taken_over(self, wait):
        class Hooked(Counter):
            def init(self):
                return 1000

            def restore(self, saved, state):
                return saved + state

        class Waiting(Hooked):
            async def restore(self, saved, state):
                await asyncio.sleep(0)
                return saved + state

        app = child(Waiting if wait else Hooked, id="it", name="it")
        saved = {
            "version": 1,
            "next_serial": 1,
            "states": {("it",): pickle.dumps(5)},
            "children": {},
            "skipped": {},
        }
        async with Runtime(app, asynchronous=True, restore=saved) as rt:
            assert await rt.get_state("it") == 1005

    @asynchronous
    async def test_a_checkpoint_that_cannot_be_taken_over_fails_the_start(self):
        saved = {
            "version": 1,
            "next_serial": 1,
            "states": {("Counter",): b"broken"},
            "children": {},
            "skipped": {},
        }
        with pytest.raises(StartFailed):
            await Runtime(counter, asynchronous=True, restore=saved).start()
        with pytest.raises(StartFailed, match="version 9"):
            await Runtime(counter, asynchronous=True, restore=saved | {"version": 9}).start()

    @asynchronous
    async def test_a_restored_job_that_cannot_start_any_more_is_left_out(self):
        jobs = supervisor([], id="jobs", name="jobs", kind="dynamic")
        added = pickle.dumps([("bad", child(Failing, id="bad")), ("good", child(Counter, id="good"))])
        saved = {"version": 1, "next_serial": 1, "states": {}, "children": {("jobs",): added}, "skipped": {}}
        async with Runtime(supervisor([jobs]), asynchronous=True, restore=saved) as rt:
            assert [c.id for c in await rt.which_children("jobs")] == ["good"]
        static = saved | {"children": {(): added}}
        with pytest.raises(StartFailed):
            await Runtime(supervisor([]), asynchronous=True, restore=static).start()

    def test_a_crash_comes_with_its_cause_across_threads(self):
        with Runtime(child(Stack, name="it")) as rt, pytest.raises(ProcessDied) as error:
            rt.call("it", ("raise", ValueError("boom")))
        assert isinstance(error.value.__cause__, ValueError)
