"""The applications of ``superlearner demo``: a counter and a greeter; with ``--chaos`` a ledger."""

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


class Ledger(GenServer):
    """Keeps what was written to it, in order; each answer says which OS process gave it."""

    def init(self) -> list[str]:
        """Begin empty."""
        return []

    def handle_call(self, request: Any, sender: Any, state: list[str]) -> Reply:
        """Answer ``("write", entry)`` with how many entries there are, ``"read"`` with all of them."""
        match request:
            case ("write", str(entry)):
                return Reply((len(state) + 1, os.getpid()), [*state, entry])
            case "read":
                return Reply((state, os.getpid()), state)
            case _:
                raise ValueError(f"The ledger knows ('write', entry) and 'read', not {request!r}.")


def application() -> Any:
    """Return the supervision tree of the counter and the greeter."""
    return supervisor(
        [child(Counter, id="counter", name="counter"), child(Greeter, id="greeter", name="greeter")]
    )


def ledger() -> Any:
    """Return the supervision tree of the ledger."""
    return supervisor([child(Ledger, id="ledger", name="ledger")])


#: The tree of the counter and the greeter, for requests: these name an application by where it is imported from.
shop = application()
