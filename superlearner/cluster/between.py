"""A node's part in what sandboxes send to each other: ways out for its hosts, and couriers on them.

A sandbox of the same node is reached without a connection, by the same messages.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, Protocol

from distributed.comm import Comm

from superlearner.cluster.channel import Channel, ServedChannel
from superlearner.cluster.courier import Courier, Message, Place, Route
from superlearner.cluster.inbox import Inbox
from superlearner.sandbox.instance import Instance
from superlearner.sandbox.services import Answer

#: Sandboxes that one host may talk to before the ways that rest are given up.
MOST_WAYS = 1_000


class Way(Protocol):
    """Finds sandboxes."""

    async def reach(
        self, sandbox: str, stale: Place | None, patience: float | None
    ) -> tuple[Place, Channel | None]:
        """Return where a sandbox lives, other than at `stale`, with the channel to its node; None: this node."""

    async def close(self) -> None:
        """Close every channel."""


class Between:
    """Carries messages between the sandboxes of this node and those of all nodes.

    Parameters
    ----------
    find, may_answer
        As for `Inbox`.
    way
        Makes what finds sandboxes, given what takes the answers that come back.
    """

    def __init__(
        self,
        find: Callable[[str, int], Instance | None],
        may_answer: Callable[[], bool],
        way: Callable[[Callable[[Any], None]], Way],
    ) -> None:
        self._find, self._may_answer = find, may_answer
        self._loop = asyncio.get_running_loop()
        self._shortcut = _Shortcut(Inbox(find, may_answer, self._on_push_here))
        self._way = way(self._on_push)
        self._lanes = itertools.count(1)
        self._couriers: dict[int, Courier] = {}
        #: The channels in use, each with the task that tells its end.
        self._ends: dict[Channel, asyncio.Task[None]] = {}

    def outlet(self, sandbox: str, answer: Answer, wait: Callable[[bool], None]) -> Outlet:
        """Open the way out for one host of `sandbox`."""
        return Outlet(self, sandbox, answer, wait)

    async def serve(self, comm: Comm) -> None:
        """Serve the couriers of another node until it goes away."""
        channel = ServedChannel(comm)
        inbox = Inbox(self._find, self._may_answer, channel.push)
        try:
            await channel.serve(inbox.handle)
        finally:
            inbox.close()

    async def close(self) -> None:
        """Stop carrying; what is under way is dropped."""
        ending = [task for courier in self._couriers.values() if (task := courier.stop()) is not None]
        self._couriers.clear()
        for end in self._ends.values():
            end.cancel()
        await asyncio.gather(*ending, *self._ends.values(), return_exceptions=True)
        await self._way.close()

    # -- Couriers

    def courier(self, source: str, sandbox: str, answer: Answer, ended: Callable[[Courier], None]) -> Courier:
        """Make a courier from `source` to `sandbox`; `ended` is called when it is not needed any more."""

        def end(courier: Courier) -> None:
            self._couriers.pop(courier.lane, None)
            ended(courier)

        lane = next(self._lanes)
        courier = self._couriers[lane] = Courier(lane, source, sandbox, self._reach, answer, end)
        return courier

    async def _reach(self, sandbox: str, stale: Place | None, patience: float | None) -> tuple[Place, Route]:
        place, channel = await self._way.reach(sandbox, stale, patience)
        if channel is None:
            return place, self._shortcut
        if channel not in self._ends:
            self._ends[channel] = self._loop.create_task(self._until_closed(channel))
        return place, channel

    async def _until_closed(self, channel: Channel) -> None:
        await channel.wait_closed()
        del self._ends[channel]
        for courier in list(self._couriers.values()):
            courier.broken(channel)

    def _on_push(self, message: Any) -> None:
        kind, lane, *fields = message
        courier = self._couriers.get(lane)
        if courier is None:
            return  # its host has died meanwhile
        match kind:
            case "answer":
                courier.answered(*fields)
            case "accepted":
                courier.accepted(*fields)
            case "refused":
                courier.refused(*fields)

    def _on_push_here(self, message: tuple[Any, ...]) -> None:
        # Not within the very call that sent: a courier is not made to be called back from inside.
        self._loop.call_soon(self._on_push, message)


class Outlet:
    """The way out of one host: a courier for each sandbox that it talks to."""

    def __init__(self, between: Between, sandbox: str, answer: Answer, wait: Callable[[bool], None]) -> None:
        self._between = between
        self._sandbox = sandbox
        self._answer, self._wait = answer, wait
        self._waiting = False
        self._loop = asyncio.get_running_loop()
        self._couriers: dict[str, Courier] = {}
        #: What waits for an answer, by its number.
        self._open: dict[int, tuple[Courier, Message]] = {}

    def take(self, frame: list[Any]) -> None:
        """Take ``[verb, number, sandbox, target, payload, timeout]`` from the host."""
        verb, number, sandbox, target, body, timeout = frame
        if verb == "drop":
            courier, message = self._open.pop(number, (None, None))
            if courier is not None and message is not None:
                courier.cancel(message)
            return
        deadline = None if timeout is None else self._loop.time() + timeout
        message = Message(verb, number, target, body, deadline)
        courier = self._couriers.get(sandbox) or self._new_courier(sandbox)
        if number:
            self._open[number] = (courier, message)
        courier.take(message)
        if courier.pressed and not self._waiting:
            self._waiting = True
            courier.on_room = self._go_on
            self._wait(True)

    def after(self, sandbox: str, then: Callable[[], None]) -> None:
        """Call `then` when what the host has posted to `sandbox` so far has arrived."""
        courier = self._couriers.get(sandbox)
        if courier is None:
            then()
        else:
            courier.after(then)

    def _go_on(self) -> None:
        self._waiting = False
        self._wait(False)

    def _new_courier(self, sandbox: str) -> Courier:
        if len(self._couriers) >= MOST_WAYS:
            for resting in [courier for courier in self._couriers.values() if courier.idle]:
                resting.close()
        courier = self._between.courier(self._sandbox, sandbox, self._answered, self._courier_ended)
        self._couriers[sandbox] = courier
        return courier

    def _courier_ended(self, courier: Courier) -> None:
        if self._couriers.get(courier.sandbox) is courier:
            del self._couriers[courier.sandbox]

    def _answered(self, answer: list[Any]) -> None:
        if self._open.pop(answer[0], None) is not None:
            self._answer(answer)

    def close(self) -> None:
        """End: the host has died. What it sent without wanting an answer still leaves."""
        self._open.clear()
        for courier in list(self._couriers.values()):
            courier.close()


class _Shortcut:
    """The route to the sandboxes of this very node."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def post(self, verb: str, *fields: Any) -> None:
        self._inbox.handle((verb, 0, *fields))
