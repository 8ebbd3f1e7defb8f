"""The application of the tests of what sandboxes say to each other."""

from __future__ import annotations

import asyncio

from superlearner.otp import GenServer, NoReply, Reply, Stop, _process, child, reply, spawn, supervisor


class Talker(GenServer):
    """Does what it is told, and remembers what it is sent."""

    def init(self):
        return {"seen": [], "waiting": None}

    async def handle_call(self, request, sender, state):
        match request:
            case "who":
                return Reply(sender.pid, state)
            case "never":
                return NoReply(state)
            case "hold":
                return await asyncio.Future()
            case "watchers":
                return Reply(len(_process.current.get().watchers), state)
            case "seen":
                return Reply(state["seen"], state)
            case ("seen", count):
                state["waiting"] = (count, sender)
                return NoReply(self.told(state))
            case ("note", item):
                state["seen"].append(item)
                return Reply(item, state)
            case ("stop", reason):
                return Stop(reason, reply="stopping")
            case ("raise", error):
                raise error
            case ("spawn", function, *args):
                return Reply(spawn(function, *args), state)
            case ("do", function, *args):
                return Reply(await function(*args), state)

    def handle_cast(self, message, state):
        state["seen"].append(message)
        return self.told(state)

    handle_info = handle_cast

    def told(self, state):
        """Answer who waits for so many messages."""
        if state["waiting"] is not None and len(state["seen"]) >= state["waiting"][0]:
            reply(state["waiting"][1], state["seen"])
            state["waiting"] = None
        return state


class Echo(GenServer):
    def init(self):
        return 0

    def handle_call(self, request, sender, state):
        return Reply(request, state + 1)


def talkers():
    """A talker, and a second one that is free while the first is busy."""
    return supervisor(
        [
            child(Talker, id="talker", name="talker"),
            child(Talker, id="other", name="other"),
            child(Echo, id="echo", name="echo"),
        ],
        max_restarts=100,
    )
