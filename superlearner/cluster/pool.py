"""One open channel to each address that is talked to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from superlearner import config
from superlearner.cluster.channel import Channel

#: How many channels there may be before none is opened that nobody has asked for.
FEW = 8


class ChannelPool:
    """Opens channels when they are first asked for; callers of one address share one attempt to connect.

    Parameters
    ----------
    op
        The handler that serves the channels at the other end.
    connection_args
        What Dask needs to connect.
    on_push
        Takes what the other ends send unasked.
    """

    def __init__(
        self, op: str, connection_args: dict[str, Any], on_push: Callable[[Any], None] | None = None
    ) -> None:
        self._op = op
        self._args = connection_args
        self._on_push = on_push
        self._opening: dict[str, asyncio.Task[Channel]] = {}
        #: Those that were open when they were last asked for: a look that costs next to nothing.
        self._open: dict[str, Channel] = {}

    def ready(self, address: str) -> Channel | None:
        """Return the channel to `address` if it is open now."""
        channel = self._open.get(address)
        return None if channel is None or channel.closed else channel

    async def get(self, address: str) -> Channel:
        """Return the open channel to `address`; raise OSError when there can be none."""
        return await self.opened(address, self.begin(address))

    async def opened(self, address: str, opening: asyncio.Task[Channel]) -> Channel:
        """Return the channel that is being opened; raise OSError when it cannot be, or its node is given up."""
        # Not `await opening`: who is cancelled in the moment in which it is must not take that for a lost node.
        await asyncio.wait((opening,))
        if opening.cancelled():  # the node was lost meanwhile; it is not the caller who was cancelled
            raise ConnectionError(f"the node at {address} is gone")
        channel = self._open[address] = opening.result()
        return channel

    def prepare(self, address: str) -> None:
        """Open the channel to `address` in good time, while there are few: after the loss of a node many need it."""
        if len(self._opening) < FEW:
            self.begin(address)

    def begin(self, address: str) -> asyncio.Task[Channel]:
        """Begin to open the channel to `address` unless that has been done; `abandon` ends it from now on."""
        opening = self._opening.get(address)
        if opening is None or (opening.done() and _is_useless(opening)):
            timeout = config.get("connect-timeout")
            work = Channel.open(address, self._op, self._args, timeout=timeout, on_push=self._on_push)
            opening = self._opening[address] = asyncio.create_task(work)
            # A failure counts as seen, also when nobody waits any more.
            opening.add_done_callback(_is_useless)
        return opening

    def abandon(self, address: str) -> None:
        """Break the channel to a lost node at once: no request to it waits for a timeout."""
        self._open.pop(address, None)
        opening = self._opening.pop(address, None)
        if opening is None:
            return
        opening.cancel()
        if opening.done() and not _is_useless(opening):
            opening.result().abort()

    async def close(self) -> None:
        """Close every channel; requests in flight fail."""
        opened, self._opening, self._open = self._opening, {}, {}
        for opening in opened.values():
            opening.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await (await opening).close()


def _is_useless(opening: asyncio.Task[Channel]) -> bool:
    return opening.cancelled() or opening.exception() is not None or opening.result().closed
