"""Processes of two sandboxes that talk to each other, through their hosts and instances in one loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading

import pytest
from sandbox_kit import on_a_node

from superlearner.errors import CallTimeout, NoProcess, NoSandbox, NotSerializable, ProcessDied, SandboxFailed
from superlearner.otp import (
    Down,
    GenServer,
    NoReply,
    Reply,
    Stop,
    _process,
    call,
    cast,
    child,
    demonitor,
    exit_,
    monitor,
    receive,
    reply,
    self_,
    send,
    spawn,
    supervisor,
    whereis,
)
from superlearner.sandbox.outward import _fell, _last_word
from superlearner.sandbox.payload import dumps, dumps_error, loads


class Talker(GenServer):
    """Does what it is told, and remembers what it is sent."""

    def init(self):
        return []

    async def handle_call(self, request, sender, state):
        match request:
            case "seen":
                return Reply(state, state)
            case "who":
                return Reply(sender.pid, state)
            case "never":
                return NoReply(state)
            case "later":
                return NoReply([*state, sender])
            case "watchers":
                return Reply(len(_process.current.get().watchers), state)
            case ("stop", reason):
                return Stop(reason, reply="stopping")
            case ("raise", error):
                raise error
            case ("do", function):
                return Reply(await function(), state)

    def handle_cast(self, message, state):
        if message == "answer":
            reply(state[-1], "at last")
            return state[:-1]
        return [*state, message]

    def handle_info(self, message, state):
        return [*state, message]


async def a_pair(node):
    app = supervisor([child(Talker, id="talker", name="talker")], max_restarts=100)
    shop, bank = node.box(app), node.box(app, id="bank")
    await asyncio.gather(shop.instance.start(), bank.instance.start())
    return shop, bank


def do(box, function):
    return box.call(("do", function), "talker", timeout=10)


@on_a_node
async def test_a_call_of_a_process_elsewhere_comes_from_its_own_pid(node):
    shop, _ = await a_pair(node)
    assert await do(shop, lambda: call("bank/talker", "who")) == await shop.command("whereis", "talker")


@on_a_node
async def test_the_pid_of_a_caller_leads_back_to_it(node):
    shop, bank = await a_pair(node)

    async def greet():
        send(await call("shop/talker", "who"), "to myself")
        cast("shop/talker", ("hello from", self_()))
        return await whereis("shop/talker")

    there = await do(bank, greet)
    assert there == await shop.command("whereis", "talker")
    me = await bank.command("whereis", "talker")
    assert await shop.call("seen", "talker") == [("hello from", me)]
    assert await bank.call("seen", "talker") == ["to myself"]


@on_a_node
async def test_a_call_that_is_answered_later_is_answered_across_the_wall(node):
    shop, bank = await a_pair(node)
    asked = do(shop, lambda: call("bank/talker", "later"))
    task = asyncio.ensure_future(asked)
    while not await bank.call("seen", "talker"):
        continue
    bank.ask("cast", "talker", "answer")
    assert await task == "at last"


async def failure_of(target, request, timeout=5.0):
    try:
        await call(target, request, timeout)
    except Exception as error:
        return type(error), str(getattr(error, "target", "")), type(error.__cause__)


@on_a_node
async def test_a_call_fails_as_one_of_the_same_sandbox_does(node):
    shop, bank = await a_pair(node)

    def fail(*what):
        return do(shop, lambda: failure_of(*what))

    assert (await fail("bank/nobody", "who"))[:2] == (NoProcess, "bank/nobody")
    assert (await fail("pub/talker", "who"))[:2] == (NoSandbox, "pub")
    assert (await fail("bank/talker", "never", 0.05))[:2] == (CallTimeout, "bank/talker")
    assert await fail("bank/talker", ("raise", KeyError("boom"))) == (ProcessDied, "talker", KeyError)
    assert (await fail("bank/talker", threading.Lock))[0] is ProcessDied
    assert (await bank.call("seen", "talker")) == []


@on_a_node
async def test_a_message_that_cannot_leave_is_refused_where_it_is_sent(node):
    shop, bank = await a_pair(node)

    async def refused():
        failures = []
        for verb in (cast, send):
            try:
                verb("bank/talker", threading.Lock())
            except NotSerializable as error:
                failures.append(error.what_is)
        failures.append((await failure_of("bank/talker", threading.Lock()))[0])
        failures.append((await failure_of(("bank/talker", frozenset()), "who"))[0])
        return failures

    assert await do(shop, refused) == ["the message", "the message", NotSerializable, NotSerializable]
    assert await bank.call("seen", "talker") == []
    assert node.ways == [], "nothing has left"


@on_a_node
async def test_monitors_tell_how_a_process_elsewhere_ended(node):
    shop, _ = await a_pair(node)

    async def ends():
        told = []
        for request in (("stop", "tired"), ("raise", KeyError("boom"))):
            # Two of them: by name and by pid.
            refs = [monitor("bank/talker"), monitor(await whereis("bank/talker"))]
            with contextlib.suppress(ProcessDied):
                await call("bank/talker", request)
            downs = [await receive(Down) for _ in refs]
            told.append([down.ref in refs and down.pid.sandbox for down in downs])
            told.append([str(down.reason) for down in downs])
            while await whereis("bank/talker") is None:
                continue
        monitor("bank/nobody")
        monitor("pub/talker")
        told.append(sorted((down.pid, down.reason) for down in (await receive(Down), await receive(Down))))
        return told

    assert await do(shop, ends) == [
        ["bank", "bank"],
        ["tired", "tired"],
        ["bank", "bank"],
        ["KeyError: 'boom'", "KeyError: 'boom'"],
        [("bank/nobody", "noproc"), ("pub/talker", "noproc")],
    ]


async def end_of_the_bank():
    monitor("bank/talker")
    return (await receive(Down, timeout=10)).reason


async def watched(bank):
    while await bank.call("watchers", "talker") == 0:
        continue


@on_a_node
async def test_a_killed_host_is_a_lost_connection_and_a_stopped_one_ends_its_processes(node):
    shop, bank = await a_pair(node)
    end = asyncio.ensure_future(do(shop, end_of_the_bank))
    await watched(bank)
    os.kill(bank.instance._link.pid, signal.SIGKILL)
    assert await end == "noconnection"
    await node.heard("instance_restarted")
    end = asyncio.ensure_future(do(shop, end_of_the_bank))
    await watched(bank)
    await bank.instance.stop()
    assert await end == "shutdown"


@on_a_node
async def test_a_watch_ends_with_its_demonitor_and_with_its_watcher(node):
    shop, bank = await a_pair(node)

    async def watch_and_end():
        refs = [monitor("bank/talker") for _ in range(5)]
        pid = spawn(_watch_for_ever)
        while await call("bank/talker", "watchers") < 6:
            continue
        for ref in refs:
            demonitor(ref)
        exit_(pid, "kill")
        while await call("bank/talker", "watchers"):
            continue

    await do(shop, watch_and_end)
    assert bank.instance._desk._watches == {}
    assert bank.instance._desk.in_flight == 0


async def _watch_for_ever():
    monitor("bank/talker")
    await receive()


@on_a_node
async def test_watches_do_not_keep_a_sandbox_from_moving(node):
    shop, bank = await a_pair(node)
    end = asyncio.ensure_future(do(shop, end_of_the_bank))
    await watched(bank)
    async with asyncio.timeout(2):
        await bank.instance.quiesce()
    await bank.instance.stop()
    assert await end == "noconnection", "it goes on elsewhere, under another pid"


@on_a_node
async def test_a_dead_host_closes_its_ways_and_the_next_one_opens_its_own(node):
    shop, _ = await a_pair(node)
    await do(shop, lambda: call("bank/talker", "who"))
    os.kill(shop.instance._link.pid, signal.SIGKILL)
    await node.heard("instance_restarted")
    assert [ways.closed for ways in node.ways] == [True]
    await do(shop, lambda: call("bank/talker", "who"))
    assert [ways.closed for ways in node.ways] == [True, False]


class TestTheLastWordOfAProcess:
    def told(self, status, body):
        heard = []
        _fell(lambda pid, reason: heard.append((pid, reason)), status, body)
        return heard[0]

    @pytest.mark.parametrize("reason", ["normal", ("shutdown", {"why": 1}), None, 7])
    def test_a_plain_reason_travels_as_it_is(self, reason):
        assert self.told(0, _last_word(None, reason)) == (None, reason)

    def test_what_cannot_travel_is_told_by_its_text(self):
        assert self.told(0, _last_word(None, threading.Lock()))[1].startswith("<unlocked")
        assert "x" in self.told(0, _last_word(None, "x" * 5_000_000))[1]

    def test_what_cannot_even_be_shown_is_told_by_its_class(self):
        class Mute:
            def __str__(self):
                raise RuntimeError("broken")

            def __reduce__(self):
                raise RuntimeError("broken")

        assert self.told(0, _last_word(None, Mute())) == (None, "<Mute, whose str failed>")

    def test_what_cannot_be_rebuilt_is_told_by_its_text(self):
        pid, text, _ = loads(_last_word(None, "tired"))
        assert self.told(0, dumps((pid, text, b"no pickle"))) == (None, "tired")

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (NoSandbox("bank"), "noproc"),
            (SandboxFailed("bank", "too often"), "noproc"),
            (CallTimeout("the control plane"), "noconnection"),
        ],
    )
    def test_a_refusal_is_told_as_otp_does(self, error, reason):
        assert self.told(1, dumps_error(error)) == (None, reason)
