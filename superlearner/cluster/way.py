"""How the sandboxes of one node find those of others: over a link, in a cluster; by asking, where there is one node.

The link is the client's own: it knows where sandboxes live, and is told at once when a node is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from superlearner.cluster.channel import BETWEEN_OP, Channel
from superlearner.cluster.courier import Place
from superlearner.cluster.link import Link
from superlearner.cluster.pool import ChannelPool

#: The kinds of events that tell where sandboxes live, or do not live any more.
KINDS = (
    *("node_joined", "node_lost", "sandbox_restarting", "sandbox_started", "sandbox_restarted"),
    *("sandbox_moved", "sandbox_failed", "sandbox_stopped", "sandbox_destroyed"),
)

Lookup = Callable[[str, Place | None, float | None], Awaitable[tuple[Any, ...]]]


class ClusterWay:
    """The way of a node of a cluster. Its link is opened by the first message, and again when it has broken.

    Parameters
    ----------
    own, control
        The addresses of this node, and of the scheduler.
    connection_args
        What Dask needs to connect.
    on_push
        Takes what the other nodes send back.
    """

    def __init__(
        self, own: str, control: str, connection_args: dict[str, Any], on_push: Callable[[Any], None]
    ) -> None:
        self._own = own
        pool = _Pool(own, connection_args, on_push)
        self._link = Link(control, connection_args, pool, kinds=KINDS)
        self._opening = asyncio.Lock()

    async def reach(
        self, sandbox: str, stale: Place | None, patience: float | None
    ) -> tuple[Place, Channel | None]:
        """Return where a sandbox lives, and the channel to its node."""
        async with self._opening:
            if not self._link.connected:
                await self._link.open()
        place, channel = await self._link.reach(sandbox, stale, patience)
        return place, cast("Channel | None", channel)

    async def close(self) -> None:
        """Close every channel."""
        await self._link.close()


class _Pool(ChannelPool):
    """Channels to the other nodes; to this one none is needed."""

    def __init__(self, own: str, connection_args: dict[str, Any], on_push: Callable[[Any], None]) -> None:
        super().__init__(BETWEEN_OP, connection_args, on_push)
        self._own = own

    async def get(self, address: str) -> Any:
        """Return the open channel to `address`; None for the own one."""
        return None if address == self._own else await super().get(address)

    def prepare(self, address: str) -> None:
        """Open the channel to `address` in good time, unless it is the own one."""
        if address != self._own:
            super().prepare(address)


class LocalWay:
    """The way where there is one node.

    Parameters
    ----------
    lookup
        Tells where a sandbox lives, as `superlearner.cluster.requests.Requests.lookup` does.
    """

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def reach(self, sandbox: str, stale: Place | None, patience: float | None) -> tuple[Place, None]:
        """Return the epoch of a sandbox here."""
        _, address, epoch, *_ = await self._lookup(sandbox, stale, patience)
        return (address, epoch), None

    async def close(self) -> None:
        """Do nothing: there is nothing open."""
