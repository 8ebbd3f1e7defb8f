"""A supervision tree for the examples of operations inside sandboxes; nodes import it, or get it by value."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import superlearner as sl
from superlearner.otp import GenServer, Reply, child, supervisor


class Clerk(GenServer):
    """Keeps what it is told, and answers with it."""

    def init(self, *first):
        return list(first)

    def handle_call(self, request, sender, state):
        match request:
            case ("add", number):
                return Reply(("added", number), [*state, number])
            case "secret":
                return Reply({1, 2}, state)
        return Reply(request, state)

    def handle_cast(self, message, state):
        return [*state, ("cast", message)]

    def handle_info(self, message, state):
        return [*state, ("info", message)]


class Stubborn(Clerk):
    """Does not end when it is asked to."""

    trap_exit = True


def shop() -> Any:
    """A root called ``shop`` over a server and a supervisor called ``desk`` with two servers."""
    desk = supervisor(
        [child(Clerk, id="ann", name="ann"), child(Clerk, id="bob", name="bob")],
        id="desk",
        name="desk",
        max_restarts=5,
        max_seconds=60.0,
    )
    return supervisor([child(Clerk, id="till", name="till"), desk], name="shop", max_restarts=5)


def after(sandbox: sl.Sandbox, kind: str, act: Callable[[], Any], count: int = 1) -> Any:
    """Do something, and return what it returns once the cluster's log has that many events of a kind for it."""
    told, done = [], threading.Event()

    def note(event):
        if event.sandbox == sandbox.id and event.name is not None:
            told.append(event)
            if len(told) >= count:
                done.set()

    unsubscribe = sandbox.cluster.subscribe(note, kind)
    try:
        result = act()
        assert done.wait(10), f"no {kind} came"
    finally:
        unsubscribe()
    return result
