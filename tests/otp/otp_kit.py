"""Small helpers: run a function as a process, wait for what it says, and prove that nothing is left."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from superlearner.otp import GenServer, NoReply, Reply, Runtime, Stop, Task, child, supervisor


def asynchronous(test):
    """Run an async test in a loop of its own; no task may be left when it ends."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        async def body():
            await asyncio.wait_for(test(*args, **kwargs), 10)
            for _ in range(5):
                await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"tasks left behind: {left}"

        asyncio.run(body())

    return run


async def inside(function, *children, **options) -> Any:
    """Run `function` as a process beside `children`, and return what it returns."""
    result = asyncio.get_running_loop().create_future()

    async def script():
        try:
            value = await function()
        except BaseException as error:
            result.set_exception(error)
        else:
            result.set_result(value)

    app = supervisor([*children, child(Task, script, id="script", shutdown="brutal_kill")], max_restarts=100)
    async with Runtime(app, asynchronous=True, **options):
        return await result


def as_process(test):
    """The test's own code runs as a process."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        async def body():
            await inside(lambda: test(*args, **kwargs))

        asynchronous(body)()

    return run


class Stack(GenServer):
    """A server that does what it is told."""

    def init(self, *first):
        return list(first)

    def handle_call(self, request, sender, state):
        match request:
            case "pop":
                head, *tail = state
                return Reply(head, tail)
            case "state":
                return Reply(list(state), state)
            case "noreply":
                return NoReply(state)
            case ("stop", reason):
                return Stop(reason)
            case ("stop", reason, reply):
                return Stop(reason, reply=reply)
            case ("raise", error):
                raise error
            case ("return", value):
                return value

    def handle_cast(self, message, state):
        match message:
            case ("push", item):
                return [item, *state]
            case ("stop", reason):
                return Stop(reason)
            case ("raise", error):
                raise error
            case ("return", value):
                return value

    def handle_info(self, message, state):
        match message:
            case ("return", value):
                return value
        return [message, *state]


def event_names(events, name=None):
    return [e.kind for e in events if name is None or e.name == name]


async def until(rt, kind, count=1, name=None):
    """Wait until the log has so many events of a kind; the runtime's own loop tells, turn by turn."""
    while True:
        found = [e for e in await rt.events(kind=kind) if name is None or e.name == name]
        if len(found) >= count:
            return found
        await asyncio.sleep(0)
