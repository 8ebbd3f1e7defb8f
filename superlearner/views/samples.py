"""The application behind the dashboard's Create button: a shop that counts, and a printer that may jam.

Small on purpose: one supervision tree with a server that holds state and one that does work, so that
there is something to kill, to move, and to find again.
"""

from __future__ import annotations

from typing import Any

from superlearner.otp import GenServer, NoReply, Reply, child, supervisor


class Counter(GenServer):
    """Counts; its state is the number."""

    def init(self, start: int = 0) -> Any:
        """Start at `start`."""
        return start

    def handle_call(self, request: Any, sender: Any, state: int) -> Any:
        """Answer ``"increment"`` and ``"value"`` with the number."""
        match request:
            case "increment":
                return Reply(state + 1, state + 1)
            case "value":
                return Reply(state, state)
            case _:
                raise ValueError(f'{request!r} is not known: ask "increment" or "value"')


class Printer(GenServer):
    """Keeps the last lines that were printed; a page called "jam" crashes it."""

    def init(self) -> Any:
        """Start with nothing printed."""
        return []

    def handle_cast(self, message: Any, state: list[str]) -> Any:
        """Print `message`."""
        if message == "jam":
            raise RuntimeError("paper jam")
        return NoReply([*state, str(message)][-10:])

    def handle_call(self, request: Any, sender: Any, state: list[str]) -> Any:
        """Answer any request with the last lines."""
        return Reply(state, state)


def shop() -> Any:
    """Return the supervision tree: a counter, and a desk with a printer of its own supervisor."""
    desk = supervisor([child(Printer, id="printer", name="printer")], id="desk", strategy="one_for_one")
    return supervisor([child(Counter, 0, id="counter", name="counter"), desk], strategy="one_for_one")
