"""Requests with answers over simulated connections, and one channel to each address that is talked to."""

from __future__ import annotations

from typing import Any

from superlearner.testing.engine import Process, Promise
from superlearner.testing.network import End, Network


class Channel:
    """Requests with answers over one end of a connection."""

    def __init__(self, end: End) -> None:
        self._end = end
        self._pending: dict[int, Promise] = {}
        self._number = 0
        end.on_message = self._on_answer
        end.on_close = self._on_close

    @property
    def closed(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._end.closed

    def request(self, *message: Any) -> Promise:
        """Send a request and return its answer to come; it fails with ConnectionError when the connection breaks."""
        promise = Promise()
        if self._end.closed:
            promise.fail(ConnectionError("the channel is closed"))
            return promise
        self._number += 1
        self._pending[self._number] = promise
        self._end.send((self._number, *message))
        return promise

    def _on_answer(self, message: tuple[int, bool, Any]) -> None:
        number, well, value = message
        promise = self._pending.pop(number, None)
        if promise is not None and well:
            promise.resolve(value)
        elif promise is not None:
            promise.fail(value)

    def _on_close(self) -> None:
        pending, self._pending = self._pending, {}
        for promise in pending.values():
            promise.fail(ConnectionError("the connection broke"))

    def abort(self) -> None:
        """Break it at once."""
        if not self._end.closed:
            self._end.abort()


class Pool:
    """One channel of a kind to each address that is talked to."""

    def __init__(self, network: Network, process: Process, kind: str) -> None:
        self._network, self._process, self._kind = network, process, kind
        self._opening: dict[str, Promise] = {}
        self._open: dict[str, Channel] = {}

    async def get(self, address: str) -> Channel:
        """Return the open channel to an address; raise OSError when there can be none."""
        channel = self._open.get(address)
        if channel is not None and not channel.closed:
            return channel
        opening = self._opening.get(address)
        if opening is None or opening.done:
            opening = self._opening[address] = self._network.connect(self._process, address, self._kind)
        end = await opening
        channel = self._open.get(address)
        if channel is None or channel.closed:
            channel = self._open[address] = Channel(end)
        return channel

    async def ask(self, address: str, *message: Any) -> Any:
        """Make a request to an address."""
        channel = await self.get(address)
        return await channel.request(*message)

    def abandon(self, address: str) -> None:
        """Fail what is asked of an address at once."""
        opening = self._opening.pop(address, None)
        if opening is not None:
            opening.fail(ConnectionError("the node is gone"))
        channel = self._open.pop(address, None)
        if channel is not None:
            channel.abort()
