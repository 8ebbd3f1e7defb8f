"""Applications for the tests of the cluster; they travel by value, as those of a notebook do."""

from __future__ import annotations

import os
import time

from superlearner.otp import GenServer, NoReply, Reply, child, supervisor


class Counter(GenServer):
    def init(self, start=0):
        return start

    def handle_call(self, request, sender, state):
        match request:
            case "increment":
                return Reply(state + 1, state + 1)
            case "value":
                return Reply(state, state)
            case "os_pid":
                return Reply(os.getpid(), state)
            case "crash":
                raise ValueError("asked to crash")
            case ("block", seconds):
                time.sleep(seconds)
                return Reply("late", state)
            case "never":
                return NoReply(state)

    def handle_cast(self, message, state):
        return message


class Doubler(Counter):
    """The next version of the counter: it counts in steps of two, and begins with twice the state."""

    version = 2

    def code_change(self, old_version, state):
        return 2 * state

    def handle_call(self, request, sender, state):
        return (
            Reply(state + 2, state + 2)
            if request == "increment"
            else super().handle_call(request, sender, state)
        )


class Refuses(GenServer):
    def init(self):
        raise RuntimeError("no init today")


def shop(behaviour=Counter):
    return supervisor(
        [child(behaviour, 0, id="counter", name="counter"), child(Counter, 100, id="other", name="other")]
    )
