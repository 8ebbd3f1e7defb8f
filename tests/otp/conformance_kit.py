"""Servers that do what they are told, in plain and async flavour, and a log of who started and stopped."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from superlearner.otp import GenServer, Ignore, NoReply, Reply, Runtime, Stop, child, supervisor

HANDLERS = ("init", "handle_call", "handle_cast", "handle_info", "handle_continue", "terminate")


def plain(server):
    """The server as it is written."""
    return server


def with_async_handlers(server):
    """The same server with every handler async, and a turn of the loop in each."""

    def wrap(handler):
        async def run(self, *args):
            await asyncio.sleep(0)
            result = handler(self, *args)
            return await result if asyncio.iscoroutine(result) else result

        return run

    handlers = {name: wrap(getattr(server, name)) for name in HANDLERS}
    return type(f"Async{server.__name__}", (server,), handlers)


#: Runs a test with plain and with async handlers.
both_flavours = pytest.mark.parametrize("flavour", [plain, with_async_handlers], ids=["plain", "async"])


class Doer(GenServer):
    """Its messages are functions: it does what they say, as itself."""

    def init(self, state=None):
        return NoReply(state)

    def handle_call(self, request, sender, state):
        return request(sender, state)

    def handle_cast(self, message, state):
        return message(state)

    def handle_info(self, message, state):
        return message(state) if callable(message) else NoReply([*(state or ()), message])

    def handle_continue(self, value, state):
        return value(state)


class Trapping(Doer):
    trap_exit = True


def answer(value=None):
    """A request that is answered with a value, or with what a function says inside of the server."""
    return lambda _sender, state: Reply(value() if callable(value) else value, state)


class Member(GenServer):
    """Notes its life in a log: ``+a`` when it starts, ``-a reason`` when it is terminated, ``!a`` when it cannot.

    `plan` says what its next starts do: "ok", "fail", "ignore" or a function that `init` calls; then always "ok".
    """

    trap_exit = True

    def init(self, log, me, plan=None):
        what = plan.popleft() if plan else "ok"
        if callable(what):
            return what()
        log.append(f"{'!' if what == 'fail' else '?' if what == 'ignore' else '+'}{me}")
        match what:
            case "fail":
                return Stop("no")
            case "ignore":
                return Ignore()
        return (log, me)

    def handle_call(self, request, sender, state):
        return request(sender, state)

    def handle_cast(self, message, state):
        return message(state)

    def terminate(self, reason, state):
        log, me = state
        log.append(f"-{me}" if reason == "shutdown" else f"-{me} {reason}")


def member(log, me, *plan, cls=Member, **options):
    """A child spec for a `Member` that is registered under its id."""
    return child(cls, log, me, deque(plan), id=me, name=me, **options)


def took(log):
    """What the log says, and empty it."""
    said = " ".join(log)
    log.clear()
    return said


def running(*children, **options):
    """A runtime with these children under its root."""
    return Runtime(supervisor(children, **options), asynchronous=True)


async def ended(rt):
    """Wait for the root's end; return its reason."""
    return await rt.wait(5)


async def settled(rt, name="root"):
    """Wait until a supervisor has handled all that it was sent before."""
    await rt.count_children(name)


async def kill_and_settle(rt, target, reason="boom", supervisor="root"):
    await rt.kill(target, reason)
    await settled(rt, supervisor)


async def turns_until(condition):
    """Let the loop turn until something is so."""
    while True:
        if condition():
            return
        await asyncio.sleep(0)
