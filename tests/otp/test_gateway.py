"""How a kernel reaches processes of other sandboxes: what goes through its gateway, and what stays here."""

from __future__ import annotations

import asyncio

import pytest
from otp_kit import Stack, as_process, asynchronous, inside

from superlearner.errors import CallTimeout, NoProcess, NotSerializable, ProcessDied, Unsupported
from superlearner.otp import (
    Down,
    Runtime,
    Task,
    call,
    cast,
    child,
    demonitor,
    exit_,
    link,
    monitor,
    receive,
    self_,
    send,
    send_after,
    spawn,
    start_child,
    supervisor,
    unlink,
    whereis,
)
from superlearner.otp._gateway import Far
from superlearner.otp._pid import Pid


class FakeGateway:
    """Remembers what was asked of it; its answers are the test's."""

    def __init__(self):
        self.calls = []
        self.posts = []
        self.watches = {}
        self.refusal = None
        self.asked = asyncio.Event()

    def call(self, to, request, caller, timeout, request_id=None):
        if self.refusal is not None:
            raise self.refusal
        future = asyncio.get_running_loop().create_future()
        self.calls.append((to, request, caller, timeout, future))
        self.asked.set()
        return future

    def post(self, verb, to, message):
        if self.refusal is not None:
            raise self.refusal
        self.posts.append((verb, to, message))
        self.asked.set()

    def watch(self, to, on_down):
        self.watches[to] = on_down
        self.asked.set()
        return lambda: self.watches.pop(to)

    def whereis(self, to):
        future = asyncio.get_running_loop().create_future()
        future.set_result(Pid.of("beta", to.sandbox, 7))
        return future


COUNTER = Far("shop", "counter")
ELSEWHERE = Pid.of("beta", "shop", 3)


def through(test):
    """The test runs as a process of sandbox ``own``, with a fake gateway."""

    @asynchronous
    async def run():
        gateway = FakeGateway()
        await inside(
            lambda: test(gateway), child(Stack, id="stack", name="stack"), gateway=gateway, sandbox="own"
        )

    return run


async def _answered(gateway):
    await gateway.asked.wait()
    to, request, caller, timeout, future = gateway.calls[0]
    assert (to, request, timeout) == (COUNTER, "increment", 2.0)
    assert caller.sandbox == "own"
    future.set_result(42)


@through
async def test_a_call_goes_out_with_its_caller_and_comes_back_with_its_answer(gateway):
    spawn(_answered, gateway)
    assert await call("shop/counter", "increment", timeout=2.0) == 42


@through
async def test_a_call_that_is_not_answered_in_time_is_given_up(gateway):
    with pytest.raises(CallTimeout, match="shop/counter"):
        await call("shop/counter", "increment", timeout=0.01)
    assert gateway.calls[0][-1].done()


async def _calling():
    await call("shop/counter", "increment", timeout=None)


@through
async def test_a_caller_that_dies_gives_its_call_up(gateway):
    pid, _ref = spawn(_calling, monitor=True)
    await gateway.asked.wait()
    exit_(pid, "kill")
    await receive(Down)
    await asyncio.sleep(0)
    assert gateway.calls[0][-1].cancelled()


@through
async def test_casts_and_messages_go_out_by_name_by_pid_and_to_partitions(gateway):
    cast("shop/counter", 1)
    send("shop/counter", 2)
    send(ELSEWHERE, 3)
    send(str(ELSEWHERE), 4)
    cast(("shop/shards", "ann"), 5)
    assert gateway.posts == [
        ("cast", COUNTER, 1),
        ("send", COUNTER, 2),
        ("send", Far("shop", ELSEWHERE), 3),
        ("send", Far("shop", ELSEWHERE), 4),
        ("cast", Far("shop", ("shards", "ann")), 5),
    ]


@through
async def test_a_timer_sends_into_another_sandbox(gateway):
    send_after("shop/counter", "tick", 0)
    await gateway.asked.wait()
    assert gateway.posts == [("send", COUNTER, "tick")]


@through
async def test_what_names_the_own_sandbox_stays_here(gateway):
    cast("own/stack", ("push", 1))
    assert await call("own/stack", "state") == [1]
    assert whereis("own/stack") == whereis("stack")
    assert await call(whereis("stack"), "state") == [1]
    with pytest.raises(NoProcess):
        await call("own/nobody", "state")
    with pytest.raises(NoProcess):
        await call(Pid.of("alpha", "own", 999), "state")
    ref = monitor("own/nobody")
    assert await receive() == Down(ref, "own/nobody", "noproc")
    assert not gateway.asked.is_set()


@through
async def test_what_cannot_leave_is_refused_in_the_sender(gateway):
    gateway.refusal = NotSerializable("the message", "it is a lock")
    for verb in (cast, send):
        with pytest.raises(NotSerializable):
            verb("shop/counter", "a lock")
    with pytest.raises(NotSerializable):
        await call("shop/counter", "a lock")


@through
async def test_a_monitor_tells_the_end_of_a_process_elsewhere_once(gateway):
    ref = monitor("shop/counter")
    gateway.watches[COUNTER](ELSEWHERE, "tired")
    assert await receive() == Down(ref, ELSEWHERE, "tired")
    ref = monitor(ELSEWHERE)
    gateway.watches[Far("shop", ELSEWHERE)](None, "noconnection")
    assert await receive() == Down(ref, ELSEWHERE, "noconnection")


@through
async def test_without_a_pid_a_down_names_what_was_asked_for(gateway):
    ref = monitor("shop/counter")
    gateway.watches[COUNTER](None, "noconnection")
    assert await receive() == Down(ref, "shop/counter", "noconnection")


@through
async def test_demonitor_ends_the_watch(gateway):
    demonitor(monitor("shop/counter"))
    assert not gateway.watches


async def _watching():
    monitor("shop/counter")
    await receive()


@through
async def test_a_watcher_that_dies_ends_its_watches(gateway):
    pid, _ref = spawn(_watching, monitor=True)
    await gateway.asked.wait()
    exit_(pid, "kill")
    await receive(Down)
    assert not gateway.watches


@through
async def test_links_and_exit_signals_do_not_reach_elsewhere_and_say_what_does(gateway):
    for verb, refused in (("link", link), ("exit_", exit_)):
        with pytest.raises(
            Unsupported, match=rf"{verb}\(\) does not reach .* nothing was done\. Use monitor"
        ):
            refused("shop/counter")
    unlink("shop/counter")


@through
async def test_the_pid_of_a_name_elsewhere_is_awaited(gateway):
    assert await whereis("shop/counter") == Pid.of("beta", "shop", 7)


@through
async def test_supervisors_of_other_sandboxes_take_their_verbs(gateway):
    asked = start_child("shop/pool", child(Stack, id="one"))
    to, verb, caller, _, future = gateway.calls[0]
    assert (to, verb.name, caller) == (Far("shop", "pool"), "start_child", self_())
    future.set_result(ELSEWHERE)
    assert await asked == ELSEWHERE


@as_process
async def test_without_a_gateway_nobody_is_elsewhere():
    with pytest.raises(NoProcess):
        await call("shop/counter", "increment")
    cast("shop/counter", 1)
    send(ELSEWHERE, 1)
    assert whereis("shop/counter") is None
    ref = monitor("shop/counter")
    assert await receive() == Down(ref, "shop/counter", "noproc")


@asynchronous
async def test_a_trace_shows_what_leaves_with_its_address():
    gateway = FakeGateway()
    begin = asyncio.Event()

    async def script():
        await begin.wait()
        cast("shop/counter", "hello")
        gateway.asked.clear()
        call_ = asyncio.ensure_future(call("shop/counter", "increment"))
        await gateway.asked.wait()
        gateway.calls[0][-1].set_exception(ProcessDied("tired"))
        with pytest.raises(ProcessDied):
            await call_

    app = supervisor([child(Task, script, id="script", restart="temporary")])
    async with Runtime(app, asynchronous=True, gateway=gateway, sandbox="own") as runtime:
        tracing = asyncio.ensure_future(runtime.trace(5.0, limit=2))
        await asyncio.sleep(0)
        begin.set()
        events = await tracing
    assert [(e.kind, e.form, e.peer, e.message) for e in events] == [
        ("send", "cast", "shop/counter", "'hello'"),
        ("send", "call", "shop/counter", "'increment'"),
    ]
