"""The two sides of a dual manager: the sandboxes of this machine, and a cluster while it answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from superlearner import config
from superlearner.cluster.handlers import Handlers
from superlearner.cluster.link import Link
from superlearner.cluster.local import Connection
from superlearner.cluster.local_link import LocalLink
from superlearner.cluster.session import Found
from superlearner.core.history import Event, EventLog
from superlearner.errors import ClusterClosed, ClusterNotFound, NoConnection, NoSandbox

#: Seconds after a failure in which those who only look do not look for the cluster again.
LOOK_AGAIN = 5.0


class Sides:
    """Keeps the way to the cluster, and one log of the events of both sides.

    Parameters
    ----------
    local
        The way to the sandboxes of this machine.
    find
        Finds the cluster; raises `ClusterNotFound` when none answers.
    """

    def __init__(self, local: LocalLink, find: Callable[[], Awaitable[Connection | Found]]) -> None:
        #: Where the cluster was found last; before that, the local side's.
        self.address = local.address
        self.local = local
        #: Why there is no cluster, where there is none.
        self.missing: str | None = "none has been asked yet"
        #: By sandbox: set when its promotion is over.
        self.gates: dict[str, asyncio.Event] = {}
        self.handlers = Handlers()
        #: The events of both sides, with numbers of their own.
        self.log = EventLog(config.get("events.limit"))
        self._find = find
        self._remote: Link | None = None
        self._loop = asyncio.get_running_loop()
        self._connecting = asyncio.Lock()
        #: When somebody who only looks may look for the cluster again, on the loop's clock.
        self._look_again = 0.0
        #: The number, in the cluster's own log, of its last event that is in ours.
        self._seen = 0

    @property
    def known(self) -> bool:
        """Whether a cluster has ever answered."""
        return self.address != self.local.address

    async def open(self) -> None:
        """Start the local side, and connect to the cluster if it answers."""
        await self.local.open()
        for event in await self.local.ask("events"):
            self._on_event(event)
        self.local.subscribe(self._on_event, None)
        await self.cluster(again=True)

    async def close(self) -> None:
        """End the sandboxes of this machine, and the connection to the cluster."""
        if self._remote is not None:
            await self._remote.close()
        await self.local.close()

    async def cluster(self, *, again: bool = False) -> Link | None:
        """Return the way to the cluster, None while there is none; `again`: look for one now."""
        remote = self._remote
        if remote is not None and remote.connected:
            return remote
        if not again and self.missing is not None and self._loop.time() < self._look_again:
            return None
        async with self._connecting:
            if self._remote is remote:
                await self._connect()
        return self._remote

    async def _connect(self) -> None:
        if self._remote is not None:
            await self._remote.close()
            self._remote = None
        try:
            found = await self._find()
            link = Link(found.address, found.security.get_connection_args("client"))
            try:
                await link.open()
                await self._follow(link)
                await self._end_doubts(link)
            except BaseException:
                await link.close()
                raise
        except (ClusterNotFound, ClusterClosed, NoConnection) as error:
            self.missing = error.what()
            self._look_again = self._loop.time() + LOOK_AGAIN
        else:
            self.missing, self._remote = None, link

    async def _follow(self, link: Link) -> None:
        """Take over the cluster's events: those that have been missed, and every one from now on."""
        if link.address != self.address:
            self.address, self._seen = link.address, 0
        pushed: list[Event] = []
        stop = link.subscribe(pushed.append, None)  # what comes while the past is fetched is put behind it
        past = await link.ask("events", since=self._seen)
        stop()
        link.subscribe(self._on_cluster_event, None)
        for event in [*past, *pushed]:
            self._on_cluster_event(event)

    async def _end_doubts(self, link: Link) -> None:
        """Find out, or see to it, where the sandboxes live whose promotion has never been finished."""
        plane = self.local.plane
        for sandbox, doubt in list(plane.doubts.items()):
            if sandbox in self.gates:
                continue
            if doubt == "here":
                with contextlib.suppress(NoSandbox):
                    await link.ask("destroy", sandbox=sandbox)
                plane.doubt(sandbox, None)
            elif sandbox in plane.held:
                there = {info.id for info in await link.ask("sandboxes")}
                plane.let_go(sandbox, start=sandbox not in there)

    def _on_cluster_event(self, event: Event) -> None:
        if event.seq > self._seen:
            self._seen = event.seq
            self._on_event(event)

    def _on_event(self, event: Event) -> None:
        self.handlers.tell(self.log.append(event))
