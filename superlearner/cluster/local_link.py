"""The link of a local manager: the rules of a call are those of `Link`, the way is a short cut in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from superlearner.cluster.channel import Answer, ChannelClosed
from superlearner.cluster.link import Link
from superlearner.cluster.local_node import LocalNode
from superlearner.cluster.local_plane import LocalPlane
from superlearner.cluster.offering import Work
from superlearner.cluster.offers import Offer
from superlearner.errors import ClusterClosed, StaleEpoch


class LocalChannel:
    """Carries requests to the instances of a node in this process."""

    def __init__(self, node: LocalNode) -> None:
        self._node = node
        self._loop = asyncio.get_running_loop()
        self._pending: set[asyncio.Future[Answer]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Whether it can carry no more requests.
        self.closed = False

    def post(self, verb: str, *fields: Any) -> None:
        """Hand a message to its instance; raise `ChannelClosed` when it lives elsewhere or is moving."""
        if self.closed:
            raise ChannelClosed
        refusals: list[list[Any]] = []
        self._node.take((verb, 1, *fields), refusals.append, self._spawn)
        if refusals and refusals[0][2][0] == StaleEpoch.code:
            raise ChannelClosed

    async def request(
        self, verb: str, *fields: Any, deadline: float | None = None, limit: float | None = None
    ) -> Answer:
        """Hand a request to its instance, before the first suspension, and wait for its status and payload."""
        if self.closed:
            raise ChannelClosed
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._pending.add(future)

        def answer(reply: list[Any]) -> None:
            if not future.done():
                future.set_result((reply[1], reply[2]))

        def expire() -> None:
            if not future.done():
                future.set_exception(TimeoutError())

        if limit is not None:
            deadline = self._loop.time() + limit
        self._node.take((verb, 1, *fields), answer, self._spawn)
        timer = None if deadline is None else self._loop.call_at(deadline, expire)
        try:
            return await future
        finally:
            self._pending.discard(future)
            if timer is not None:
                timer.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Carry nothing any more; requests in flight fail with `ChannelClosed`."""
        self.closed = True
        for future in self._pending:
            if not future.done():
                future.set_exception(ChannelClosed())
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class LocalChannels:
    """The one channel that there is."""

    def __init__(self) -> None:
        self._channel: LocalChannel | None = None

    def open(self, node: LocalNode) -> None:
        """Carry requests to this node from now on."""
        self._channel = LocalChannel(node)

    def ready(self, address: str) -> LocalChannel | None:
        """Return the channel while it is open."""
        return None if self._channel is None or self._channel.closed else self._channel

    async def get(self, address: str) -> LocalChannel:
        """Return the channel."""
        channel = self.ready(address)
        if channel is None:
            raise ClusterClosed("This manager has been closed.")
        return channel

    def prepare(self, address: str) -> None:
        """Do nothing: there is no other node."""

    def abandon(self, address: str) -> None:
        """Do nothing: this node is lost with the process that would ask."""

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()


class LocalLink(Link):
    """A link that holds what it leads to: the control machine and the node of a local manager.

    Parameters
    ----------
    plane
        The control machine; the link opens and closes it.
    """

    def __init__(self, plane: LocalPlane) -> None:
        self._channels = LocalChannels()
        super().__init__(plane.address, {}, self._channels)
        self.plane = plane
        self._asked: set[asyncio.Task[Any]] = set()
        self._opened = self._closed = False

    async def open(self) -> None:
        """Start the machine and its node; nothing is left when that fails."""
        await self.plane.open()
        self._opened = True
        self.plane.requests.listener = self._on_push
        self._channels.open(self.plane.node)

    async def close(self) -> None:
        """End every request, then every sandbox."""
        self._closed = True
        for task in self._asked:
            task.cancel()
        await self._channels.close()
        if self._opened:
            await self.plane.close()

    async def ask(self, verb: str, **kwargs: Any) -> Any:
        """Ask the control machine."""
        if self._closed:
            raise ClusterClosed("This manager has been closed.")
        task = asyncio.ensure_future(self.plane.requests.run(verb, kwargs))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        try:
            return await task
        except asyncio.CancelledError:
            if self._closed and task.cancelled():
                raise ClusterClosed("This manager was closed before it could answer.") from None
            raise

    async def ask_apart(self, verb: str, **kwargs: Any) -> Any:
        """Ask the control machine: no fault comes between."""
        return await self.ask(verb, **kwargs)

    async def offer(self, offer: Offer, work: Work, *, replace: bool) -> None:
        """Do nothing: there is nobody else here who could ask."""

    async def withdraw(self, name: str) -> None:
        """Do nothing, as nothing is offered."""

    def holds(self, sandbox: str) -> bool:
        """Tell whether there is such a sandbox here."""
        return sandbox in self.plane.state.sandboxes
