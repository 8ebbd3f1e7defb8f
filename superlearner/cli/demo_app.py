"""The application of ``superlearner demo``: a counter and a greeter under one supervisor."""

from __future__ import annotations

import os
from typing import Any

from superlearner.otp import GenServer, Reply, child, self_, supervisor


class Counter(GenServer):
    """Counts; its report carries the proof of who answers."""

    def init(self, start: int = 0) -> int:
        """Begin at `start`."""
        return start

    def handle_call(self, request: Any, sender: Any, state: int) -> Reply:
        """Answer ``"increment"`` with the new value, ``"report"`` with the value and the pids of who answers."""
        match request:
            case "increment":
                return Reply(state + 1, state + 1)
            case "report":
                return Reply({"value": state, "pid": str(self_()), "os_pid": os.getpid()}, state)
            case _:
                raise ValueError(f"The counter knows 'increment' and 'report', not {request!r}.")


class Greeter(GenServer):
    """Greets; its state is how often."""

    def init(self) -> int:
        """Begin with nobody greeted."""
        return 0

    def handle_call(self, request: str, sender: Any, state: int) -> Reply:
        """Greet the one whose name was sent."""
        return Reply(f"hello {request}", state + 1)


def application() -> Any:
    """Return the supervision tree."""
    return supervisor(
        [child(Counter, id="counter", name="counter"), child(Greeter, id="greeter", name="greeter")]
    )
